"""Defines the typed keys of conf/config.yaml and checks their values."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass
from functools import cache
from typing import Any, get_type_hints

from sap_core.errors import UserError, at_least, unknown

GROUPS = ("dataset", "noise", "model", "trainer", "pruner", "search", "backend", "tracking", "preset", "debug", "cluster", "experiment")
CELL_GROUPS = ("dataset", "noise", "model", "trainer", "pruner")
EXTRA_CELL_KEYS = ("keep_fraction", "warmup")
"""Keys of a cell that are not groups: the fraction of samples that the pruner keeps, and the trainer of its warmup network (`warmup`,
with fields such as `warmup.epochs`)."""
MERGED_LISTS = ("seeds", "methods", "search.seeds")
"""Lists that a sweep crosses with its cells, so that several values under --multirun are one list."""
WHOLE_LISTS = ("plugins", "backend.cpu_jobs")
"""Lists that a sweep has once."""
# Allowed values of keys whose type is str; OmegaConf has no Literal.
TRACKERS = ("none", "wandb")
TRACKING_MODES = ("offline", "online")
BACKENDS = ("auto", "ray", "local")
SAVE_CORRECTED = ("none", "best")
"""Which corrected networks are saved as files."""
JOB_TYPES = ("train", "select", "tune", "search")
"""Types of jobs, as in the column `job_type`."""
RETRIES = ("failed",)
ORDERS = ("cells", "longest", "depth")
TIMINGS = ("as_run", "exclusive")
# Names become folders and parts of file names, also on other machines, so they exclude separators, spaces and a leading dot.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# HOST:PORT, or [IPv6]:PORT.
_ADDRESS = re.compile(r"([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]):\d{1,5}")
_DEVICE = re.compile(r"cpu|cuda(:\d+)?|mps")


def is_name(text: str) -> bool:
    """Whether a text may be the name of an experiment, a search or a debug group."""
    return _NAME.fullmatch(text) is not None


@dataclass
class BackendConfig:
    """conf/backend: where jobs run, and with which resources."""

    name: str = "auto"
    address: str | None = None
    workers: int | None = None
    device: str = "cpu"
    gpus_per_job: float = 0.0
    cpu_jobs: list[str] = field(default_factory=list)
    threads: int = 1
    reproducible: bool = False
    timeout_seconds: float | None = None
    start_seconds: float = 180.0
    flops_per_second: float = 1.0e10


@dataclass
class PathsConfig:
    """Folders of data, results and artifacts."""

    data: str = "data"
    results: str | None = None
    artifacts: str = "results/artifacts"


@dataclass
class TrackingConfig:
    """conf/tracking: whether the store is mirrored to W&B, and to which project."""

    name: str = "none"
    project: str = "sap-sweep"
    entity: str | None = None
    mode: str = "offline"
    timeout_seconds: float = 60.0

    def check(self) -> None:
        """Check the values.

        Raises:
            UserError: the first value that is not allowed.
        """
        for key, value, allowed in (("name", self.name, TRACKERS), ("mode", self.mode, TRACKING_MODES)):
            if value not in allowed:
                raise unknown(key, value, allowed, "tracking")
        for key, text in (("project", self.project), ("entity", self.entity)):
            if text is not None and not _NAME.fullmatch(text):
                raise UserError(f"tracking.{key}={text!r} must consist of letters, digits and _.- only")
        if not self.timeout_seconds > 0:
            raise UserError(f"tracking.timeout_seconds={self.timeout_seconds:g} must be above 0")


@dataclass
class DebugConfig:
    """conf/debug: limits of a smoke run; without a name the experiment runs at full size."""

    name: str | None = None
    epochs: int = 2
    images: int = 500
    settings: int = 3
    seeds: int = 1


@dataclass
class PresetConfig:
    """conf/preset: values that replace those of any experiment, where its cells have the key and do not set it themselves."""

    name: str | None = None
    cell: dict[str, Any] = field(default_factory=dict)
    method: dict[str, Any] = field(default_factory=dict)
    spaces: dict[str, str] = field(default_factory=dict)


@dataclass
class SearchConfig:
    """conf/search: the grid evaluates every setting; other searches have a budget of trials and run once per search seed."""

    name: str = "grid"
    budget: int | None = None
    seeds: list[int] = field(default_factory=lambda: [0])
    sampler: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    resource: str | None = None
    eta: int = 2

    @property
    def is_grid(self) -> bool:
        return self.name == "grid"


@dataclass
class SearchEntry:
    """One entry of `searches`, with its file of conf/search merged in: a search for some methods."""

    methods: list[str]
    search: SearchConfig


@dataclass
class Config:
    """The keys of conf/config.yaml. Contents of component groups are checked later, against the class that they name."""

    name: str | None = None
    cells: list[Any] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    searches: list[Any] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    only: str | None = None
    dataset: dict[str, Any] = field(default_factory=dict)
    noise: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    pruner: dict[str, Any] = field(default_factory=dict)
    method: dict[str, Any] = field(default_factory=dict)
    search: SearchConfig = field(default_factory=SearchConfig)
    backend: BackendConfig = field(default_factory=BackendConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    preset: PresetConfig = field(default_factory=PresetConfig)
    debug: DebugConfig = field(default_factory=DebugConfig)
    cluster: dict[str, Any] = field(default_factory=dict)
    plugins: list[str] = field(default_factory=list)
    save_corrected: str = "none"
    order: str = "cells"
    timing: str = "as_run"
    export: str | None = None
    retry: str | None = None
    dry_run: bool = False


NEVER_NULL = ("name",)
"""Text keys for which null on the command line is a text as well, because a sweep without a name cannot run."""


def is_text(keys: tuple[str, ...]) -> bool:
    """Whether the value of a key is text, whatever it looks like: a name, a path, or the choice of a group.

    Args:
        keys: the path of the key; items of a list have the path of the list.
    """
    # YAML reads a time such as 12:00:00 as a number of base 60.
    if keys[:1] in [("defaults",), ("cluster",)]:
        return True
    if keys[:1] == ("cells",):
        return keys[1:] in [(name,) for name in (*CELL_GROUPS, "warmup")]
    if keys[:1] == ("searches",):
        return len(keys) == 2 and keys[1] in ("methods", "search", "sampler", "resource")
    # Every component has a name for tables.
    if keys[:1] in [(group,) for group in (*CELL_GROUPS, "method")] and len(keys) > 1 and keys[-1] == "name":
        return True
    # A mapping given for a group is none of its choices.
    return ".".join(keys) in _text_keys() or (len(keys) == 1 and keys[0] in GROUPS)


def canonical_text(value: Any) -> str | None:
    """The one text of a number or boolean that needs no class to be found again; None for null."""
    return str(value).lower() if isinstance(value, bool) else None if value is None else str(value)


def is_one_text(key: str) -> bool:
    """Whether the value of a key of the schema is a single text, rather than a list of texts or something else."""
    return _hints().get(key) in _TEXT_HINTS


_TEXT_HINTS = (str, str | None)


@cache
def _text_keys() -> frozenset[str]:
    """The keys of the schema whose type is text, or a list of texts."""
    return frozenset(key for key, hint in _hints().items() if hint in (*_TEXT_HINTS, list[str]))


@cache
def _hints() -> Mapping[str, Any]:
    """Key of the schema -> its type."""

    def below(cls: type, prefix: str) -> Iterator[tuple[str, Any]]:
        for name, hint in get_type_hints(cls).items():
            if is_dataclass(hint):
                yield from below(hint, f"{prefix}{name}.")  # type: ignore[arg-type]
            else:
                yield prefix + name, hint

    return dict(below(Config, ""))


def check_values(config: Config) -> None:
    """Check ranges, formats and combinations of values.

    Raises:
        UserError: the first value that is not allowed.
    """
    backend, debug = config.backend, config.debug
    if config.name is not None and not _NAME.fullmatch(config.name):
        raise UserError(
            f"name={config.name!r} is also the name of a folder below results; use letters, digits and _.- only, as in name=mine"
        )
    folders = {f"paths.{name}": value for name, value in vars(config.paths).items()}
    for key, path in {**folders, "export": config.export}.items():
        # An empty path would be the folder to which relative ones refer.
        if path is not None and (not path.strip() or "\0" in path):
            raise UserError(f"{key}={path!r} is no path (an unset variable of the shell is empty); write one, or leave {key} out")
    for key, values in (("seeds", config.seeds), ("methods", config.methods)):
        # A repeated seed or method would be planned once and look like a mistake in the counts.
        if len(set(values)) != len(values):
            raise UserError(f"{key}={list(values)} contains a value twice; list each once")
    if not config.seeds:
        raise UserError("seeds=[] is empty; list at least one seed")
    # `searches` may use settings of their own, so each is checked like the main search.
    for search in (config.search, *(entry.search for entry in config.searches)):
        _check_search(search)
    if backend.name not in BACKENDS:
        raise unknown("name", backend.name, BACKENDS, "backend")
    if config.save_corrected not in SAVE_CORRECTED:
        raise unknown("save_corrected", config.save_corrected, SAVE_CORRECTED)
    for key, value, allowed in (("order", config.order, ORDERS), ("timing", config.timing, TIMINGS)):
        if value not in allowed:
            raise unknown(key, value, allowed)
    if config.retry is not None and config.retry not in RETRIES:
        raise unknown("retry", config.retry, RETRIES)
    config.tracking.check()
    # The repeated measurement compares two times of one job, so both must come from the same machine.
    if config.timing == "exclusive" and backend.address:
        raise UserError(
            f"timing=exclusive measures on this machine, but jobs of backend.address={backend.address} may have run on others; "
            "drop one of the two"
        )
    _check_backend(backend)
    _check_cpu_jobs(config)
    for name in ("timeout_seconds", "start_seconds", "flops_per_second"):
        value = getattr(backend, name)
        # Not `value <= 0`, which is false for NaN.
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"backend.{name}={value:g} must be above 0 and finite")
    at_least("debug", 1, epochs=debug.epochs, settings=debug.settings, seeds=debug.seeds)
    at_least("debug", 50, images=debug.images)


def check_integers(value: Any, key: str = "") -> None:
    """Check that all whole numbers in plain data fit into the 64 bits of a column of a store.

    Raises:
        UserError: the first that does not; `key` leads to the data in the message.
    """
    if isinstance(value, dict):
        for name, item in value.items():
            check_integers(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for item in value:
            check_integers(item, key)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise UserError(f"{key}={value} is too large; whole numbers are at most 2**63 - 1, which is {2**63 - 1}")


def _check_backend(backend: BackendConfig) -> None:
    """Check devices, shares of devices and the address of a Ray cluster."""
    if not _DEVICE.fullmatch(backend.device):
        raise UserError(f"backend.device={backend.device!r} is not a device; allowed: cpu, cuda, cuda:N, mps")
    at_least("backend", 1, threads=backend.threads, workers=backend.workers)
    at_least("backend", 0, gpus_per_job=backend.gpus_per_job)
    if backend.reproducible and backend.device != "cpu":
        raise UserError(
            f"backend.reproducible=true holds for processors only, and backend.device={backend.device} computes on a GPU; "
            "set backend.device=cpu, or leave backend.reproducible out"
        )
    # Ray and the GPU sharing accept fractions below one and whole GPUs, nothing between.
    if backend.gpus_per_job > 1 and not backend.gpus_per_job.is_integer():
        raise UserError(f"backend.gpus_per_job={backend.gpus_per_job:g} must be a share of one GPU (such as 0.25) or whole GPUs")
    # Ray counts CUDA devices only, so a job would wait for a GPU that never comes.
    if backend.device == "mps" and (backend.name == "ray" or backend.address):
        raise UserError("backend.device=mps is the GPU of a Mac, which Ray does not know; set backend=local and no backend.address")
    if backend.address is None:
        return
    if backend.name == "local":
        raise UserError(
            f"backend.address={backend.address} is the address of a Ray cluster, which backend={backend.name} does not use; set backend=ray"
        )
    if not _ADDRESS.fullmatch(backend.address):
        raise UserError(
            f"backend.address={backend.address!r} must be HOST:PORT of the cluster's head, such as 10.0.0.7:6379; 'auto' and the "
            "like are refused, because they may connect to another user's cluster"
        )


def _check_cpu_jobs(config: Config) -> None:
    """Every name must be a job type or a method of the experiment."""
    methods = [*config.methods, *(method for entry in config.searches for method in entry.methods)]
    # A method may be named with a space (scrub@grid_a), but jobs are assigned to CPUs by method.
    known = dict.fromkeys([*JOB_TYPES, *(method.split("@")[0] for method in methods)])
    for name in config.backend.cpu_jobs:
        if name not in known:
            raise unknown("job", name, known, "backend.cpu_jobs")


def _check_search(search: SearchConfig) -> None:
    if not _NAME.fullmatch(search.name):
        raise UserError(f"search.name={search.name!r} appears in tables and file names; use letters, digits and _.- only")
    # Two equal search seeds would be one search.
    if not search.seeds or len(set(search.seeds)) != len(search.seeds):
        raise UserError(f"search.seeds={list(search.seeds)} must name at least one seed, each once")
    at_least("search", 1, budget=search.budget)
    at_least("search", 2, eta=search.eta)
    # A key without an effect is an error: it would suggest that the grid was cut.
    if search.is_grid and (search.budget is not None or search.sampler or search.resource):
        raise UserError(
            "search=grid evaluates every setting and takes no budget, sampler or resource; choose search=random, tpe or successive_halving"
        )

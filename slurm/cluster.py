"""Read and check cluster files, which describe a Slurm cluster and the resources to request.

A cluster file is cluster/NAME.yaml in the user's configuration folder (`sap-slurm init NAME` writes one), or conf/cluster/NAME.yaml in the
folder to which relative paths refer or beside the code; the first of them is taken. Hydra does not compose cluster files, since nothing in
them may enter an id. Every value is checked once, here, so any value of a `Cluster` is safe in a batch script; `setup` alone holds shell
lines. Requires yaml in addition to the standard library.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from sap_core.errors import UserError, at_least, unknown
from sap_core.location import user_folder
from slurm.values import CONSTRAINT, MEMORY, PATH, PLAIN, TIME, check_options, format_time, normalise_option, parse_time, time_limit

__all__ = [
    "MODES", "Cluster", "check_name", "cluster_files", "config_folder", "format_time", "load_cluster", "override", "parse", "parse_time",
    "read_yaml",
]  # fmt: skip

MODES = ("array", "ray")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_NULLS = ("", "null", "~", "None")
_MEMORY_KEYS = ("memory", "mem_per_cpu", "mem_per_gpu")
# Keys of which one replaces the others.
_ALTERNATIVES = (_MEMORY_KEYS, ("cpus", "cpus_per_gpu"))


@dataclass(frozen=True)
class Cluster:
    """The keys of a cluster file, as documented in `conf/cluster/example.yaml`."""

    name: str = "cluster"
    mode: str = "array"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gpus: int = 0
    gpu_type: str | None = None
    cpus: int = 4
    cpus_per_gpu: int | None = None
    memory: str | None = "16G"
    mem_per_cpu: str | None = None
    mem_per_gpu: str | None = None
    time: str = "04:00:00"
    nodes: int = 1
    tasks: int = 4
    concurrent: int | None = None
    processes: int = 1
    idle_seconds: int = 600
    max_array: int | None = None
    max_submit: int | None = None
    warning_seconds: int = 120
    max_restarts: int = 3
    python: str | None = None
    container: str | None = None
    scratch: str | None = None
    setup: tuple[str, ...] = ()
    sbatch: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # Checks run at construction, so every `Cluster` is valid, whether it comes from a file, an override or `replace`.
        if self.mode not in MODES:
            raise unknown("mode", self.mode, MODES, f"cluster {self.name}")
        for key in ("partition", "account", "qos", "gpu_type"):
            self._match(key, PLAIN, "letters, digits and _.,:@%+=/-")
        self._match("constraint", CONSTRAINT, "letters, digits and _.,:@%+=/-&|*[]()!")
        for key in ("memory", "mem_per_cpu", "mem_per_gpu"):
            self._match(key, MEMORY, "a number with K, M, G or T, as in 64G")
        self._match("time", TIME, "minutes, H:MM:SS, D-HH:MM:SS or UNLIMITED, as in 1-00:00:00")
        self._match("scratch", PATH, "an absolute path or $VARIABLE, as in /scratch/$USER")
        counts = (
            "cpus",
            "cpus_per_gpu",
            "nodes",
            "tasks",
            "processes",
            "concurrent",
            "max_array",
            "max_submit",
            "max_restarts",
            "idle_seconds",
        )
        at_least(f"cluster {self.name}", 1, **{key: getattr(self, key) for key in counts})
        at_least(f"cluster {self.name}", 0, gpus=self.gpus)
        # Slurm looks at warnings only every 30 s or so, and the workers need time to store their state.
        at_least(f"cluster {self.name}", 10, warning_seconds=self.warning_seconds)
        if self.warning_seconds >= time_limit(self.time):
            raise UserError(
                f"cluster {self.name}: warning_seconds={self.warning_seconds} is not shorter than time={self.time}; increase time or "
                "reduce warning_seconds"
            )
        if self.mode == "array" and self.gpus > self.processes:
            raise UserError(
                f"cluster {self.name}: processes={self.processes} leaves some of a task's gpus={self.gpus} idle, because each "
                f"process uses one GPU; set processes={self.gpus} or gpus=1"
            )
        for key in ("gpu_type", "cpus_per_gpu", "mem_per_gpu"):
            if getattr(self, key) and not self.gpus:
                raise UserError(f"cluster {self.name}: {key}={getattr(self, key)} requires gpus, as in gpus: 1")
        given = [f"{key}={getattr(self, key)}" for key in _MEMORY_KEYS if getattr(self, key)]
        if len(given) > 1:
            raise UserError(f"cluster {self.name}: {' and '.join(given)} exclude each other; set the others to null")
        self._check_lines()

    def _match(self, key: str, pattern: re.Pattern[str], allowed: str) -> None:
        value = getattr(self, key)
        if value is not None and not pattern.fullmatch(value):
            raise UserError(f"cluster {self.name}: {key}={value!r} is not allowed in a batch script; allowed: {allowed}")

    def _check_lines(self) -> None:
        check_options(self.sbatch, f"cluster {self.name}")
        for key in ("setup", "overrides"):
            for line in getattr(self, key):
                if "\n" in line or "\0" in line:
                    raise UserError(f"cluster {self.name}: {key} contains {line!r}; each entry must be one line")
        for key in ("container", "python"):
            value = getattr(self, key)
            if value is not None and (not value.strip() or not value.isprintable()):
                raise UserError(f"cluster {self.name}: {key}={value!r} must be one printable line: a command and its options")
        try:
            # Tried here, so that an unclosed quote is reported when the file is read and not inside a batch script.
            shlex.split(self.container or "")
        except ValueError as error:
            raise UserError(f"cluster {self.name}: container={self.container!r} has an unclosed quote ({error}); close it") from error

    @property
    def gres(self) -> str | None:
        """The value of sbatch's --gres for a node's GPUs; None without GPUs."""
        return ":".join(["gpu", *filter(None, [self.gpu_type]), str(self.gpus)]) if self.gpus else None

    @property
    def cpu_count(self) -> int:
        """Cores of a task or node."""
        return self.cpus_per_gpu * self.gpus if self.cpus_per_gpu else self.cpus

    @property
    def resources(self) -> dict[str, object]:
        """Sbatch's options for cores, memory and GPUs; None where there is nothing to request."""
        return {
            "cpus-per-task": None if self.cpus_per_gpu else self.cpus, "cpus-per-gpu": self.cpus_per_gpu, "mem": self.memory,
            "mem-per-cpu": self.mem_per_cpu, "mem-per-gpu": self.mem_per_gpu, "gres": self.gres,
        }  # fmt: skip


def config_folder() -> Path:
    """Return the folder of the user's own cluster files."""
    return user_folder() / "cluster"


def check_name(name: str) -> str:
    """Return the name of a cluster file after checking it.

    Raises:
        UserError: it contains other characters than letters, digits, `_`, `.` and `-`.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"'{name}' is not a valid cluster name; use letters, digits and _.-, as in sap-slurm init mine")
    return name


def cluster_files(roots: Sequence[Path]) -> dict[str, Path]:
    """Map cluster names to files: those of the user's configuration folder, then those of conf/cluster in each of the folders."""
    found: dict[str, Path] = {}
    # The first folder last, so that its files replace those of the same name.
    for folder in (*(root / "conf" / "cluster" for root in reversed(roots)), config_folder()):
        found |= {path.stem: path for path in sorted(folder.glob("*.yaml")) if not path.name.startswith((".", "#")) and path.is_file()}
    return found


def load_cluster(name: str, roots: Sequence[Path], overrides: Sequence[str] = ()) -> Cluster:
    """Read the cluster file of that name (see `cluster_files`) and apply `KEY=VALUE` overrides.

    Raises:
        UserError: there is no such file, or a key or value is invalid.
    """
    files = cluster_files(roots)
    if not _NAME.fullmatch(name) or name not in files:
        error = unknown("cluster", name, files)
        raise UserError(f"{error} (sap-slurm init NAME writes a cluster file to {config_folder()})")
    return override(parse(read_yaml(files[name]), name, str(files[name])), overrides)


def read_yaml(path: Path) -> Mapping[str, Any]:
    """Read a YAML mapping with all scalars as text, because YAML reads 12:00:00 as a number of base 60.

    Raises:
        UserError: the file cannot be read or is not a mapping.
    """
    # Imported here, so that commands without a cluster need no yaml.
    from sap_core.yaml_files import read_yaml as read

    try:
        value = read(path, lambda keys: True).data
    except UserError as error:
        raise UserError(f"the cluster file {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"the cluster file {path} contains no KEY: VALUE lines; conf/cluster/example.yaml lists the keys")
    # An empty value, ~ and null are the absence of one, which every key of a cluster file writes as text.
    return {str(key): "" if item is None else item for key, item in value.items()}


def parse(values: Mapping[str, Any], name: str, where: str) -> Cluster:
    """Convert a mapping of strings and lists of strings to a `Cluster`. `where` names the file in error messages."""
    # In place of the number of cores there may be one per GPU.
    replaced = values.get("cpus") in _NULLS and values.get("cpus_per_gpu") not in (None, *_NULLS)
    given = {key: _typed(key, value, where) for key, value in values.items() if not (key == "cpus" and replaced)}
    if given.get("cpus") and given.get("cpus_per_gpu"):
        raise UserError(f"{where}: cpus and cpus_per_gpu exclude each other; set one of them to null")
    # The default amount of memory gives way to any other form of it.
    if "memory" not in given and any(given.get(key) for key in _MEMORY_KEYS):
        given["memory"] = None
    return Cluster(name=name, **given)


def override(cluster: Cluster, overrides: Sequence[str]) -> Cluster:
    """Apply `KEY=VALUE` overrides to a cluster. `setup` cannot be overridden: shell lines come from the cluster file alone."""
    changed: dict[str, Any] = {}
    for argument in overrides:
        key, sign, value = argument.partition("=")
        if not sign:
            raise UserError(f"'cluster.{argument}' has no value; write cluster.{key}=VALUE")
        # Shell code comes from the file alone; every other value is checked before it enters a batch script.
        if key == "setup":
            raise UserError("cluster.setup cannot be set on the command line; write its lines into the cluster file")
        if key in ("sbatch", "overrides"):
            # Lists take one entry per argument.
            changed[key] = (*changed.get(key, ()), *_typed(key, [value], "cluster"))
        elif key in changed:
            raise UserError(f"cluster.{key} is given twice; remove one of them")
        else:
            changed[key] = _typed(key, value, "cluster")
    # One form of memory or cores on the command line replaces that of the file.
    for keys in _ALTERNATIVES:
        if any(changed.get(key) for key in keys):
            changed = {**{key: None for key in keys if key not in changed and key != "cpus"}, **changed}
    return replace(cluster, **changed)


def _typed(key: str, value: Any, where: str) -> Any:
    # The annotations of the dataclass are the schema; a second list of keys could differ from it.
    kinds = {item.name: str(item.type) for item in fields(Cluster) if item.name != "name"}
    if key not in kinds:
        raise unknown("key", key, kinds, where)
    kind = kinds[key]
    if kind.startswith("tuple"):
        lines = [] if value in _NULLS else value
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise UserError(f"{where}: {key} must be a list of lines, as in\n{key}:\n  - ...".replace("\n", " "))
        return tuple(normalise_option(line) if key == "sbatch" else line for line in lines)
    if not isinstance(value, str):
        raise UserError(f"{where}: {key} must be one value, not {value!r}")
    if value in _NULLS:
        if "None" not in kind:
            raise UserError(f"{where}: {key} has no value")
        return None
    if kind.startswith("int"):
        # isdigit alone also accepts superscripts, which int refuses.
        if not (value.isascii() and value.isdigit()):
            raise UserError(f"{where}: {key}={value!r} must be a whole number")
        return int(value)
    return value

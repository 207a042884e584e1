"""The typed keys of conf/config.yaml, and the values that they may have."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sap_core.errors import UserError, at_least, unknown

GROUPS = ("dataset", "noise", "model", "trainer", "pruner", "backend", "debug", "experiment")
CELL_GROUPS = ("dataset", "noise", "model", "trainer", "pruner")
BACKENDS = ("ray", "local")
SAVED = ("none", "best")
"""Which corrected networks are kept as files."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_DEVICE = re.compile(r"cpu|cuda(:\d+)?")


@dataclass
class Backend:
    """conf/backend."""

    name: str = "ray"
    address: str | None = None
    workers: int | None = None
    device: str = "cpu"
    gpus_per_job: float = 0.0
    threads: int = 1
    timeout_seconds: float | None = None
    flops_per_second: float = 1.0e10


@dataclass
class Paths:
    """Where data come from and results go."""

    data: str = "data"
    results: str | None = None
    artifacts: str = "results/artifacts"


@dataclass
class Debug:
    """How a smoke run shrinks an experiment; no name, no shrinking."""

    name: str | None = None
    epochs: int = 2
    images: int = 500
    settings: int = 3
    seeds: int = 1


@dataclass
class Config:
    """The keys of conf/config.yaml; contents of group entries are checked against the class they name."""

    name: str | None = None
    cells: list[Any] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    only: str | None = None
    dataset: dict[str, Any] = field(default_factory=dict)
    noise: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    pruner: dict[str, Any] = field(default_factory=dict)
    method: dict[str, Any] = field(default_factory=dict)
    backend: Backend = field(default_factory=Backend)
    paths: Paths = field(default_factory=Paths)
    debug: Debug = field(default_factory=Debug)
    plugins: list[str] = field(default_factory=list)
    save_corrected: str = "none"
    dry_run: bool = False


def check_values(config: Config) -> None:
    """Checks what types do not say.

    Raises:
        UserError: the first value that is out of its range.
    """
    backend, debug = config.backend, config.debug
    if config.name is not None and not _NAME.fullmatch(config.name):
        raise UserError(f"name={config.name!r} names a folder below results; use letters, digits and _.- only, as in name=mine")
    for key, values in (("seeds", config.seeds), ("methods", config.methods)):
        if len(set(values)) != len(values):
            raise UserError(f"{key}={list(values)} names one twice; name each once")
    if not config.seeds:
        raise UserError("seeds=[] must name at least one seed, each once")
    if backend.name not in BACKENDS:
        raise unknown("name", backend.name, BACKENDS, "backend")
    if config.save_corrected not in SAVED:
        raise unknown("save_corrected", config.save_corrected, SAVED)
    if not _DEVICE.fullmatch(backend.device):
        raise UserError(f"backend.device={backend.device!r} is no device; allowed: cpu, cuda, cuda:N")
    at_least("backend", 1, threads=backend.threads, workers=backend.workers)
    at_least("backend", 0, gpus_per_job=backend.gpus_per_job)
    for name in ("timeout_seconds", "flops_per_second"):
        value = getattr(backend, name)
        if value is not None and not value > 0:
            raise UserError(f"backend.{name}={value:g} must be above 0")
    at_least("debug", 1, epochs=debug.epochs, settings=debug.settings, seeds=debug.seeds)
    at_least("debug", 50, images=debug.images)


def expand(cells: Sequence[Any]) -> list[dict[str, Any]]:
    """Lists inside an entry are crossed, entries are added.

    Raises:
        UserError: an entry that is no mapping, or a key that is neither a group nor a field of one.
    """
    found = []
    for entry in cells:
        if not isinstance(entry, Mapping):
            raise UserError(f"cells holds {entry!r}; each entry maps groups to choices, as in {{dataset: digits, noise.rate: [0.1, 0.25]}}")
        for key in entry:
            if str(key).split(".")[0] not in (*CELL_GROUPS, "keep"):
                raise unknown("key", key, (*CELL_GROUPS, "keep", "noise.rate"), "cells")
        values = [value if isinstance(value, list) else [value] for value in entry.values()]
        found += [dict(zip(map(str, entry), chosen, strict=True)) for chosen in itertools.product(*values)]
    return found

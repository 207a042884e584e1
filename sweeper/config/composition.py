"""Composes the configuration with Hydra, each choice of files once per process.

Hydra reads and merges every file again for each composition, which takes 0.4 s with the files of all methods. A sweep composes once per
cell, and most choose the same files and differ only in values such as `noise.rate`: these are set on a copy of the cached composition.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweeper.config.choices import choices, group_folders, is_choice, shipped_folder, user_clusters
from sweeper.config.hydra_source import register_source
from sweeper.config.schema import Config

_CACHE: dict[tuple[str, ...], DictConfig] = {}
"""Cached compositions by (digest of all YAML files, with methods or without, overrides that choose files), all of one digest."""


@contextmanager
def hydra_ready(config_dirs: Sequence[Path]) -> Iterator[None]:
    """Initialise Hydra with the shipped files and the folders of --config-dir."""
    # Hydra's state is global to the process, and Hydra refuses to be initialised twice; a process may compose several command lines.
    GlobalHydra.instance().clear()
    # Files may have changed since the last command line of this process.
    for read in (_cached_options, _digest, _folders):
        read.cache_clear()
    digest = _digest(tuple(config_dirs))
    # Compositions of files that have changed since are of no further use.
    for key in [key for key in _CACHE if key[0] != digest]:
        del _CACHE[key]
    register_source(config_dirs)
    with initialize_config_module("conf", version_base="1.3", job_name="sap-sweep"):
        register(config_dirs)
        yield


def register(config_dirs: Sequence[Path] = (), methods: bool = True) -> None:
    """Register the schema with Hydra, and place every file of conf/method at method.NAME (or, with `methods=False`, none)."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    store.store(name="all_methods", node={"defaults": []})
    names = options("method", config_dirs) if methods else []
    store.store(name="all_methods", node={"defaults": [{f"/method@method.{name}": name} for name in names]})


def options(group: str, config_dirs: Sequence[Path] = ()) -> list[str]:
    """The options of a group: the shipped files and those in folders of --config-dir."""
    return list(_cached_options(group, tuple(config_dirs)))


def compose_config(overrides: Sequence[Override], config_dirs: Sequence[Path], methods: bool = True) -> DictConfig:
    """The configuration as Hydra composes it; with `methods=False` without the files of conf/method.

    Raises:
        HydraException, OmegaConfBaseException: a key, a value or a file is wrong.
    """
    # Only plain changes of existing keys commute with the merging of files; choices of files, additions and deletions are left to Hydra.
    values = [override for override in overrides if _changes_one_value(override, config_dirs)]
    others = [override for override in overrides if override not in values]
    # The cached composition must not change, so values are set on a copy.
    config = copy.deepcopy(_compose_files(others, config_dirs, methods))
    try:
        for override in values:
            # The schema stays attached to the copy, so that the type of the value is still checked.
            OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
    except OmegaConfBaseException:
        # For Hydra's error message.
        return _compose_with_hydra(overrides, config_dirs, methods)
    return config


def _compose_files(overrides: Sequence[Override], config_dirs: Sequence[Path], methods: bool) -> DictConfig:
    key = (_digest(tuple(config_dirs)), str(methods), *_lines(overrides))
    if key not in _CACHE:
        _CACHE[key] = _compose_with_hydra(overrides, config_dirs, methods)
    return _CACHE[key]


def _compose_with_hydra(overrides: Sequence[Override], config_dirs: Sequence[Path], methods: bool) -> DictConfig:
    if methods:
        return compose("config", overrides=_lines(overrides))
    # The store is global too, so the entry without methods is replaced again whatever happens.
    register(config_dirs, methods=False)
    try:
        return compose("config", overrides=_lines(overrides))
    finally:
        register(config_dirs)


def _changes_one_value(override: Override, config_dirs: Sequence[Path]) -> bool:
    """Whether an override changes the value of an existing key, rather than choose a file, add, delete or configure Hydra."""
    key = override.key_or_group
    is_known = key.split(".")[0] in Config.__dataclass_fields__ and key not in _folders(tuple(config_dirs))
    return is_known and override.type is OverrideType.CHANGE and override.package is None


@cache
def _digest(config_dirs: tuple[Path, ...]) -> str:
    """SHA-256 of all YAML files, so that an edited file is read again; computed once per command line."""
    state = sha256()
    for root in (shipped_folder(), user_clusters(), *config_dirs):
        for path in sorted(filter(is_choice, root.rglob("*.yaml"))):
            # NUL bytes keep a path and the text of its file apart.
            state.update(f"{path}\0".encode() + path.read_bytes() + b"\0")
    return state.hexdigest()


@cache
def _folders(config_dirs: tuple[Path, ...]) -> frozenset[str]:
    return frozenset(path.name for root in (shipped_folder(), *config_dirs) for path in root.iterdir() if path.is_dir())


@cache
def _cached_options(group: str, config_dirs: tuple[Path, ...]) -> tuple[str, ...]:
    """As `options`; folders are read once per command line."""
    return tuple(sorted({path.stem for folder in group_folders(group, config_dirs) for path in choices(folder)}))


def _lines(overrides: Sequence[Override]) -> list[str]:
    return [override.input_line or "" for override in overrides]

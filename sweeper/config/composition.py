"""Composes the configuration with Hydra, each choice of files once per process.

Hydra reads and merges every file again for each composition, which takes 0.4 s with the files of all methods. A sweep composes once per
cell, and most choose the same files and differ only in values such as `noise.rate`: these are set on a copy of the cached composition.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweeper.config.schema import Config

_KEPT: dict[tuple[str, ...], DictConfig] = {}
"""Cached compositions by (digest of all YAML files, with methods or without, overrides that choose files), all of one digest."""


@contextmanager
def hydra_ready(places: Sequence[Path]) -> Iterator[None]:
    """Hydra initialised with the shipped files and the folders of --config-dir."""
    GlobalHydra.instance().clear()
    for read in (_looked_up, _digest, _folders):
        read.cache_clear()
    digest = _digest(tuple(places))
    for key in [key for key in _KEPT if key[0] != digest]:
        del _KEPT[key]
    with initialize_config_module("conf", version_base="1.3", job_name="sap-sweep"):
        register(places)
        yield


def register(places: Sequence[Path] = (), methods: bool = True) -> None:
    """Tells Hydra the types of our keys, and puts every file of conf/method under method.NAME (or none of them)."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    store.store(name="all_methods", node={"defaults": []})
    names = [] if not methods else options("method", places) if GlobalHydra.instance().is_initialized() else _shipped_methods()
    store.store(name="all_methods", node={"defaults": [{f"/method@method.{name}": name} for name in names]})


def options(group: str, places: Sequence[Path] = ()) -> list[str]:
    """The choices of a group: those shipped, and those below the user's own folders."""
    return list(_looked_up(group, tuple(places)))


def compose_config(overrides: Sequence[Override], places: Sequence[Path], methods: bool = True) -> DictConfig:
    """The configuration as Hydra composes it; without any method's file on request.

    Raises:
        HydraException, OmegaConfBaseException: a key, a value or a file is wrong.
    """
    values = [override for override in overrides if _changes_one_value(override, places)]
    others = [override for override in overrides if override not in values]
    config = copy.deepcopy(_files(others, places, methods))
    try:
        for override in values:
            OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
    except OmegaConfBaseException:
        return _by_hydra(overrides, places, methods)  # which says what is wrong
    return config


def _files(overrides: Sequence[Override], places: Sequence[Path], methods: bool) -> DictConfig:
    key = (_digest(tuple(places)), str(methods), *_lines(overrides))
    if key not in _KEPT:
        _KEPT[key] = _by_hydra(overrides, places, methods)
    return _KEPT[key]


def _by_hydra(overrides: Sequence[Override], places: Sequence[Path], methods: bool) -> DictConfig:
    if methods:
        return compose("config", overrides=[*_lines(overrides), *_searchpath(places)])
    register(places, methods=False)
    try:
        return compose("config", overrides=[*_lines(overrides), *_searchpath(places)])
    finally:
        register(places)


def _changes_one_value(override: Override, places: Sequence[Path]) -> bool:
    """Whether it changes an existing key, rather than choose a file, add, delete or set up Hydra."""
    key = override.key_or_group
    ours = key.split(".")[0] in Config.__dataclass_fields__ and key not in _folders(tuple(places))
    return ours and override.type is OverrideType.CHANGE and override.package is None


@cache
def _digest(places: tuple[Path, ...]) -> str:
    """Of all YAML files; read once per command line."""
    state = sha256()
    for root in (files("conf"), *places):
        for path in sorted(Path(str(root)).rglob("*.yaml")):
            state.update(f"{path}\0".encode() + path.read_bytes() + b"\0")
    return state.hexdigest()


@cache
def _folders(places: tuple[Path, ...]) -> frozenset[str]:
    return frozenset(path.name for root in (files("conf"), *places) for path in Path(str(root)).iterdir() if path.is_dir())


def _shipped_methods() -> list[str]:
    return sorted(path.name.removesuffix(".yaml") for path in (files("conf") / "method").iterdir() if path.name.endswith(".yaml"))


@cache
def _looked_up(group: str, places: tuple[Path, ...]) -> tuple[str, ...]:
    """As `options`; folders are read once per command line."""
    shipped = GlobalHydra.instance().config_loader().get_group_options(group)
    return tuple(sorted({*shipped, *(path.stem for place in places for path in (place / group).glob("*.yaml"))}))


def _searchpath(places: Sequence[Path]) -> list[str]:
    return [f"hydra.searchpath=[{','.join(json.dumps(f'file://{place}') for place in places)}]"] if places else []


def _lines(overrides: Sequence[Override]) -> list[str]:
    return [override.input_line or "" for override in overrides]

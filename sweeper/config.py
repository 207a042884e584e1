"""From the command line to checked configurations, one per cell. The only module that composes with Hydra.

Everything is checked before anything starts, and whatever is wrong becomes one sentence (UserError): Hydra by itself ends with exit code 1
and several lines.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sap_core.errors import UserError, unknown

GROUPS = ("dataset", "noise", "model", "trainer", "pruner", "backend", "debug", "experiment")
CELL_GROUPS = ("dataset", "noise", "model", "trainer", "pruner")


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
    cells: list[dict[str, Any]] = field(default_factory=list)
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
    dry_run: bool = False


@dataclass(frozen=True)
class Composed:
    """A checked command line."""

    config: Config  # the whole, as composed without any cell
    cells: tuple[dict[str, Any], ...]  # the plain content of each cell's composition
    raw: dict[str, Any]  # resolved, for config.yaml


def compose_all(arguments: Sequence[str]) -> Composed:
    """Composes the configuration of every cell.

    Raises:
        UserError: an unknown group, option, key, or a value of the wrong type.
    """
    searchpath, overrides = _split(arguments)
    with _hydra(searchpath):
        parsed = _parse(overrides)
        _check(parsed, _compose([text.input_line or "" for text in parsed if _is_group(text)] + searchpath))
        lines = [text.input_line or "" for text in parsed] + searchpath
        whole = _compose(lines)
        fixed = {text.key_or_group for text in parsed}
        cells = [_plain(_compose([*_cell_lines(cell, fixed), *lines])) | {"_cell": cell} for cell in expand(_plain(whole)["cells"])]
        raw = _plain(whole)
    config: Config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), whole))  # type: ignore[assignment]
    return Composed(config, tuple(cells), raw)


def expand(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Lists inside an entry are crossed, entries are added.

    Raises:
        UserError: a key that is neither a group nor a field of one.
    """
    found = []
    for entry in cells:
        for key in entry:
            if str(key).split(".")[0] not in (*CELL_GROUPS, "keep"):
                raise unknown("key", key, (*CELL_GROUPS, "keep", "noise.rate"), "cells")
        values = [value if isinstance(value, list) else [value] for value in entry.values()]
        found += [dict(zip(map(str, entry), chosen, strict=True)) for chosen in itertools.product(*values)]
    return found


def group_options() -> dict[str, list[str]]:
    """Every group with its choices, for `sap-sweep list`."""
    with _hydra([]):
        return {group: _options(group) for group in (*GROUPS, "method")}


def _cell_lines(cell: Mapping[str, Any], fixed: set[str]) -> list[str]:
    """A cell as overrides; the command line's own choice of the same key wins."""
    lines = [(key, value) for key, value in cell.items() if key not in fixed and key != "keep"]
    return [f"{key}={value if key in CELL_GROUPS else json.dumps(value)}" for key, value in lines]


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """(search path overrides from --config-dir, the rest with the value of only= quoted for Hydra's grammar)."""
    searchpath: list[str] = []
    overrides: list[str] = []
    words = iter(arguments)
    for word in words:
        if word in ("--config-dir", "-cd"):
            searchpath.append(next(words, ""))
        elif word.startswith("--config-dir="):
            searchpath.append(word.split("=", 1)[1])
        elif word.startswith("only=") and not word[5:].startswith(("'", '"', "null")):
            overrides.append(f"only='{word[5:]}'")
        else:
            overrides.append(word)
    return [f"hydra.searchpath=[{','.join('file://' + path for path in searchpath)}]"] if searchpath else [], overrides


@contextmanager
def _hydra(searchpath: Sequence[str]) -> Iterator[None]:
    GlobalHydra.instance().clear()
    with initialize_config_module("conf", version_base="1.3", job_name="sap-sweep"):
        register(searchpath)
        yield


def register(searchpath: Sequence[str] = ()) -> None:
    """Tells Hydra the types of our keys, and puts every file of conf/method under method.NAME."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    store.store(name="all_methods", node={"defaults": []})
    names = _options("method") if GlobalHydra.instance().is_initialized() else _shipped_methods()
    for place in searchpath:
        names = sorted({*names, *_files(place)})
    store.store(name="all_methods", node={"defaults": [{f"/method@method.{name}": name} for name in names]})


def _shipped_methods() -> list[str]:
    from importlib.resources import files

    return sorted(path.name.removesuffix(".yaml") for path in (files("conf") / "method").iterdir() if path.name.endswith(".yaml"))


def _files(searchpath: str) -> list[str]:
    from pathlib import Path

    folders = searchpath.removeprefix("hydra.searchpath=[").removesuffix("]").split(",")
    return [path.stem for folder in folders for path in Path(folder.removeprefix("file://"), "method").glob("*.yaml")]


def _options(group: str) -> list[str]:
    return list(GlobalHydra.instance().config_loader().get_group_options(group))


def _parse(overrides: Sequence[str]) -> list[Override]:
    parsed = []
    for line in overrides:
        try:
            override = OverridesParser.create().parse_override(line)
        except HydraException as error:
            raise UserError(f"cannot read the argument '{line}'; write key=value, and quote values with spaces: key='a b'") from error
        if override.is_sweep_override():
            raise UserError(
                f"'{line}' asks for several values at once, which --multirun would do; give a list instead, as in "
                f"methods=[sap,scrub] seeds=[1,2] or cells='[{{model: [vgg11_bn, resnet18]}}]'"
            )
        parsed.append(override)
    return parsed


def _is_group(override: Override) -> bool:
    return override.key_or_group in GROUPS


def _check(overrides: Sequence[Override], base: DictConfig) -> None:
    """Names the bad key and the allowed ones before Hydra says it in its own words."""
    for override in overrides:
        key = override.key_or_group
        if _is_group(override) or key.startswith("hydra"):
            continue
        node: Any = base
        for part in key.split("."):
            if not isinstance(node, DictConfig):
                raise UserError(f"'{key}' has no part '{part}': it is the single value {node!r}; write {key.rsplit('.', 1)[0]}=VALUE")
            if part not in node and not override.is_add():
                where = key[: -len(part) - 1] if key.endswith(f".{part}") else ""
                raise unknown("key", part, dict.fromkeys([*GROUPS, *node] if node is base else node), where)
            node = node.get(part) if part in node else OmegaConf.create({})


def _compose(lines: Sequence[str]) -> DictConfig:
    for line in lines:
        key, _, value = line.partition("=")
        if key in GROUPS and value not in ("null", "") and value not in _options(key) and "searchpath" not in "".join(lines):
            raise unknown(key, value, _options(key))
    try:
        return compose("config", overrides=list(lines))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_sentence(error)) from error


def _sentence(error: Exception) -> str:
    """The last cause's first line, with the key it is about."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    key = getattr(cause, "full_key", None)
    text = " ".join(str(cause).split("full_key:")[0].split())
    return f"{key}: {text}" if key else text


def _plain(config: DictConfig) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise UserError(_sentence(error)) from error
    return plain

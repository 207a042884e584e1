"""From the command line to checked configurations, one per cell.

Everything is checked before anything starts, and whatever is wrong becomes one sentence (UserError): Hydra by itself ends with exit code 1
and several lines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from sap_core.errors import UserError, unknown
from sweeper.config.composition import compose_config, hydra_ready, options
from sweeper.config.multirun import rewritten
from sweeper.config.schema import (
    CELL_GROUPS,
    EXTRA_CELL_KEYS,
    GROUPS,
    Config,
    SearchConfig,
    SearchEntry,
    check_values,
    expand,
    expand_searches,
)


@dataclass(frozen=True)
class Composed:
    """A checked command line."""

    config: Config  # the whole, as composed without any cell
    cells: tuple[dict[str, Any], ...]  # the plain content of each cell's composition
    raw: dict[str, Any]  # resolved, for config.yaml
    method_overrides: tuple[tuple[str, Any], ...] = ()  # (key, value) of those of the command line below `method`


def compose_all(arguments: Sequence[str]) -> Composed:
    """Composes the configuration of every cell.

    Raises:
        UserError: an unknown group, option, key, or a value of the wrong type.
    """
    places, words = split_config_dirs(arguments)
    with hydra_ready(places):
        overrides = _parse(map(_quoted_only, words))
        _check_groups(overrides, places)
        general = [override for override in overrides if _root(override.key_or_group) not in CELL_GROUPS]
        _check_keys(general, _compose([*filter(_is_group, general)], places))
        whole = _compose(general, places)
        methods = _same_everywhere(whole)
        entries: Any = OmegaConf.to_container(whole.cells)  # ${noise.rate} there is the cell's own, so it is resolved with the cell
        whole.cells = []
        raw = _plain(whole)
        searches = _searches(raw["searches"], places)
        raw["searches"] = [asdict(entry) for entry in searches]
        made = _Cache(raw["method"] if methods else None)
        cells = [_compose_cell(cell, overrides, places, made) for cell in expand(entries)]
    raw["cells"] = [
        {
            "keep_fraction": cell["_cell"].get("keep_fraction"),
            "warmup": cell.get("_warmup"),
            **{group: cell[group] for group in CELL_GROUPS},
        }
        for cell in cells
    ]
    of_methods = tuple((override.key_or_group, override.value()) for override in overrides if _root(override.key_or_group) == "method")
    kept = {key: value for key, value in raw.items() if key not in CELL_GROUPS}
    return Composed(_typed(whole, searches), tuple(cells), kept, of_methods)


@dataclass
class _Cache:
    """What cells have in common."""

    methods: dict[str, Any] | None  # the content of `method`, where no cell can change it
    cells: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict)  # by overrides: some cells differ in the share to keep alone


def _same_everywhere(whole: DictConfig) -> bool:
    """Does nothing below `method` refer to what cells choose?"""
    return not re.search(rf"\$\{{({'|'.join(CELL_GROUPS)})\b", OmegaConf.to_yaml(whole.method))


def _root(key: str) -> str:
    return key.split(".")[0]


def _compose_cell(cell: Mapping[str, Any], overrides: Sequence[Override], places: Sequence[Path], made: _Cache) -> dict[str, Any]:
    """One cell's plain content. The command line acts on every cell, and wins over the cell's own choice of the same key."""
    fixed = {override.key_or_group for override in overrides}
    own = _parse(_cell_lines(cell, fixed))
    _check_groups(own, places)
    found = _composed([*own, *overrides], places, made) | {"_cell": dict(cell)}
    return found | {"_warmup": _warmup_trainer(cell, overrides, places, made)} if any(_root(key) == "warmup" for key in cell) else found


def _composed(lines: Sequence[Override], places: Sequence[Path], made: _Cache) -> dict[str, Any]:
    key = tuple(_lines(lines))
    try:
        if key not in made.cells:
            made.cells[key] = _with_methods_of_the_whole(lines, places, made.methods) or _plain(_compose(lines, places))
        return made.cells[key]
    except UserError:
        _check_keys(lines, _compose([*filter(_is_group, lines)], places))  # names the bad key, where that is what is wrong
        raise


def _with_methods_of_the_whole(lines: Sequence[Override], places: Sequence[Path], methods: dict[str, Any] | None) -> dict[str, Any] | None:
    """A cell composed without reading any method's file, a quarter of the work; None where that is no way, or goes wrong."""
    if methods is None:
        return None
    try:
        cell = _compose([line for line in lines if _root(line.key_or_group) != "method"], places, methods=False)
        cell.method = {}
        return _plain(cell) | {"method": methods}
    except UserError:
        return None


def _warmup_trainer(cell: Mapping[str, Any], overrides: Sequence[Override], places: Sequence[Path], made: _Cache) -> dict[str, Any]:
    """The trainer of the network that a pruner looks at: the cell's own (or the one that `warmup` names), with what `warmup.FIELD` says.

    Fields that the experiment or the command line give the trainer hold for it, too; the command line's choice of a trainer does not.
    """
    chosen = {} if cell.get("warmup") is None else {"trainer": cell["warmup"]}
    named = {key: value for key, value in cell.items() if _root(key) == "trainer"} | chosen
    fields = {f"trainer.{key.removeprefix('warmup.')}": value for key, value in cell.items() if key.startswith("warmup.")}
    general = [override for override in overrides if not (chosen and override.key_or_group == "trainer")]
    own, last = _parse(_cell_lines(named, {override.key_or_group for override in general})), _parse(_cell_lines(fields, set()))
    _check_groups(own, places)
    trainer: dict[str, Any] = _composed([*own, *general, *last], places, made)["trainer"]
    return trainer


def split_config_dirs(arguments: Sequence[str]) -> tuple[list[Path], list[str]]:
    """(folders named by --config-dir, the other words).

    Raises:
        UserError: such a folder does not exist.
    """
    places: list[Path] = []
    others: list[str] = []
    words = iter(arguments)
    for word in words:
        name, sign, value = word.partition("=")
        if name not in ("--config-dir", "-cd"):
            others.append(word)
            continue
        places.append(Path(value if sign else next(words, "")).absolute())
        if not places[-1].is_dir():
            raise UserError(
                f"--config-dir {places[-1]} is no folder; give one that holds method/, experiment/ or other groups of YAML files"
            )
    return places, others


def _quoted_only(word: str) -> str:
    """The value of only= holds spaces and signs of Hydra's grammar, so it is quoted for it."""
    key, _, value = word.partition("=")
    return f"only='{value}'" if key == "only" and value != "null" and not value.startswith(("'", '"')) else word


def _cell_lines(cell: Mapping[str, Any], fixed: set[str]) -> list[str]:
    """A cell as overrides; the command line's own choice of the same key wins."""
    lines = [(key, value) for key, value in cell.items() if key not in fixed and _root(key) not in EXTRA_CELL_KEYS]
    return [f"{key}={value if key in CELL_GROUPS else json.dumps(value)}" for key, value in lines]


def _lines(overrides: Iterator[Override] | Sequence[Override]) -> list[str]:
    return [override.input_line or "" for override in overrides]


def _parse(lines: Iterator[str] | Sequence[str]) -> list[Override]:
    parsed, lines = [], list(lines)
    for line in lines:
        try:
            override = OverridesParser.create().parse_override(line)
        except HydraException as error:
            raise UserError(f"cannot read the argument '{line}'; write key=value, and quote values with spaces: key='a b'") from error
        if override.is_sweep_override():
            raise UserError(f"'{line}' gives several values, and sap-sweep has no --multirun; {rewritten(lines)}")
        if override.key_or_group.split(".")[0].split("/")[0] == "hydra":
            raise UserError(
                f"'{line}' has no effect: Hydra only composes the configuration here; jobs run on backend=ray or backend=local, and "
                "results go to paths.results=DIR"
            )
        parsed.append(override)
    return parsed


def _is_group(override: Override) -> bool:
    return override.key_or_group in GROUPS


def _check_groups(overrides: Sequence[Override], places: Sequence[Path]) -> None:
    for override in filter(_is_group, overrides):
        group, allowed = override.key_or_group, options(override.key_or_group, places)
        if override.is_delete() or override.value() is None:
            raise UserError(f"'{override.input_line}' leaves {group} without a choice; allowed: {', '.join(allowed)}")
        if str(override.value()) not in allowed:
            raise unknown(group, override.value(), allowed)


def _check_keys(overrides: Sequence[Override], base: DictConfig) -> None:
    """Names the bad key and the allowed ones before Hydra says it in its own words."""
    for override in overrides:
        key = override.key_or_group
        parts = key.split(".")
        if _is_group(override):
            continue
        node: Any = base
        for depth, part in enumerate(parts):
            if not isinstance(node, DictConfig):
                raise UserError(f"'{key}' has no part '{part}': it is the single value {node!r}; write {'.'.join(parts[:depth])}=VALUE")
            adds = override.is_add() or override.is_force_add()
            known = list(node.keys())  # `in` is false for a value that is still to be given (???)
            if part not in known and not (adds and _is_open(parts[:depth])):
                raise unknown("key", part, dict.fromkeys([*GROUPS, *known]) if node is base else known, ".".join(parts[:depth]))
            node = node.get(part) if part in known else OmegaConf.create({})


def _is_open(parents: Sequence[str]) -> bool:
    """May `+` add a key here? Below a group's entry or a method: the class it names then says whether there is such a field."""
    return bool(parents) and (
        parents[0] in CELL_GROUPS or (parents[0] == "method" and len(parents) > 1) or list(parents) == ["search", "settings"]
    )


def _compose(overrides: Sequence[Override], places: Sequence[Path], methods: bool = True) -> DictConfig:
    try:
        return compose_config(overrides, places, methods)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_sentence(error)) from error


def _searches(entries: Sequence[Any], places: Sequence[Path]) -> list[SearchEntry]:
    """The entries of `searches`, each on top of the file of conf/search that it names."""
    found = []
    for methods, name, given in expand_searches(entries):
        if name not in options("search", places):
            raise unknown("search", name, options("search", places), "searches")
        chosen = _compose(_parse([f"search={name}"]), places, methods=False).search
        try:
            search: SearchConfig = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(SearchConfig), chosen, given))  # type: ignore[assignment]
        except OmegaConfBaseException as error:
            raise UserError(f"searches: {_sentence(error)}") from error
        found.append(SearchEntry(methods, search))
    return found


def _typed(whole: DictConfig, searches: list[SearchEntry]) -> Config:
    try:
        config: Config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), whole))  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise UserError(_sentence(error)) from error
    config.searches = list(searches)
    check_values(config)
    return config


def _sentence(error: Exception) -> str:
    """The last cause's first line, with the key it is about."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    key = getattr(cause, "full_key", None)
    if isinstance(cause, MissingMandatoryValue):
        return f"{key} has no value; set {key}=..."
    text = " ".join(str(cause).split("full_key:")[0].split())
    if text.endswith("is not in struct"):
        text += f"; a new key is added with +{key}=..."
    return f"{key}: {text}" if key else text


def _plain(config: DictConfig) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise UserError(_sentence(error)) from error
    return plain

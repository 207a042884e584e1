"""Composes and checks the configuration of every cell of an experiment from the command line.

A Hydra group has one choice while an experiment crosses many, so an experiment lists `cells`, and each cell is composed on its own: its
keys become overrides that precede those of the command line, which therefore win. Lists inside an entry of `cells` are crossed, entries are
concatenated. Every file of conf/method is composed at method.NAME; `methods` and `searches` name those that are used.

Every mistake is reported before any job starts, as one sentence (UserError) with the allowed values; Hydra alone would print several lines
without them.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from sap_core.errors import UserError, unknown
from sweeper.config.choices import config_folder, unknown_choice
from sweeper.config.composition import compose_config, hydra_ready, options
from sweeper.config.hydra_errors import sentence
from sweeper.config.hydra_source import written_numbers
from sweeper.config.multirun import suggest_lists
from sweeper.config.override_text import override_text, parse_argument, written_scalars
from sweeper.config.schema import (
    CELL_GROUPS,
    EXTRA_CELL_KEYS,
    GROUPS,
    Config,
    SearchConfig,
    SearchEntry,
    check_integers,
    check_values,
    expand_cells,
    expand_searches,
)
from sweeper.config.text_fields import needs_class, restore_texts


@dataclass(frozen=True)
class Composed:
    """The checked configuration of a command line."""

    config: Config  # typed; composed without the choices of any cell
    cells: tuple[dict[str, Any], ...]  # composed configuration of each cell, as plain data
    raw: dict[str, Any]  # the resolved configuration, as written to config.yaml
    method_overrides: tuple[tuple[str, Any], ...] = ()  # (key, value) of each override below `method`
    given: frozenset[str] = frozenset()  # keys that the command line sets


def compose_all(arguments: Sequence[str]) -> Composed:
    """Compose and check the configuration of every cell.

    Raises:
        UserError: an unknown group, option or key, or a value of the wrong type.
    """
    config_dirs, given = split_config_dirs(arguments)
    with hydra_ready(config_dirs):
        # Everything below raises a UserError before Hydra composes, because Hydra's errors do not name the allowed values.
        overrides = _parse(given)
        _check_groups(overrides, config_dirs)
        # Keys of a cell's groups are left to `_compose_cell`, because each cell may choose another data set or network.
        general = [override for override in overrides if _root(override.key_or_group) not in CELL_GROUPS]
        # Keys are checked on a composition of the groups alone, which an unknown key cannot break.
        _check_keys(general, _compose([*filter(_is_group, general)], config_dirs))
        # One composition without any cell's choices gives all keys that are the same for every cell.
        base = _compose(general, config_dirs)
        # Composing all methods is a quarter of a cell's work, so it is done once if no method depends on the cell.
        methods = _methods_use_no_cell_keys(base)
        # Not resolved here: an interpolation in an entry, such as ${noise.rate}, refers to the cell's own noise.
        entries: Any = OmegaConf.to_container(base.cells)
        base.cells = []
        raw = _to_plain(base)
        searches = _searches(raw["searches"], config_dirs)
        raw["searches"] = [asdict(entry) for entry in searches]
        # Before the cells are composed and torch is loaded: the most frequent mistake.
        for name in [*raw["methods"], *(name for entry in searches for name in entry.methods)]:
            if name.partition("@")[0] not in raw["method"]:
                raise unknown_choice("method", name.partition("@")[0], list(raw["method"]), config_dirs, "methods")
        cache = _Cache(raw["method"] if methods else None)
        # The override lines of a cell come before those of the command line, and Hydra applies the last one.
        cells = [_compose_cell(cell, overrides, config_dirs, cache) for cell in expand_cells(entries)]
        written = needs_class([*written_numbers(config_dirs), *written_scalars(overrides)])
    check_integers(raw)
    for cell in cells:
        check_integers({group: cell[group] for group in CELL_GROUPS})
    if written:
        # Cells share what composes equal, and this changes it.
        cells = copy.deepcopy(cells)
        for cell in cells:
            restore_texts(cell, written, raw["plugins"])
    # config.yaml keeps what each cell composed to; the groups at the top level would show the choice of no cell.
    raw["cells"] = [
        {
            "keep_fraction": cell["_cell"].get("keep_fraction"),
            "warmup": cell.get("_warmup"),
            **{group: cell[group] for group in CELL_GROUPS},
        }
        for cell in cells
    ]
    # Kept for the warning about overrides that a searched space replaces.
    of_methods = tuple((override.key_or_group, override.value()) for override in overrides if _root(override.key_or_group) == "method")
    kept = {key: value for key, value in raw.items() if key not in CELL_GROUPS}
    return Composed(_to_config(base, searches), tuple(cells), kept, of_methods, frozenset(override.key_or_group for override in overrides))


@dataclass
class _Cache:
    """Compositions that several cells share."""

    methods: dict[str, Any] | None  # the composed `method`, if it is the same in all cells; None: it differs
    cells: dict[tuple[str, ...], dict[str, Any]] = field(
        default_factory=dict
    )  # by overrides; cells that differ only in keep_fraction share one


def _methods_use_no_cell_keys(base: DictConfig) -> bool:
    """Whether nothing below `method` interpolates a key that cells choose, so that all cells share one composition of it."""
    return not re.search(rf"\$\{{({'|'.join(CELL_GROUPS)})\b", OmegaConf.to_yaml(base.method))


def _root(key: str) -> str:
    return key.split(".")[0]


def _compose_cell(cell: Mapping[str, Any], overrides: Sequence[Override], config_dirs: Sequence[Path], cache: _Cache) -> dict[str, Any]:
    """One cell as plain data. The command line applies to every cell and overrides the cell's own choice of the same key."""
    # A key that both set would otherwise appear twice in the override list.
    fixed = {override.key_or_group for override in overrides}
    own = _parse(_cell_lines(cell, fixed))
    _check_groups(own, config_dirs)
    # The fraction to keep and the warmup trainer are no keys of Hydra's configuration; they travel beside it.
    found = _compose_cached([*own, *overrides], config_dirs, cache) | {"_cell": dict(cell)}
    return (
        found | {"_warmup": _warmup_trainer(cell, overrides, config_dirs, cache)} if any(_root(key) == "warmup" for key in cell) else found
    )


def _compose_cached(lines: Sequence[Override], config_dirs: Sequence[Path], cache: _Cache) -> dict[str, Any]:
    # Cells that differ only in keep_fraction have the same override lines, and are composed once.
    key = tuple(_lines(lines))
    try:
        if key not in cache.cells:
            cache.cells[key] = _compose_without_methods(lines, config_dirs, cache.methods) or _to_plain(_compose(lines, config_dirs))
        return cache.cells[key]
    except UserError:
        # Raises a better message if a key is unknown.
        _check_keys(lines, _compose([*filter(_is_group, lines)], config_dirs))
        raise


def _compose_without_methods(
    lines: Sequence[Override], config_dirs: Sequence[Path], methods: dict[str, Any] | None
) -> dict[str, Any] | None:
    """Compose a cell without the files of the methods, a quarter of the work; None if that is impossible or fails."""
    if methods is None:
        return None
    try:
        # Overrides below `method` are already contained in the shared composition.
        cell = _compose([line for line in lines if _root(line.key_or_group) != "method"], config_dirs, methods=False)
        cell.method = {}
        return _to_plain(cell) | {"method": methods}
    except UserError:
        # The complete composition is tried next, whose error names the key.
        return None


def _warmup_trainer(cell: Mapping[str, Any], overrides: Sequence[Override], config_dirs: Sequence[Path], cache: _Cache) -> dict[str, Any]:
    """The trainer of the warmup network: the one that `warmup` names or else the cell's, with the fields of `warmup.FIELD`.

    Fields of `trainer` set by the experiment or the command line apply to it too; the command line's choice of a trainer does not.
    """
    # The warmup is composed as a cell of its own, so that its trainer gets the same checks and defaults.
    chosen = {} if cell.get("warmup") is None else {"trainer": cell["warmup"]}
    named = {key: value for key, value in cell.items() if _root(key) == "trainer"} | chosen
    # `warmup.epochs` becomes `trainer.epochs` of a composition of its own, in which `trainer` is the warmup's.
    fields = {f"trainer.{key.removeprefix('warmup.')}": value for key, value in cell.items() if key.startswith("warmup.")}
    # trainer=NAME on the command line chooses the trainer to compare, not the one that prepares the selection.
    general = [override for override in overrides if not (chosen and override.key_or_group == "trainer")]
    own, last = _parse(_cell_lines(named, {override.key_or_group for override in general})), _parse(_cell_lines(fields, set()))
    _check_groups(own, config_dirs)
    trainer: dict[str, Any] = _compose_cached([*own, *general, *last], config_dirs, cache)["trainer"]
    return trainer


def split_config_dirs(arguments: Sequence[str]) -> tuple[list[Path], list[str]]:
    """(folders named by --config-dir, the other arguments).

    Raises:
        UserError: such a folder does not exist.
    """
    config_dirs: list[Path] = []
    others: list[str] = []
    remaining = iter(arguments)
    for word in remaining:
        name, sign, value = word.partition("=")
        if name not in ("--config-dir", "-cd"):
            others.append(word)
            continue
        # Both `--config-dir=DIR` and `--config-dir DIR`, as Hydra accepts.
        config_dirs.append(config_folder(value if sign else next(remaining, "")))
    return config_dirs, others


def _cell_lines(cell: Mapping[str, Any], fixed: set[str]) -> list[str]:
    """A cell as override lines, without the keys in `fixed`, which the command line sets."""
    lines = [(key, value) for key, value in cell.items() if key not in fixed and _root(key) not in EXTRA_CELL_KEYS]
    return [f"{key}={override_text(value)}" for key, value in lines]


def _lines(overrides: Iterator[Override] | Sequence[Override]) -> list[str]:
    return [override.input_line or "" for override in overrides]


def _parse(lines: Iterator[str] | Sequence[str]) -> list[Override]:
    parsed, lines = [], list(lines)
    for line in lines:
        override = parse_argument(line)
        # Hydra would read `key=a,b` as a multirun. One sweep plans all combinations instead, so that they share baselines and a store.
        if override.is_sweep_override():
            raise UserError(f"'{line}' gives several values, and sap-sweep has no --multirun; {suggest_lists(lines)}")
        # Hydra's launchers, sweepers and output folders are not used: only its Compose API is.
        if override.key_or_group.split(".")[0].split("/")[0] == "hydra":
            raise UserError(
                f"'{line}' has no effect: Hydra only composes the configuration here; jobs run on backend=ray or backend=local, and "
                "results go to paths.results=DIR"
            )
        parsed.append(override)
    return parsed


def _is_group(override: Override) -> bool:
    return override.key_or_group in GROUPS


def _check_groups(overrides: Sequence[Override], config_dirs: Sequence[Path]) -> None:
    for override in filter(_is_group, overrides):
        group, allowed = override.key_or_group, options(override.key_or_group, config_dirs)
        # A cell without a data set or network cannot be checked against any class.
        if override.is_delete() or override.value() is None:
            raise UserError(f"'{override.input_line}' leaves {group} without a choice; allowed: {', '.join(allowed)}")
        if str(override.value()) not in allowed:
            raise unknown_choice(group, override.value(), allowed, config_dirs)


def _check_keys(overrides: Sequence[Override], base: DictConfig) -> None:
    """Check keys before Hydra does, whose message does not name the allowed ones."""
    for override in overrides:
        key = override.key_or_group
        parts = key.split(".")
        if _is_group(override):
            continue
        node: Any = base
        for depth, part in enumerate(parts):
            if not isinstance(node, DictConfig):
                raise UserError(
                    f"'{key}' is not a key: '{'.'.join(parts[:depth])}' is the single value {node!r}; write {'.'.join(parts[:depth])}=VALUE"
                )
            adds = override.is_add() or override.is_force_add()
            # Not `part in node`, which is false for a mandatory value (???).
            known = list(node.keys())
            if part not in known and not (adds and _is_open(parts[:depth])):
                raise unknown("key", part, dict.fromkeys([*GROUPS, *known]) if node is base else known, ".".join(parts[:depth]))
            node = node.get(part) if part in known else OmegaConf.create({})


def _is_open(parents: Sequence[str]) -> bool:
    """Whether `+` may add a key here: below a component, whose class is asked for the field later, or a sampler's settings."""
    # Elsewhere the schema is complete, so a new key can only be a mistake.
    return bool(parents) and (
        parents[0] in CELL_GROUPS or (parents[0] == "method" and len(parents) > 1) or list(parents) == ["search", "settings"]
    )


def _compose(overrides: Sequence[Override], config_dirs: Sequence[Path], methods: bool = True) -> DictConfig:
    try:
        return compose_config(overrides, config_dirs, methods)
    # YAMLError: a file that is no YAML, or has a tag that names an object of Python; no object is made of it.
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise UserError(sentence(error, config_dirs)) from error


def _searches(entries: Sequence[Any], config_dirs: Sequence[Path]) -> list[SearchEntry]:
    """The entries of `searches`, each merged into the file of conf/search that it names."""
    found = []
    for methods, name, given in expand_searches(entries):
        if name not in options("search", config_dirs):
            raise unknown_choice("search", name, options("search", config_dirs), config_dirs, "searches")
        chosen = _compose(_parse([f"search={name}"]), config_dirs, methods=False).search
        try:
            # Merged with the schema, so that types are checked as those of `search` itself.
            search: SearchConfig = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(SearchConfig), chosen, given))  # type: ignore[assignment]
        except OmegaConfBaseException as error:
            raise UserError(f"searches: {sentence(error)}") from error
        found.append(SearchEntry(methods, search))
    return found


def _to_config(base: DictConfig, searches: list[SearchEntry]) -> Config:
    try:
        # Plain dataclasses from here on; the schema has checked the types.
        config: Config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), base))  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise UserError(sentence(error)) from error
    config.searches = list(searches)
    check_values(config)
    return config


def _to_plain(config: DictConfig) -> dict[str, Any]:
    try:
        # Resolved here, after all overrides, so that ${noise.rate} sees the value that the command line sets.
        plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise UserError(sentence(error)) from error
    return plain

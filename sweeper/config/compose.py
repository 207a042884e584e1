"""Composes and checks the configuration of every cell of an experiment from the command line.

A Hydra group has one choice while an experiment crosses many, so an experiment lists `cells`, and each cell is composed on its own: its
keys become overrides that precede those of the command line, which therefore win. Lists inside an entry of `cells` are crossed, entries are
concatenated; values of --multirun are crossed with all of them. An experiment without `cells` is one cell, of the groups that it composes.
Every file of conf/method is composed at method.NAME; `methods` and `searches` name those that are used.

Every mistake is reported before any job starts, as one sentence (UserError) with the allowed values; Hydra alone would print several lines
without them.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sap_core.command_line import shell_word
from sap_core.errors import UserError
from sweeper.config.checked_composition import (
    check_groups,
    check_keys,
    compose_checked,
    is_group,
    lines_of,
    parse_overrides,
    root_of,
    to_plain,
)
from sweeper.config.choices import hidden_files, split_config_dirs, split_multirun, unknown_choice
from sweeper.config.compose_cell import Cache, compose_cell
from sweeper.config.composition import hydra_ready, options
from sweeper.config.entries import expand_cells, expand_searches
from sweeper.config.experiment_file import check_overridden_groups
from sweeper.config.hydra_errors import sentence
from sweeper.config.hydra_source import written_numbers
from sweeper.config.multirun import cross
from sweeper.config.override_text import override_text, written_scalars
from sweeper.config.packages import find_plugins
from sweeper.config.preset import Preset
from sweeper.config.schema import (
    CELL_GROUPS,
    Config,
    SearchConfig,
    SearchEntry,
    check_integers,
    check_values,
)
from sweeper.config.search_space import check_searches_differ
from sweeper.config.text_fields import needs_class, restore_texts


@dataclass(frozen=True)
class Composed:
    """The checked configuration of a command line."""

    config: Config  # typed; composed without the choices of any cell
    cells: tuple[dict[str, Any], ...]  # composed configuration of each cell, as plain data
    raw: dict[str, Any]  # the resolved configuration, as written to config.yaml
    method_overrides: tuple[tuple[str, Any], ...] = ()  # (key, value) of each override below `method`
    given: frozenset[str] = frozenset()  # keys that the command line sets
    first_cell: tuple[str, ...] = ()  # the overrides with which Hydra composes the first cell
    overrides: tuple[str, ...] = ()  # the command line, of a key with several values without those
    notes: tuple[str, ...] = ()  # files and keys of cells and presets that do not apply, and why


def compose_all(arguments: Sequence[str]) -> Composed:
    """Compose and check the configuration of every cell.

    Raises:
        UserError: an unknown group, option or key, or a value of the wrong type.
    """
    multirun, words = split_multirun(arguments)
    config_dirs, given = split_config_dirs(words)
    with hydra_ready(config_dirs):
        # Everything below raises a UserError before Hydra composes, because Hydra's errors do not name the allowed values.
        overrides = parse_overrides(given)
        _refuse_method_group(overrides, config_dirs)
        _check_keys_with_several_values(overrides, config_dirs)
        crossed = cross(given, overrides, multirun, config_dirs)
        every = list({line.input_line: line for line in itertools.chain(crossed.fixed, *crossed.combinations)}.values())
        check_groups(every, config_dirs)
        # Keys of a cell's groups are left to `compose_cell`, because each cell may choose another data set or network.
        general = [override for override in crossed.fixed if root_of(override.key_or_group) not in CELL_GROUPS]
        # Keys are checked on a composition of the groups alone, which an unknown key cannot break.
        choices = [*filter(is_group, general)]
        groups = compose_checked(choices, config_dirs)
        check_keys(general, groups)
        of_preset = (one for one in general if root_of(one.key_or_group) == "preset")
        preset = Preset.of(compose_checked([*choices, *of_preset], config_dirs).preset)
        # The command line comes last, and Hydra applies the last override of a key.
        shared = [*parse_overrides(preset.method_lines(groups.method, {override.key_or_group for override in general})), *crossed.fixed]
        general = [override for override in shared if root_of(override.key_or_group) not in CELL_GROUPS]
        # One composition without any cell's choices gives all keys that are the same for every cell.
        base = compose_checked(general, config_dirs)
        _refuse_nested_lists(base)
        # First of all, because everything below may name their classes.
        base.plugins = list(find_plugins(base.plugins))
        # Composing all methods is a quarter of a cell's work, so it is done once if no method depends on the cell.
        methods = _methods_use_no_cell_keys(base)
        entries = _entries(base, {override.key_or_group: override.value() for override in every}, config_dirs)
        base.cells = []
        named = preset.default_spaces(list(base.methods), base.method)
        first = () if named == list(base.methods) else (f"methods={override_text(named)}",)
        base.methods = named
        raw = to_plain(base)
        searches = _searches(raw["searches"], config_dirs)
        searches = [replace(entry, methods=preset.default_spaces(entry.methods, base.method)) for entry in searches]
        raw["searches"] = [asdict(entry) for entry in searches]
        # Before the cells are composed and torch is loaded: the most frequent mistake.
        for name in [*raw["methods"], *(name for entry in searches for name in entry.methods)]:
            if name.partition("@")[0] not in raw["method"]:
                raise unknown_choice("method", name.partition("@")[0], list(raw["method"]), config_dirs, "methods")
        check_searches_differ(raw["methods"], raw["method"], "methods")
        for entry in searches:
            check_searches_differ(entry.methods, raw["method"], "searches")
        cache = Cache(raw["method"] if methods else None, preset)
        # The override lines of a cell come before those of the command line, and Hydra applies the last one.
        composed = [
            compose_cell(cell, [*shared, *combination], config_dirs, cache)
            for cell in expand_cells(entries)
            for combination in crossed.combinations
        ]
        # Cells that differed in keys that the command line sets are one.
        cells = _distinct(composed)
        chosen = [(override.key_or_group, override.value()) for override in filter(is_group, every)]
        chosen += [(group, cell[group]) for cell in expand_cells(entries) for group in CELL_GROUPS if group in cell]
        chosen += [("method", name.partition("@")[0]) for name in [*raw["methods"], *(name for one in searches for name in one.methods)]]
        hidden = list(hidden_files(chosen, config_dirs))
        written = needs_class([*written_numbers(config_dirs), *written_scalars(every)])
    check_integers(raw)
    for cell in cells:
        check_integers({group: cell[group] for group in CELL_GROUPS})
    if written:
        # Cells share what composes equal, and this changes it.
        cells = copy.deepcopy(cells)
        for cell in cells:
            restore_texts(cell, written, raw["plugins"])
    # config.yaml keeps what each cell composed to; the groups at the top level would show the choice of no cell.
    raw["cells"] = [_recorded(cell) for cell in cells]
    # Kept for the warning about overrides that a searched space replaces.
    of_methods = tuple((one.key_or_group, one.value()) for one in crossed.fixed if root_of(one.key_or_group) == "method")
    # A cluster decides where jobs run, and without a preset there is nothing to record.
    left_out = (*CELL_GROUPS, "cluster", *(() if preset.name else ("preset",)))
    return Composed(
        _to_config(base, searches),
        tuple(cells),
        {key: value for key, value in raw.items() if key not in left_out},
        of_methods,
        frozenset(override.key_or_group for override in overrides),
        (*cache.first, *first),
        tuple(lines_of(shared)),
        tuple(dict.fromkeys([*hidden, *preset.method_notes(groups.method), *cache.notes])),
    )


def _entries(base: DictConfig, given: Mapping[str, Any], config_dirs: Sequence[Path]) -> list[Any]:
    """The entries of `cells`; of an experiment without any, one empty entry, the groups as Hydra composes them."""
    # Not resolved here: an interpolation in an entry, such as ${noise.rate}, refers to the cell's own noise.
    entries: Any = OmegaConf.to_container(base.cells)
    if "cells" in given:
        return list(entries)
    check_overridden_groups(str(given.get("experiment")), entries, config_dirs)
    return list(entries or [{}]) if {*CELL_GROUPS, "experiment"} & set(given) else list(entries)


def _recorded(cell: Mapping[str, Any]) -> dict[str, Any]:
    """A composed cell as config.yaml records it."""
    own = {"keep_fraction": cell["_cell"].get("keep_fraction"), "warmup": cell.get("_warmup")}
    return own | {group: cell[group] for group in CELL_GROUPS}


def _refuse_method_group(overrides: Sequence[Override], config_dirs: Sequence[Path]) -> None:
    """Refuse `method=NAME`: a sweep has several methods, and Hydra's message would suggest keys that cannot be set."""
    for override in overrides:
        if override.key_or_group != "method" or override.is_delete():
            continue
        # As typed, because Hydra has no text of several values.
        text = (override.input_line or "").partition("=")[2].strip("[]")
        names = [name.strip() for name in text.split(",") if name.strip()]
        allowed = options("method", config_dirs)
        for name in names:
            if name.partition("@")[0] not in allowed:
                where = "method= (write 'methods=[NAME]')"
                raise unknown_choice("method", name.partition("@")[0], allowed, config_dirs, where)
        listed = f"'methods=[{','.join(names) or 'sap'}]'"
        raise UserError(f"'{override.input_line}' chooses no method, because a sweep has a list of them; write {listed}")


def _refuse_nested_lists(base: DictConfig) -> None:
    """Refuse a list within a list of names or numbers, which the schema accepts."""
    for key in ("methods", "seeds", "plugins"):
        values = OmegaConf.to_container(base[key])
        assert isinstance(values, list)
        if any(isinstance(value, list | dict) or value is None for value in values):
            raise UserError(
                f"{key}={values} must list single values; write one pair of brackets, as in {shell_word(f'{key}=[{_LISTED[key]}]')}"
            )


_LISTED = {"methods": "sap,scrub", "seeds": "1,2", "plugins": "first,second"}


def _check_keys_with_several_values(overrides: Sequence[Override], config_dirs: Sequence[Path]) -> None:
    """Check keys of which several values are advised against: the advice would name a key that does not exist."""
    several = [one for one in overrides if one.is_sweep_override() and not is_group(one) and root_of(one.key_or_group) not in CELL_GROUPS]
    if several:
        choices = [one for one in overrides if is_group(one) and not one.is_sweep_override()]
        check_groups(choices, config_dirs)
        check_keys(several, compose_checked(choices, config_dirs))


def _methods_use_no_cell_keys(base: DictConfig) -> bool:
    """Whether nothing below `method` interpolates a key that cells choose, so that all cells share one composition of it."""
    return not re.search(rf"\$\{{({'|'.join(CELL_GROUPS)})\b", OmegaConf.to_yaml(base.method))


def _distinct(cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cells without those that equal an earlier one; of a cell's own entry only what is no key of the configuration counts."""
    found: list[dict[str, Any]] = []
    for cell in cells:
        same = (one for one in found if one["_cell"].get("keep_fraction") == cell["_cell"].get("keep_fraction"))
        if not any(one.get("_warmup") == cell.get("_warmup") and all(one[group] == cell[group] for group in CELL_GROUPS) for one in same):
            found.append(cell)
    return found


def _searches(entries: Sequence[Any], config_dirs: Sequence[Path]) -> list[SearchEntry]:
    """The entries of `searches`, each merged into the file of conf/search that it names."""
    found = []
    for methods, name, given in expand_searches(entries):
        if name not in options("search", config_dirs):
            raise unknown_choice("search", name, options("search", config_dirs), config_dirs, "searches")
        chosen = compose_checked(parse_overrides([f"search={name}"]), config_dirs, methods=False).search
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

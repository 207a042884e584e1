"""Composes one cell of an experiment: its own entry, then the preset, then the command line, of which the last wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

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
from sweeper.config.override_text import override_text
from sweeper.config.preset import Preset
from sweeper.config.schema import CELL_GROUPS, EXTRA_CELL_KEYS


@dataclass
class Cache:
    """Compositions that several cells share, and what is to be said of the cells."""

    methods: dict[str, Any] | None  # the composed `method`, if it is the same in all cells; None: it differs
    preset: Preset
    cells: dict[tuple[str, ...], dict[str, Any]] = field(
        default_factory=dict
    )  # by overrides; cells that differ only in keep_fraction share one
    first: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


def compose_cell(cell: Mapping[str, Any], overrides: Sequence[Override], config_dirs: Sequence[Path], cache: Cache) -> dict[str, Any]:
    """One cell as plain data. The command line applies to every cell and overrides the cell's own choice of the same key."""
    own, note = _own_overrides(cell, overrides, config_dirs)
    if note:
        cache.notes.append(note)
    general = [*_preset_overrides([*own, *overrides], config_dirs, cache), *overrides]
    lines = [*own, *general]
    cache.first = cache.first or tuple(lines_of(lines))
    # The fraction to keep and the warmup trainer are no keys of Hydra's configuration; they travel beside it.
    found = _compose_cached(lines, config_dirs, cache) | {"_cell": dict(cell)}
    if not any(root_of(key) == "warmup" for key in cell):
        return found
    return found | {"_warmup": _warmup_trainer(cell, own, general, config_dirs, cache)}


def _own_overrides(cell: Mapping[str, Any], overrides: Sequence[Override], config_dirs: Sequence[Path]) -> tuple[list[Override], str]:
    """The overrides of a cell that the command line leaves, and a note about those that belong to a choice which it replaces."""
    # A key that both set would otherwise appear twice in the override list.
    fixed = {override.key_or_group: override for override in overrides}
    own = parse_overrides(_cell_lines(cell, set(fixed)))
    check_groups(own, config_dirs)
    notes = []
    for group in CELL_GROUPS:
        fields = [override for override in own if override.key_or_group.startswith(f"{group}.")]
        if not fields or group not in fixed or group not in cell or str(fixed[group].value()) == str(cell[group]):
            continue
        # A width of one network is no width of another, whereas a rate or a number of images keeps its meaning where there is one.
        known = () if group == "model" else _choices_of([*own, *overrides], config_dirs)[group].keys()
        dropped = [override for override in fields if override.key_or_group.split(".")[1] not in known]
        own = [override for override in own if override not in dropped]
        if dropped:
            lines = ", ".join(f"{override.key_or_group}={override.value()}" for override in dropped)
            notes.append(f"{group}={fixed[group].value()} replaces {cell[group]} in the cells, and with it its {lines}")
    return own, "; ".join(notes)


def _preset_overrides(overrides: Sequence[Override], config_dirs: Sequence[Path], cache: Cache) -> list[Override]:
    if not cache.preset.cell:
        return []
    choices = _choices_of(overrides, config_dirs)
    cache.notes.extend(cache.preset.cell_notes(choices))
    return parse_overrides(cache.preset.cell_lines(choices, {override.key_or_group for override in overrides}))


def _choices_of(overrides: Sequence[Override], config_dirs: Sequence[Path]) -> DictConfig:
    """The configuration with the choices of groups alone, without methods."""
    return compose_checked([*filter(is_group, overrides)], config_dirs, methods=False)


def _compose_cached(lines: Sequence[Override], config_dirs: Sequence[Path], cache: Cache) -> dict[str, Any]:
    # Cells that differ only in keep_fraction have the same override lines, and are composed once.
    key = tuple(lines_of(lines))
    try:
        if key not in cache.cells:
            cache.cells[key] = _compose_without_methods(lines, config_dirs, cache.methods) or to_plain(compose_checked(lines, config_dirs))
        return cache.cells[key]
    except UserError:
        # Raises a better message if a key is unknown.
        check_keys(lines, compose_checked([*filter(is_group, lines)], config_dirs))
        raise


def _compose_without_methods(
    lines: Sequence[Override], config_dirs: Sequence[Path], methods: dict[str, Any] | None
) -> dict[str, Any] | None:
    """Compose a cell without the files of the methods, a quarter of the work; None if that is impossible or fails."""
    if methods is None:
        return None
    try:
        # Overrides below `method` are already contained in the shared composition.
        cell = compose_checked([line for line in lines if root_of(line.key_or_group) != "method"], config_dirs, methods=False)
        cell.method = {}
        return to_plain(cell) | {"method": methods}
    except UserError:
        # The complete composition is tried next, whose error names the key.
        return None


def _warmup_trainer(
    cell: Mapping[str, Any], own: Sequence[Override], overrides: Sequence[Override], config_dirs: Sequence[Path], cache: Cache
) -> dict[str, Any]:
    """The trainer of the warmup network: the one that `warmup` names or else the cell's, with the fields of `warmup.FIELD`.

    Fields of `trainer` set by the experiment or the command line apply to it too; the command line's choice of a trainer does not.
    """
    # The warmup is composed as a cell of its own, so that its trainer gets the same checks and defaults.
    chosen = {} if cell.get("warmup") is None else {"trainer": cell["warmup"]}
    named = {key: value for key, value in cell.items() if root_of(key) == "trainer"} | chosen
    # `warmup.epochs` becomes `trainer.epochs` of a composition of its own, in which `trainer` is the warmup's.
    fields = {f"trainer.{key.removeprefix('warmup.')}": value for key, value in cell.items() if key.startswith("warmup.")}
    # trainer=NAME on the command line chooses the trainer to compare, not the one that prepares the selection.
    general = [override for override in overrides if not (chosen and override.key_or_group == "trainer")]
    trainer_lines = parse_overrides(_cell_lines(named, {override.key_or_group for override in general}))
    # The cell's other choices, to which the trainer may refer, as in ${noise.rate}.
    others = [override for override in own if root_of(override.key_or_group) != "trainer"]
    check_groups(trainer_lines, config_dirs)
    lines = [*others, *trainer_lines, *general, *parse_overrides(_cell_lines(fields, set()))]
    trainer: dict[str, Any] = _compose_cached(lines, config_dirs, cache)["trainer"]
    return trainer


def _cell_lines(cell: Mapping[str, Any], fixed: set[str]) -> list[str]:
    """A cell as override lines, without the keys in `fixed`, which the command line sets."""
    lines = [(key, value) for key, value in cell.items() if key not in fixed and root_of(key) not in EXTRA_CELL_KEYS]
    return [f"{key}={override_text(value)}" for key, value in lines]

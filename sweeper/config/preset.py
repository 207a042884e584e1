"""Applies a preset (conf/preset) to an experiment: values that hold where the experiment's cells and methods have the key."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sap_core.errors import UserError, unknown
from sweeper.config.override_text import override_text
from sweeper.config.schema import CELL_GROUPS, is_name


@dataclass(frozen=True)
class Preset:
    """The values of a preset; the one without a name has none.

    Values precede the command line and those that a cell sets itself. Whole numbers are maxima, so that a smaller experiment stays as it
    is; other values replace those of the experiment. Those of one group of `cell` apply if its choice has all of them, because a validation
    share is meant for the number of images beside it.
    """

    name: str | None
    cell: Mapping[str, Mapping[str, Any]]
    method: Mapping[str, Any]
    spaces: Mapping[str, str]

    @classmethod
    def of(cls, config: DictConfig) -> Preset:
        """The preset of a composed configuration.

        Raises:
            UserError: a reference that cannot be resolved, a name that cannot be part of a folder's, or a key that is no group of cells.
        """
        try:
            found = OmegaConf.to_container(config, resolve=True)
        except OmegaConfBaseException as error:
            raise UserError(f"preset: {' '.join(str(error).split())}; correct its file") from error
        assert isinstance(found, dict)
        preset = cls(**{str(key): value for key, value in found.items()})
        if preset.name is not None and not is_name(preset.name):
            raise UserError(
                f"preset.name={preset.name!r} becomes part of a folder's name; use letters, digits and _.- only, as in name: small"
            )
        for group, values in preset.cell.items():
            if group not in CELL_GROUPS:
                raise unknown("group", group, CELL_GROUPS, "preset.cell")
            if not isinstance(values, Mapping):
                raise UserError(f"preset.cell.{group}={values!r} must map keys to values, as in dataset: {{images: 3000}}")
        return preset

    def method_notes(self, methods: Any) -> Iterator[str]:
        """A sentence for each method, field and space that the preset names and the composed methods lack."""
        spaces = {name: {"spaces": {space: None}} for name, space in self.spaces.items()}
        for key in dict.fromkeys([*_missing(self.method, methods, "method."), *_missing(spaces, methods, "method.")]):
            yield f"preset {self.name} has a value for {key}, which does not exist: nothing is set"

    def cell_notes(self, config: Mapping[str, Any]) -> Iterator[str]:
        """A sentence for each group of `cell` that does not apply to a cell with these choices."""
        for group, values in self.cell.items():
            if missing := [key for key in values if key not in config[group]]:
                yield f"preset {self.name} leaves {group} as it is, because {config[group].get('name', group)} has no {', '.join(missing)}"

    def cell_lines(self, config: Mapping[str, Any], given: Collection[str]) -> list[str]:
        """The overrides of a cell; `config` is the configuration of its choices, `given` are the keys that it or the command line sets."""
        return [
            f"{group}.{key}={override_text(value)}"
            for group, values in self.cell.items()
            if set(values) <= set(config[group])
            for key, value in values.items()
            if f"{group}.{key}" not in given and _replaces(value, config[group][key])
        ]

    def method_lines(self, methods: Mapping[str, Any], given: Collection[str]) -> list[str]:
        """The overrides of the composed methods, without the keys that the command line sets."""
        return [f"{key}={override_text(value)}" for key, value in _leaves(self.method, methods, "method") if key not in given]

    def default_spaces(self, names: Sequence[str], methods: Mapping[str, Any]) -> list[str]:
        """Names of methods with the preset's space where they name none: scrub becomes scrub@grid45."""
        chosen = {name: space for name, space in self.spaces.items() if name in methods and space in (methods[name].get("spaces") or {})}
        return [f"{name}@{chosen[name]}" if name in chosen else name for name in names]


def _missing(values: Mapping[str, Any], known: Any, prefix: str) -> Iterator[str]:
    """The keys of a nested mapping that `known` lacks."""
    for key, value in values.items():
        if not isinstance(known, Mapping | DictConfig) or key not in known:
            yield f"{prefix}{key}"
        elif isinstance(value, Mapping):
            yield from _missing(value, known[key], f"{prefix}{key}.")


def _leaves(values: Mapping[str, Any], known: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """(key, value) of each value of a nested mapping whose key is also in `known`, and replaces the value there."""
    for key, value in values.items():
        if not isinstance(known, Mapping | DictConfig) or key not in known:
            continue
        if isinstance(value, Mapping):
            yield from _leaves(value, known[key], f"{prefix}.{key}")
        elif _replaces(value, known[key]):
            yield f"{prefix}.{key}", value


def _replaces(value: Any, old: Any) -> bool:
    """Whether a value replaces the experiment's; a whole number does not replace a smaller number."""
    is_maximum = isinstance(value, int) and isinstance(old, int | float) and not isinstance(old, bool)
    return not (is_maximum and old <= value)

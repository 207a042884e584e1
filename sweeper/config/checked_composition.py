"""Composition of checked overrides: every mistake is one sentence with the allowed values, where Hydra alone would print several lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from sap_core.command_line import shell_word
from sap_core.errors import UserError, unknown
from sweeper.config.choices import unknown_choice
from sweeper.config.composition import compose_config, options
from sweeper.config.hydra_errors import sentence
from sweeper.config.override_text import parse_argument
from sweeper.config.schema import CELL_GROUPS, GROUPS


def root_of(key: str) -> str:
    """The first part of a dotted key."""
    return key.split(".")[0]


def lines_of(overrides: Iterator[Override] | Sequence[Override]) -> list[str]:
    """Overrides as they were typed."""
    return [override.input_line or "" for override in overrides]


def parse_overrides(lines: Iterator[str] | Sequence[str]) -> list[Override]:
    """Parse arguments KEY=VALUE; several values of a key are left to `sweeper.config.multirun`.

    Raises:
        UserError: an argument is not in Hydra's grammar, configures Hydra itself, or adds a group.
    """
    parsed = []
    for line in lines:
        override = parse_argument(line)
        # Hydra's launchers, sweepers and output folders are not used: only its Compose API is.
        if override.key_or_group.split(".")[0].split("/")[0] == "hydra":
            raise UserError(
                f"'{line}' has no effect: Hydra only composes the configuration here; jobs run on backend=ray or backend=local, and "
                "results go to paths.results=DIR"
            )
        # As Hydra's examples choose experiments; a group that has a choice already cannot be added, and a package is not chosen here.
        if is_group(override) and (override.is_add() or override.is_force_add() or override.package):
            plain = shell_word(f"{override.key_or_group}={line.partition('=')[2]}")
            raise UserError(f"'{line}': {override.key_or_group} is a group of conf/config.yaml already; write {plain}")
        parsed.append(override)
    return parsed


def is_group(override: Override) -> bool:
    """Whether an override chooses a file of a group."""
    return override.key_or_group in GROUPS


def check_groups(overrides: Sequence[Override], config_dirs: Sequence[Path]) -> None:
    """Check that the overrides that choose a file of a group name one.

    Raises:
        UserError: a choice does not exist, or is left out.
    """
    for override in filter(is_group, overrides):
        group, allowed = override.key_or_group, options(override.key_or_group, config_dirs)
        # A cell without a data set or network cannot be checked against any class.
        if override.is_delete() or override.value() is None:
            raise UserError(f"'{override.input_line}' leaves {group} without a choice; allowed: {', '.join(allowed)}")
        if str(override.value()) not in allowed:
            raise unknown_choice(group, override.value(), allowed, config_dirs)


def check_keys(overrides: Sequence[Override], base: DictConfig) -> None:
    """Check keys before Hydra does, whose message does not name the allowed ones."""
    for override in overrides:
        key = override.key_or_group
        parts = key.split(".")
        if is_group(override):
            continue
        if override.is_delete() and not _is_removable(parts):
            raise UserError(f"'~{key}' removes a key that every sweep has; leave it out, or set the key to a value")
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


def _is_removable(parts: Sequence[str]) -> bool:
    """Whether `~` may remove a key: a field of a component, an entry of a preset, or a sampler's setting."""
    return len(parts) > (2 if parts[0] in ("preset", "search") else 1) and parts[0] in (*CELL_GROUPS, "method", "preset", "search")


def compose_checked(overrides: Sequence[Override], config_dirs: Sequence[Path], methods: bool = True) -> DictConfig:
    """Compose as `compose_config`.

    Raises:
        UserError: a key, a value or a file is wrong.
    """
    try:
        return compose_config(overrides, config_dirs, methods)
    # YAMLError: a file that is no YAML, or has a tag that names an object of Python; no object is made of it.
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise UserError(sentence(error, config_dirs)) from error


def to_plain(config: DictConfig) -> dict[str, Any]:
    """A configuration as plain data, its interpolations resolved.

    Raises:
        UserError: a value is missing, or refers to a key that does not exist.
    """
    try:
        # Resolved here, after all overrides, so that ${noise.rate} sees the value that the command line sets.
        plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise UserError(sentence(error)) from error
    return plain

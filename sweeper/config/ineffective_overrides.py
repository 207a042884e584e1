"""Finds overrides of a method's fields that have no effect because every searched space replaces the field's value."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sap_core.command_line import shell_word
from sweeper.config.override_text import override_text
from sweeper.config.search_space import DEFAULT_SPACE, LIST_TYPES

if TYPE_CHECKING:
    from sweeper.config.compose import Composed


def ineffective_overrides(composed: Composed) -> Iterator[str]:
    """Yield a warning for each `method.NAME.corrector.FIELD=VALUE` on the command line that changes no setting."""
    methods: Mapping[str, Any] = composed.raw["method"]
    searched = [*composed.config.methods, *(name for entry in composed.config.searches for name in entry.methods)]
    for key, value in _fields(composed.method_overrides):
        parts = key.split(".")
        # Deeper keys set a part of a nested component, which no space searches.
        if len(parts) != 4 or parts[2] != "corrector" or parts[1] not in methods:
            continue
        _, method, _, field = parts
        spaces = _searched_spaces(method, methods[method], searched)
        # If one of the searched spaces leaves the field alone, the override does have an effect there.
        if spaces and all(isinstance(space, Mapping) and field in space for space in spaces.values()):
            name, space = next(iter(spaces.items()))
            remedy = f"sweep this value alone, {_remedy(method, name, field, space[field], value)}"
            yield (
                f"{key}={json.dumps(value, default=str)} has no effect, because {field} is swept by space '{name}' of method '{method}'; "
                f"{_other_space(composed, method)}{remedy}"
            )


def _fields(overrides: Sequence[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """The overrides, of a mapping such as method.sap.corrector={alpha: 1} its values."""
    for key, value in overrides:
        if isinstance(value, Mapping):
            yield from _fields([(f"{key}.{name}", item) for name, item in value.items()])
        else:
            yield key, value


def _other_space(composed: Composed, method: str) -> str:
    """The advice to choose the space of one setting; "" where the method is not in `methods`, or sampled."""
    config = composed.config
    names = [f"{method}@{DEFAULT_SPACE}" if name.partition("@")[0] == method else name for name in config.methods]
    if names == config.methods or not config.search.is_grid:
        return ""
    argument = f"methods=[{','.join(dict.fromkeys(names))}]"
    return f"choose a space without it, {shell_word(argument)} (one setting), or "


def _searched_spaces(method: str, content: Any, searched: Sequence[str]) -> dict[str, Any]:
    """The spaces of `method` that are searched; its first space if none is named."""
    spaces = content.get("spaces") if isinstance(content, Mapping) else None
    if not isinstance(spaces, Mapping):
        return {}
    named = [name.partition("@")[2] or next(iter(spaces), "") for name in searched if name.partition("@")[0] == method]
    return {name: spaces[name] for name in named if name in spaces}


def _remedy(method: str, space: str, field: str, domain: Any, value: Any) -> str:
    """The overrides that reduce the field's domain to the one value."""
    key, text = f"method.{method}.spaces.{space}.{field}", override_text(value)
    domain_type = next(iter(domain), "grid") if isinstance(domain, Mapping) else "grid"
    if domain_type in LIST_TYPES:
        return shell_word(f"{key}.{domain_type}=[{text}]")
    # A range cannot contain a single value.
    return f"'~{key}.{domain_type}' {shell_word(f'+{key}.choice=[{text}]')}"

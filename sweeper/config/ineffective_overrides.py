"""Finds overrides of a method's fields that have no effect because every searched space replaces the field's value."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sap_core.command_line import shell_word
from sweeper.config.override_text import override_text
from sweeper.config.search_space import LIST_TYPES

if TYPE_CHECKING:
    from sweeper.config.compose import Composed


def ineffective_overrides(composed: Composed) -> Iterator[str]:
    """Yield a warning for each `method.NAME.corrector.FIELD=VALUE` on the command line that changes no setting."""
    methods: Mapping[str, Any] = composed.raw["method"]
    searched = [*composed.config.methods, *(name for entry in composed.config.searches for name in entry.methods)]
    for key, value in composed.method_overrides:
        parts = key.split(".")
        # Deeper keys set a part of a nested component, which no space searches.
        if len(parts) != 4 or parts[2] != "corrector" or parts[1] not in methods:
            continue
        _, method, _, field = parts
        spaces = _searched_spaces(method, methods[method], searched)
        # If one of the searched spaces leaves the field alone, the override does have an effect there.
        if spaces and all(isinstance(space, Mapping) and field in space for space in spaces.values()):
            name, space = next(iter(spaces.items()))
            yield (
                f"{key}={json.dumps(value, default=str)} has no effect, because space '{name}' of method '{method}' searches {field}; "
                f"to fix its value, add {_remedy(method, name, field, space[field], value)}"
            )


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

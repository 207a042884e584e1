"""Construction of components from a dotted path and settings.

There is no registry: `_target_` in YAML names the class. A dataclass may contain another one whose fields YAML lists next to its own (a
trainer its optimisation recipe); such a field has a default and the metadata {"flat": True}.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from importlib import import_module
from typing import Any

from sap_core.roles import flattened_fields

Entry = Mapping[str, Any]
"""{"target": "package.module.Class", "settings": {...}}; a setting may itself be an entry (the recipe of retraining)."""


def locate(target: str) -> type:
    """Import the class at a dotted path.

    Raises:
        ImportError: the module does not exist or does not import.
        AttributeError: the module has no such class.
    """
    # Imported here and not at the top, so that a job loads only the components that its entry names.
    module, _, name = target.rpartition(".")
    found: type = getattr(import_module(module), name)
    return found


def is_entry(value: object) -> bool:
    """Return whether a value is an entry, as opposed to plain data."""
    return isinstance(value, Mapping) and set(value) >= {"target", "settings"}


def construct(entry: Entry, **settings: Any) -> Any:
    """Build the object that an entry describes. Lists become tuples and nested entries objects; `settings` are further arguments."""
    # Nested entries first: the recipe of retraining is an object of its own.
    arguments = {key: construct(value) if is_entry(value) else _as_tuples(value) for key, value in entry["settings"].items()}
    cls = locate(entry["target"])
    # YAML lists a trainer's recipe next to the trainer's own fields, so that all of them are overridden by one flat name.
    for name, default in flattened_fields(cls).items():
        own = {item.name: arguments.pop(item.name) for item in fields(default) if item.name in arguments}
        # Starts from the class's default instance: a trainer may have other defaults for its recipe than the recipe's class has.
        arguments[name] = replace(default, **own)
    return cls(**arguments, **settings)


def _as_tuples(value: Any) -> Any:
    # Fields of frozen dataclasses must be hashable, so the lists of YAML cannot stay lists.
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list | tuple) else value

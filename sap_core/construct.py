"""From a dotted path and settings to an object: `_target_` is the registry.

A dataclass may hold another one whose fields are written beside its own (a trainer its recipe of optimisation): such a field has the
metadata {"flat": True} and a default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from importlib import import_module
from inspect import signature
from typing import Any

from sap_core.roles import flattened_fields

Entry = Mapping[str, Any]
"""{"target": "package.module.Class", "settings": {...}}; a setting may itself be an entry (the recipe of retraining)."""


def locate(target: str) -> type:
    """The class that a dotted path names.

    Raises:
        ImportError: the module does not exist or does not import.
        AttributeError: the module has no such class.
    """
    module, _, name = target.rpartition(".")
    found: type = getattr(import_module(module), name)
    return found


def is_entry(value: object) -> bool:
    """Is this value an entry rather than plain data?"""
    return isinstance(value, Mapping) and set(value) >= {"target", "settings"}


def construct(entry: Entry, **settings: Any) -> Any:
    """The object an entry describes; lists become tuples, nested entries objects. `settings` are added."""
    given = {key: construct(value) if is_entry(value) else _frozen(value) for key, value in entry["settings"].items()}
    cls = locate(entry["target"])
    for name, part in flattened_fields(cls).items():
        own = {item.name: given.pop(item.name) for item in fields(part) if item.name in given}
        given[name] = replace(part, **own)
    return cls(**given, **settings)


def build_network(entry: Entry, num_outputs: int, input_shape: tuple[int, ...]) -> Any:
    """The network that an entry describes; one that was not written for this platform may do without being told either."""
    told = {"num_outputs": num_outputs, "input_shape": input_shape}
    wanted = signature(locate(entry["target"])).parameters
    return construct(entry, **{name: value for name, value in told.items() if name in wanted})


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value

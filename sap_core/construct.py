"""Construction of components from a dotted path and settings.

There is no registry: `_target_` in YAML names the class. A dataclass may contain another one whose fields YAML lists next to its own (a
trainer its optimisation recipe); such a field has a default and the metadata {"flat": True}.
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


def build_network(entry: Entry, num_outputs: int, input_shape: tuple[int, ...]) -> Any:
    """Build the network that an entry describes, passing `num_outputs` and `input_shape` if its signature has them.

    Args:
        entry: the network's entry; a network of another package may take neither argument.
        num_outputs: number of classes or of regression targets.
        input_shape: shape of one input, channels first, without the batch axis.
    """
    # Facts of the data set, not settings: they are known when the network is built and are in no entry.
    offered = {"num_outputs": num_outputs, "input_shape": input_shape}
    # A network of another package may be any class or function that builds one; it gets the arguments that it names.
    accepted = signature(locate(entry["target"])).parameters
    return construct(entry, **{name: value for name, value in offered.items() if name in accepted})


def _as_tuples(value: Any) -> Any:
    # Fields of frozen dataclasses must be hashable, so the lists of YAML cannot stay lists.
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list | tuple) else value

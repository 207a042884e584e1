"""Labels of the rows, columns and row groups of described tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from analysis.store.labels import LABELS, REFERENCES, label_of, method_label, plain, trainer_label
from analysis.tables.spec import TableSpec


def label(spec: TableSpec, where: Mapping[str, Any], names: Sequence[str], between: str) -> str:
    """Formats the values of several fields as one label.

    A method is followed by its search space. A field that does not apply (no pruner) is left out, unless it is the only one.

    Args:
        spec: the description, whose `names` replace values.
        where: the values by field.
        names: the fields to include, in order.
        between: the separator.
    """
    with_space = {"method", "space"} <= set(names)
    included = [name for name in names if (name != "space" or not with_space) and (where[name] is not None or len(names) == 1)]
    return between.join(
        _method(spec, where) if name == "method" and with_space else value_label(spec, name, where[name]) for name in included
    )


def _method(spec: TableSpec, where: Mapping[str, Any]) -> str:
    """`SAP (alpha16)`; the space of a reference is included only if it is not its usual single one."""
    method, space = str(where["method"]), where["space"]
    default = method_label(method, space)
    # A name in the description replaces the method's, not its space.
    renamed = spec.names.get("method", {}).get(method)
    if renamed is not None:
        own = renamed.printed(method_label(method))
        return own if space is None else f"{own} ({label_of('space', str(space))})"
    return f"{default} ({label_of('space', str(space))})" if method in REFERENCES and space not in (None, "only", "default") else default


def value_label(spec: TableSpec, name: str, value: Any) -> str:
    """Formats one value of a field."""
    for own_value, text in spec.names.get(name, {}).items():
        if own_value == value:
            return text.printed(value_label(replace(spec, names={}), name, value))
    if name in LABELS and value is not None:
        return label_of(name, str(value))
    if name == "warmup_trainer" and value is not None:
        return f"selected by {trainer_label(str(value))}"
    if name in ("noise_rate", "keep_fraction") and isinstance(value, int | float):
        return f"{value * 100:g} %{' kept' if name == 'keep_fraction' else ''}"
    if value is None:
        # Annotators' noise has no nominal rate.
        return "as measured" if name == "noise_rate" else "none"
    return plain(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)

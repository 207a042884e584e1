"""The labels of a described table's rows, columns and row groups: values of fields as readers know them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.reference.published import UNKNOWN_OURS
from analysis.store.labels import REFERENCES, dataset_label, method_label, network_label, plain, trainer_label
from analysis.tables.spec import TableSpec


def label(spec: TableSpec, where: Mapping[str, Any], names: Sequence[str], between: str) -> str:
    """The values as text; a method's space goes with its name, and a field that does not apply (no pruner) is left out among others."""
    together = {"method", "space"} <= set(names)
    parts = [name for name in names if (name != "space" or not together) and (where[name] is not None or len(names) == 1)]
    return between.join(_method(spec, where) if name == "method" and together else shown(spec, name, where[name], where) for name in parts)


def _method(spec: TableSpec, where: Mapping[str, Any]) -> str:
    """`SAP (alpha16)`; a reference has its space where it is more than one there can be."""
    method, space = str(where["method"]), where["space"]
    named = method_label(method, space)
    renamed = spec.names.get("method", {}).get(method)
    if renamed is not None:
        return renamed if space is None else f"{renamed} ({space})"
    return f"{named} ({space})" if method in REFERENCES and space not in (None, "only", "default") else named


def shown(spec: TableSpec, name: str, value: Any, where: Mapping[str, Any] | None = None) -> str:
    """A value of a field as the table shows it."""
    for given, text in spec.names.get(name, {}).items():
        if given == value:
            return text
    if name in ("dataset", "network", "trainer"):
        return {"dataset": dataset_label, "network": network_label, "trainer": trainer_label}[name](str(value))
    if name == "method":
        return method_label(str(value))
    if name == "warmup_trainer" and value is not None:
        return f"selected by {trainer_label(str(value))}"
    if name == "noise" and (where or {}).get("noise") in UNKNOWN_OURS:
        return str(value)
    if name in ("noise_rate", "keep_fraction") and isinstance(value, int | float):
        return f"{value * 100:g} %{' kept' if name == 'keep_fraction' else ''}"
    if value is None:
        return "as measured" if name == "noise_rate" else "none"  # noise that people made has no rate that was asked for
    return plain(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)

"""Keeps names that look like numbers as they are written in fields of components whose type is text.

YAML and Hydra read `folder: 1.10` as the number 1.1 and `folder: null` as no value. Which fields are text, only the class knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sweeper.config.number_fields import is_number_field
from sweeper.config.schema import CELL_GROUPS, canonical_text

Written = tuple[str, Any, str]
"""(key, value, text) of a scalar that is not text for YAML or Hydra, as in ("dataset.folder", 1.1, "1.10")."""


def needs_class(written: Iterable[Written]) -> list[Written]:
    """Those whose value does not tell how it was written; str(value) is the text of all others."""
    return [(key, value, text) for key, value, text in written if text not in ("", "~", canonical_text(value))]


def restore_texts(cell: dict[str, Any], written: Sequence[Written], plugins: Sequence[str]) -> None:
    """Put the texts into the fields of a composed cell that are of type text.

    Raises:
        UserError: a component's class cannot be imported.
    """
    for key, value, text in written:
        for component, holder, name in _places(cell, key):
            if component.get("_target_") is None or name not in holder:
                continue
            field = key.split(".")[-2] if holder is not component else name
            # 1.0e-3 occurs in nearly every experiment.
            if is_number_field(component["_target_"], field):
                continue
            # Imports torch, which is why only what is ambiguous comes here.
            from sweeper.config.component import is_text_field
            from sweeper.config.target import resolve_class

            if is_text_field(resolve_class(component["_target_"], key, plugins), field):
                holder[name] = _replaced(holder[name], value, text)


def _places(cell: Mapping[str, Any], key: str) -> Iterator[tuple[Mapping[str, Any], dict[str, Any], str]]:
    """(component, mapping that holds the value, its key there) of a key of the configuration: a field, or a domain of a search space."""
    root, *path = key.split(".")
    if root in CELL_GROUPS and len(path) == 1:
        yield cell[root], cell[root], path[0]
    elif root == "trainer" and "_warmup" in cell and len(path) == 1:
        yield cell["_warmup"], cell["_warmup"], path[0]
    elif root == "method" and len(path) > 2:
        method = cell["method"].get(path[0])
        corrector = method.get("corrector") if isinstance(method, Mapping) else None
        if not isinstance(method, Mapping) or not isinstance(corrector, dict):
            return
        if path[1] == "corrector" and len(path) == 3:
            yield corrector, corrector, path[2]
        elif path[1] == "spaces" and len(path) == 5:
            domain = ((method.get("spaces") or {}).get(path[2]) or {}).get(path[3])
            if isinstance(domain, dict):
                yield corrector, domain, path[4]


def _replaced(found: Any, value: Any, text: str) -> Any:
    """The value with its text; in a list, the items that have the value."""
    if isinstance(found, list):
        return [_replaced(item, value, text) for item in found]
    # 1 == 1.0 == True in Python, and NaN is not equal to itself.
    return text if type(found) is type(value) and repr(found) == repr(value) else found

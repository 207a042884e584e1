"""Reads YAML descriptions (of tables, of claims) and checks their values. Every check raises a UserError that names the value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, get_type_hints

from sap_core.errors import UserError, unknown
from sap_core.records import Row
from sap_core.yaml_files import parse_yaml

_TEXTS = ("name", "title", "label", "group", "key", "value", "rule", "span", "row_label", "needs", "notes", "over", "fallback")
"""Keys whose values are printed or name something, at any place of a description."""
_CONDITIONS = ("where", "each", "filter", "order", "tables", "relative_to", "published", "names", "rows", "columns", "row_groups")
"""Keys that map fields to values."""

Condition = str | float | bool | None
"""A value that a field can be compared with."""


def is_text(keys: tuple[str, ...]) -> bool:
    """Whether the values at a path of keys are text: a network called 1.10 is no number."""
    if keys[:1] == ("names",) and len(keys) == 3:
        return True
    above, last = keys[-2:-1], keys[-1]
    return last in _text_columns() if above and above[0] in _CONDITIONS and last not in _TEXTS else last in _TEXTS


@cache
def _text_columns() -> frozenset[str]:
    """The columns of rows that hold text."""
    return frozenset(name for name, hint in get_type_hints(Row).items() if hint in (str, str | None))


def parse_document(text: str, what: str, where: str, keys: Sequence[str], is_text: Callable[[tuple[str, ...]], bool]) -> Mapping[str, Any]:
    """Parses a description, a mapping with the given keys.

    Args:
        text: the YAML.
        what: the kind of description, for error messages.
        where: its origin, for error messages.
        keys: the allowed keys.
        is_text: whether the values at a path of keys are text.
    """
    given = check_mapping(parse_yaml(text, where, is_text).data, f"{what} '{where}'")
    # Keys are checked first, so that a misspelt one is named rather than reported as missing.
    check_keys(given, keys, where)
    return given


def check_choice(kind: str, value: Any, allowed: Iterable[str], where: str) -> str:
    """Returns the value if it is one of the allowed ones."""
    if str(value) not in allowed:
        raise unknown(kind, str(value), allowed, where)
    return str(value)


def check_flag(value: Any, what: str) -> bool:
    """Returns the value if it is a boolean; YAML reads `yes` as true but "yes" as a text, which Python takes for true whatever it says."""
    if not isinstance(value, bool):
        raise UserError(f"{what} is {value!r}; it must be true or false")
    return value


def check_digit(value: Any, what: str) -> int:
    """Returns the value if it is an integer from 0 to 9."""
    # bool is a subclass of int.
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 9:
        raise UserError(f"{what} is {value!r}; it must be an integer from 0 to 9")
    return value


def mapping_at(given: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    """Returns the mapping under a key; empty if the key is absent."""
    return check_mapping(given.get(key) or {}, f"'{key}' of {where}")


def check_mapping(data: Any, what: str) -> Mapping[str, Any]:
    """Returns the data if it is a mapping."""
    if not isinstance(data, Mapping):
        raise UserError(f"{what} is {_type_name(data)}; it must be a mapping of keys to values")
    return data


def check_list(data: Any, what: str) -> Sequence[Any]:
    """Returns the data if it is a list."""
    if not isinstance(data, list):
        raise UserError(f"{what} is {_type_name(data)}; it must be a list")
    return data


def check_values(data: Any, what: str) -> tuple[Condition, ...]:
    """Returns the data if it is a list of scalars."""
    return tuple(_check_condition(value, what) for value in check_list(data, what))


def check_conditions(data: Any, what: str) -> Mapping[str, Condition]:
    """Returns the data if it is empty or a mapping of fields to scalars."""
    return {str(name): _check_condition(value, f"{name} in {what}") for name, value in check_mapping(data or {}, what).items()}


def _check_condition(value: Any, what: str) -> Condition:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise UserError(f"{what} is {_type_name(value)}; it must be a single value")


def _type_name(data: Any) -> str:
    if data is None:
        return "empty"
    return {"dict": "a mapping", "list": "a list", "str": "a string"}.get(type(data).__name__, f"a {type(data).__name__}")


def check_keys(given: Iterable[str], allowed: Sequence[str], where: str) -> None:
    """Raises if a key is unknown."""
    for key in given:
        if key not in allowed:
            raise unknown("key", key, allowed, where)


def check_name(value: Any, where: str) -> str:
    """Returns the name of a table if it can be part of a file name."""
    name = str(value)
    if not name.replace("_", "").replace("-", "").isalnum() or not name.isascii():
        raise UserError(f"name '{name}' of the table '{where}' may contain only letters, digits, - and _")
    return name

"""Parses the YAML description of a table: its rows and columns as conditions on the fields of a store.

`docs/tables.md` documents every key. Most tables of the program (`specs/*.yaml`) and those of users are described this way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from analysis.reference.published import COMPUTE, TABLES
from analysis.store.selection_policy import FALLBACKS, POOLING, Policy
from analysis.store.selection_rule import RULES
from analysis.tables.names import DisplayNames, Name, merged, parse_display_names, parse_name, read_display_names
from analysis.tables.print_options import PrintOptions, parse_print_options
from analysis.tables.yaml_checks import (
    Condition,
    check_choice,
    check_conditions,
    check_digit,
    check_flag,
    check_keys,
    check_list,
    check_mapping,
    check_name,
    check_values,
    is_text,
    mapping_at,
    parse_document,
)
from sap_core.errors import UserError
from sap_core.yaml_files import parse_yaml, read_text

FOLDER = Path(__file__).with_name("specs")

ALL = "all"
"""In `each`: all values in the plan of the store, in its order."""

ASCENDING = "ascending"
"""In `order`: smallest value first."""


@dataclass(frozen=True)
class AxisSpec:
    """One row, column or row group; with `each`, one per combination of values."""

    where: Mapping[str, Condition] = field(default_factory=dict)
    each: Mapping[str, Sequence[Condition] | str] = field(default_factory=dict)
    label: str = ""
    group: str = ""  # columns: the header above a group of columns
    key: str = ""  # columns: the name in CSV; derived from the conditions if empty
    value: str = ""  # columns: the value; that of the table if empty
    rule: str = ""  # columns: the selection rule; that of the table if empty
    span: str = ""  # columns: range of this column of the rows over all searches of the table row
    relative_to: Mapping[str, Condition] = field(default_factory=dict)  # columns: divide by the entry under these conditions
    decimals: int | None = None  # columns
    spread: bool = True  # columns: whether the standard deviation is printed
    optional: bool = False  # rows and columns: left out if empty
    average: bool = False  # rows and columns: the mean of the preceding ones
    reference: bool = False  # rows: never ranked
    rank: bool = True  # columns: whether best and second best are marked
    published: Mapping[str, Condition] | bool = True  # additional conditions on the published numbers; false if there are none


@dataclass(frozen=True)
class TableSpec:
    """The description of one table."""

    name: str
    title: str
    rows: tuple[AxisSpec, ...]
    columns: tuple[AxisSpec, ...]
    row_groups: tuple[AxisSpec, ...] = (AxisSpec(),)
    tables: Mapping[str, Sequence[Condition] | str] = field(default_factory=dict)  # one table per combination of these values
    row_label: str = ""  # header of the row labels
    value: str = "test_acc"
    filter: Mapping[str, Condition] = field(default_factory=dict)
    order: Mapping[str, Sequence[Condition] | str] = field(default_factory=dict)  # of the values that `all` selects
    names: Mapping[str, Mapping[Condition, Name]] = field(default_factory=dict)  # field -> value -> printed name
    at_least: Mapping[str, int] = field(default_factory=dict)  # rows, columns: smaller row groups are left out
    needs: str = ""  # a column of the rows: tables in which it is empty are left out
    selection: Policy = field(default_factory=Policy)
    published: str = ""  # the published table to compare with
    notes: tuple[str, ...] = ()
    print: PrintOptions = field(default_factory=PrintOptions)
    # Kept for generated LaTeX, whose recipe contains the description, so that `lint` can make the table again.
    text: str = field(default="", compare=False)  # the unparsed file


_KEYS_OF_AXIS: Mapping[str, tuple[str, ...]] = {
    "row": ("where", "each", "label", "optional", "average", "reference", "published"),
    "column": (
        "where", "each", "label", "group", "key", "value", "rule", "span", "relative_to", "decimals", "spread", "optional", "average",
        "rank", "published",
    ),
    "row_group": ("where", "each", "label"),
}  # fmt: skip
_SELECTION = ("rule", "over", "fallback")
_AT_LEAST = ("rows", "columns")
_KEYS = tuple(item.name for item in fields(TableSpec) if item.name not in ("text",))
_TEXTS = ("label", "group", "key", "value", "rule", "span")
_FLAGS = ("average", "reference", "rank", "spread", "optional")
_ORDER = (
    "table1", "table2", "table3", "ablation_alpha", "ablation_trusted_size", "ablation_trusted_strategy", "compute", "trusted_size",
    "corrective", "robust", "trainers", "prl", "prune4rel",
)  # fmt: skip


@cache
def shipped() -> tuple[str, ...]:
    """The names of the described tables of the program."""
    found = {path.stem for path in FOLDER.glob("*.yaml")}
    # The paper's order; tables without a place in it follow by name.
    return (*(name for name in _ORDER if name in found), *sorted(found - set(_ORDER)))


@cache
def with_published() -> tuple[str, ...]:
    """The names in `shipped()` that are compared with a published table."""
    return tuple(name for name in shipped() if shipped_spec(name).published)


def is_path(name: str) -> bool:
    """Whether the name of a table is the path of a user's file."""
    return name.endswith((".yaml", ".yml"))


@cache
def shipped_spec(name: str) -> TableSpec:
    """The description of one of `shipped()`."""
    return read(FOLDER / f"{name}.yaml")


@dataclass(frozen=True)
class TableFile:
    """A user's YAML file: a description, or options for a built-in table."""

    table: str  # the name of the built-in table, or of the described one
    print: PrintOptions
    text: str = ""  # the description; empty for a built-in table


def read_file(path: Path) -> TableFile:
    """Reads a user's file: a description, or `table: NAME` of a built-in table with `print` and `names`.

    Raises:
        UserError: see `read`; or a file of names that it refers to cannot be read.
    """
    text = read_text(path)
    given = check_mapping(parse_yaml(text, str(path), is_text).data, f"the table '{path}'")
    names: DisplayNames = {}
    if isinstance(given.get("names"), str):
        # Relative to the file that names it, so that both can be moved together.
        names = read_display_names(path.parent / given["names"])
        # The description goes into generated LaTeX without the path, which another machine need not have.
        given = {key: value for key, value in given.items() if key != "names"}
        text = yaml.safe_dump(dict(given), sort_keys=False, allow_unicode=True)
    if "table" in given:
        check_keys(map(str, given), ("table", "print", "names"), f"{path} (a file with 'table' takes a built-in table)")
        own = parse_display_names(given.get("names"), f"'names' of {path}")
        options = parse_print_options(given.get("print"), f"'print' of {path}")
        return TableFile(str(given["table"]), replace(options, names=merged(merged(names, own), options.names)))
    spec = parse(text, str(path))
    return TableFile(spec.name, replace(spec.print, names=merged(names, spec.print.names)), text)


def read(path: Path) -> TableSpec:
    """Reads a description.

    Raises:
        UserError: the file cannot be read, is not YAML, or has an unknown key or an invalid value.
    """
    return parse(read_text(path), str(path))


def parse(text: str, where: str) -> TableSpec:
    """Parses a description; `where` names its origin in error messages.

    Raises:
        UserError: see `read`.
    """
    given = parse_document(text, "the table", where, _KEYS, is_text)
    for needed in ("name", "title", "rows", "columns"):
        if not given.get(needed):
            raise UserError(f"the table '{where}' has no '{needed}'; it needs name, title, rows and columns")
    published = str(given.get("published") or "")
    if published:
        check_choice("published table", published, (*TABLES, COMPUTE), f"'published' of {where}")
    return TableSpec(
        name=check_name(given["name"], where),
        title=str(given["title"]).strip(),
        rows=_axes(given["rows"], "row", where),
        columns=_axes(given["columns"], "column", where),
        row_groups=_axes(given["row_groups"], "row_group", where) if given.get("row_groups") else (AxisSpec(),),
        tables=_each(mapping_at(given, "tables", where), f"tables of {where}"),
        row_label=str(given.get("row_label") or ""),
        value=str(given.get("value") or "test_acc"),
        filter=check_conditions(given.get("filter"), f"'filter' of {where}"),
        order={
            name: ASCENDING if values == ASCENDING else check_values(values, f"order.{name} of {where}")
            for name, values in mapping_at(given, "order", where).items()
        },
        names={
            name: {
                key: parse_name(value, f"names.{name}.{key} of {where}")
                for key, value in check_mapping(shown, f"names.{name} of {where}").items()
            }
            for name, shown in mapping_at(given, "names", where).items()
        },
        at_least=_at_least(mapping_at(given, "at_least", where), where),
        needs=str(given.get("needs") or ""),
        selection=_selection(mapping_at(given, "selection", where), where),
        published=published,
        notes=tuple(str(note) for note in check_list(given.get("notes") or [], f"'notes' of {where}")),
        print=parse_print_options(given.get("print"), f"'print' of {where}"),
        text=text,
    )


def _axes(data: Any, role: str, where: str) -> tuple[AxisSpec, ...]:
    """Parses rows, columns or row groups; a mapping of fields to values is short for one entry with `each`."""
    if isinstance(data, Mapping):
        # A mapping with a key of an axis is one entry; any other mapping is a product of fields.
        data = [data if set(data) & set(_KEYS_OF_AXIS[role]) else {"each": data}]
    entries = check_list(data, f"'{role}s' of {where}")
    return tuple(_axis_spec(entry, role, f"{role} {number} of {where}") for number, entry in enumerate(entries, 1))


def _axis_spec(data: Any, role: str, where: str) -> AxisSpec:
    given = check_mapping(data, where)
    check_keys(given, _KEYS_OF_AXIS[role], where)
    # Only what is given, so that defaults are declared in `AxisSpec` alone.
    arguments: dict[str, Any] = {name: str(given[name]) for name in _TEXTS if given.get(name) is not None}
    if "rule" in arguments:
        check_choice("rule", arguments["rule"], RULES, where)
    arguments |= {name: check_flag(given[name], f"'{name}' in {where}") for name in _FLAGS if name in given}
    if given.get("decimals") is not None:
        arguments["decimals"] = check_digit(given["decimals"], f"'decimals' in {where}")
    for name in ("where", "relative_to"):
        arguments[name] = check_conditions(given.get(name), f"'{name}' in {where}")
    arguments["each"] = _each(check_mapping(given.get("each") or {}, f"'each' in {where}"), f"each in {where}")
    published = given.get("published", True)
    arguments["published"] = published if isinstance(published, bool) else check_conditions(published, f"'published' in {where}")
    return AxisSpec(**arguments)


def _each(given: Mapping[str, Any], where: str) -> Mapping[str, Sequence[Condition] | str]:
    return {name: ALL if values == ALL else check_values(values, f"{name} of {where}") for name, values in given.items()}


def _at_least(given: Mapping[str, Any], where: str) -> Mapping[str, int]:
    check_keys(given, _AT_LEAST, f"'at_least' of {where}")
    return {name: check_digit(value, f"at_least.{name} of {where}") for name, value in given.items()}


def _selection(given: Mapping[str, Any], where: str) -> Policy:
    check_keys(given, _SELECTION, f"'selection' of {where}")
    policy = Policy(**{name: str(value) for name, value in given.items()})
    for name, value, allowed in (("rule", policy.rule, RULES), ("over", policy.over, POOLING), ("fallback", policy.fallback, FALLBACKS)):
        check_choice(f"selection.{name}", value, allowed, where)
    return policy

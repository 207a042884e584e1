"""Options that change how a finished table is printed: its rows, columns, names, decimals, caption and notes. They apply to every table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from analysis.tables.names import DisplayNames, Name, merged, parse_display_names, parse_name
from analysis.tables.yaml_checks import check_choice, check_digit, check_flag, check_keys, check_list, check_mapping
from sap_core.errors import UserError

NOTES = {"short": "at most five lines, in LaTeX", "full": "all", "none": "none"}
"""Value of the option `notes` -> which notes are printed."""

FONT_SIZES = ("small", "footnotesize", "scriptsize")

LATEX_ONLY = ("body_only", "siunitx", "label", "font_size")
"""Options that have an effect on LaTeX only."""


@dataclass(frozen=True)
class PrintOptions:
    """The options; the defaults change nothing.

    Columns are named by their name in CSV or their printed header, rows by their printed label.
    """

    columns: tuple[str, ...] = ()  # the columns to print besides the row labels, in this order; all if empty
    rows: tuple[str, ...] = ()  # the rows to print, in this order; all if empty
    drop: tuple[str, ...] = ()  # columns and rows that are left out
    rename: Mapping[str, Name] = field(default_factory=dict)  # printed row label, header or title -> new name
    names: DisplayNames = field(default_factory=dict)
    transpose: bool = False  # the columns become rows
    decimals: int | None = None
    spread: bool = True  # whether ± is printed
    notes: str = ""  # a key of NOTES; short in LaTeX and full in other formats if empty
    caption: Name | None = None  # in place of the table's own
    label: str = ""  # of \label, in place of the table's own
    body_only: bool = False  # the tabular without the float around it
    siunitx: bool = False  # S columns
    font_size: str = ""  # one of FONT_SIZES; the largest that fits if empty

    def data(self) -> dict[str, Any]:
        """The options without defaults, in their form in YAML."""
        found: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, tuple):
                value = list(value)
            elif item.name == "rename":
                value = {old: new.data() for old, new in value.items()}
            elif item.name == "names":
                value = {kind: {name: shown.data() for name, shown in own.items()} for kind, own in value.items()}
            elif isinstance(value, Name):
                value = value.data()
            if value not in ([], {}, "", None) and value is not item.default:
                found[item.name] = value
        return found

    def over(self, other: PrintOptions) -> PrintOptions:
        """These options, and those of `other` where these have their defaults; names are merged."""
        given = {item.name: getattr(self, item.name) for item in fields(self) if item.name in self.data()}
        return replace(other, **{**given, "names": merged(other.names, self.names)})


KEYS = tuple(item.name for item in fields(PrintOptions))


def parse_print_options(data: Any, where: str) -> PrintOptions:
    """Parses the options of a mapping.

    Raises:
        UserError: a key is unknown or a value is invalid.
    """
    given = check_mapping(data or {}, where)
    check_keys(map(str, given), KEYS, where)
    arguments: dict[str, Any] = {}
    for name in ("columns", "rows", "drop"):
        if given.get(name) is not None:
            arguments[name] = tuple(map(str, check_list(given[name], f"'{name}' in {where}")))
    for name in ("transpose", "spread", "body_only", "siunitx"):
        if name in given:
            arguments[name] = check_flag(given[name], f"'{name}' in {where}")
    if given.get("decimals") is not None:
        arguments["decimals"] = check_digit(given["decimals"], f"'decimals' in {where}")
    for name, allowed in (("notes", tuple(NOTES)), ("font_size", FONT_SIZES)):
        if given.get(name) is not None:
            arguments[name] = check_choice(name, given[name], allowed, where)
    if given.get("rename"):
        renamed = check_mapping(given["rename"], f"'rename' in {where}")
        arguments["rename"] = {str(old): parse_name(new, f"the new name of '{old}' in {where}") for old, new in renamed.items()}
    if given.get("names"):
        arguments["names"] = parse_display_names(given["names"], f"'names' in {where}")
    if given.get("caption") is not None:
        arguments["caption"] = parse_name(given["caption"], f"'caption' in {where}")
    if given.get("label") is not None:
        arguments["label"] = _label(given["label"], where)
    return PrintOptions(**arguments)


def _label(value: object, where: str) -> str:
    # These characters would end or break \label.
    if not re.fullmatch(r"[^\s{}\\%#~$^&,_]([^\s{}\\%#~$^&,]*[^\s{}\\%#~$^&,_])?", str(value)):
        raise UserError(f"label '{value}' in {where} cannot be used in \\ref; use letters, digits, '-', ':' and '_' inside, as in tab:main")
    return str(value)

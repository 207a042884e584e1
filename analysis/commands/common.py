"""What commands share: where they write, how a name is looked up, how tables are printed."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis.store.load import Results
from analysis.tables.render import Table, latex, markdown, terminal, to_csv
from sap_core.errors import UserError, unknown

FORMATS = ("text", "markdown", "latex", "csv")


def add_output(parser: argparse.ArgumentParser) -> None:
    """The option that says where a command writes."""
    parser.add_argument("--output", type=Path, metavar="DIR", help="the folder to write to; STORE/report (of the first store) unless given")


def output_folder(results: Results, options: argparse.Namespace) -> Path:
    """The folder that a command writes to."""
    return options.output or results.stores[0] / "report"


def named(name: str | None, what: str, known: Mapping[str, object]) -> str:
    """The name that was asked for.

    Raises:
        UserError: it is not known; the sentence lists those that are.
    """
    if name is None or name not in known:
        raise unknown(what, name or "", known, f"sap-report STORE {what} NAME")
    return name


def nothing(results: Results, what: str, name: str) -> UserError:
    """The error for a table or plot that the store has no numbers for."""
    return UserError(f"the store '{results.stores[0]}' has no numbers for the {what} '{name}'")


def shown(tables: Sequence[Table], form: str) -> str:
    """The tables as text, in one of `FORMATS`."""
    if form == "csv":
        return to_csv(tables).rstrip("\n")
    width = max(80, shutil.get_terminal_size((120, 24)).columns)
    forms = {"text": lambda table: terminal(table, width), "markdown": markdown, "latex": latex}
    return "\n".join(forms[form](table) for table in tables)

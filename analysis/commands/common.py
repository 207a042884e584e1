"""Functions that several commands share: the output folder, lookup of names, formatting of tables."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis.store.load import Results
from analysis.tables.latex import latex
from analysis.tables.render import Table, markdown, terminal, to_csv
from sap_core.command_line import path_argument
from sap_core.errors import UserError, unknown

FORMATS = ("text", "markdown", "latex", "csv")


def add_output(parser: argparse.ArgumentParser) -> None:
    """Adds the option --output."""
    parser.add_argument("--output", type=path_argument, metavar="DIR", help="folder to write to (default: report/ in the first store)")


def add_format(parser: argparse.ArgumentParser, formats: Sequence[str] = FORMATS) -> None:
    """Adds the option --format."""
    parser.add_argument("--format", default="text", choices=formats, help="format of the output (default: text)")


def output_folder(results: Results, options: argparse.Namespace) -> Path:
    """The folder to write to: --output, or report/ in the first store."""
    return options.output or results.stores[0] / "report"


def check_name(name: str | None, what: str, known: Mapping[str, object]) -> str:
    """Returns `name` if it is known.

    Raises:
        UserError: the name is missing or unknown; the message lists the known ones.
    """
    if name is None:
        raise UserError(f"the name of a {what} is missing in sap-report STORE {what} NAME; allowed: {', '.join(known)}")
    if name not in known:
        raise unknown(what, name, known, f"sap-report STORE {what} NAME")
    return name


def no_numbers(results: Results, what: str, name: str) -> UserError:
    """The error for a table or plot for which the store has no numbers."""
    return UserError(f"the store '{results.stores[0]}' has no numbers for the {what} '{name}'")


def format_tables(tables: Sequence[Table], form: str) -> str:
    """Formats tables as text in one of `FORMATS`."""
    if form == "csv":
        # All tables in one file with one header, so that it can be read as one data frame.
        return to_csv(tables).rstrip("\n")
    # Narrower terminals wrap lines; a table folded to fewer than 80 characters would have one column per block. 120 where there is no
    # terminal.
    width = max(80, shutil.get_terminal_size((120, 24)).columns)
    forms = {"text": lambda table: terminal(table, width), "markdown": markdown, "latex": latex}
    return "\n".join(forms[form](table) for table in tables)

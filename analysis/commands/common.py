"""Functions that several commands share: the output folder, lookup of names, formatting of tables."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis.store.load import Results
from analysis.tables.csv_text import to_csv
from analysis.tables.latex import latex
from analysis.tables.names import DisplayNames, read_display_names
from analysis.tables.print_options import PrintOptions
from analysis.tables.render import Table, markdown, terminal
from sap_core.command_line import path_argument
from sap_core.errors import UserError, unknown

FORMATS = ("text", "markdown", "latex", "csv")


def add_output(parser: argparse.ArgumentParser) -> None:
    """Adds the option --output."""
    parser.add_argument(
        "--output", "-o", type=path_argument, metavar="DIR", help="folder to write to (default: report/ in the first store)"
    )  # fmt: skip


def add_output_file(parser: argparse.ArgumentParser, text: str) -> None:
    """Adds the option --output of a command that writes one file; `output_file` returns its value."""
    parser.add_argument("--output", "-o", type=path_argument, metavar="FILE", help=text)
    # The form of earlier versions, which goes on working.
    parser.add_argument("file", type=path_argument, nargs="?", metavar="FILE", help=argparse.SUPPRESS)


def output_file(options: argparse.Namespace) -> Path | None:
    """The file to write, or None if none is named.

    Raises:
        UserError: two are.
    """
    if options.output is not None and options.file is not None:
        raise UserError(f"two files are named, '{options.file}' and '{options.output}'; give one, with --output FILE")
    found: Path | None = options.output or options.file
    return found


def add_format(parser: argparse.ArgumentParser, formats: Sequence[str] = FORMATS) -> None:
    """Adds the option --format."""
    parser.add_argument("--format", default="text", choices=formats, help="format of the output (default: text)")


def add_names(parser: argparse._ActionsContainer) -> None:
    """Adds the option --names."""
    parser.add_argument("--names", type=Path, metavar="FILE.yaml", help="printed names of methods, data sets, networks and so on")


def names_in(options: argparse.Namespace) -> DisplayNames:
    """The printed names in the file of --names; none without the option."""
    return {} if options.names is None else read_display_names(options.names)


def output_folder(results: Results, options: argparse.Namespace) -> Path:
    """The folder to write to: --output, or report/ in the first store."""
    return options.output or report_folder(results.stores[0])


def report_folder(store: Path) -> Path:
    """The folder report/ of a store.

    Raises:
        UserError: it is a link that leaves the store: a store may come from elsewhere, and must not choose which files are replaced.
    """
    folder = store / "report"
    if not folder.resolve().is_relative_to(store.resolve()):
        raise UserError(
            f"'{folder}' is a link to '{folder.resolve()}', outside of the store; remove it, or name the folder with --output DIR"
        )
    return folder


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


def format_tables(tables: Sequence[Table], form: str, page: str = "two", options: PrintOptions = PrintOptions()) -> str:  # noqa: B008  # frozen
    """Formats tables as text in one of `FORMATS`; the width on the page and the options of printing are those of LaTeX."""
    if form == "csv":
        # All tables in one file with one header, so that it can be read as one data frame.
        return to_csv(tables).rstrip("\n")
    # Narrower terminals wrap lines; a table folded to fewer than 80 characters would have one column per block. 120 where there is no
    # terminal.
    width = max(80, shutil.get_terminal_size((120, 24)).columns)
    forms = {"text": lambda table: terminal(table, width), "markdown": markdown, "latex": lambda table: latex(table, page, options)}
    return "\n".join(forms[form](table) for table in tables)

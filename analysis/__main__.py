"""`sap-report STORE [table NAME | plot NAME | cost | status]`: reports from a store alone."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis import report
from analysis.load import Results, load
from analysis.render import Table, latex, markdown, terminal, to_csv
from analysis.status import status
from sap_core.errors import UserError, unknown
from sap_core.guard import check_origins

COMMANDS = ("table", "plot", "cost", "status")

_EPILOG = f"""without a command: writes STORE/report/ (tables, plots) and prints the main table
  table NAME   prints one table ({", ".join(report.TABLES)})
  plot NAME    writes one plot to STORE/report/ ({", ".join(report.PLOTS)})
  cost         prints what every search cost
  status       prints how far the sweep is, what failed and what is missing
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code (2 after a mistake of the user's, told in one line)."""
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a screen that knows no such letter as ± shows a question mark
    try:
        check_origins()
        results = load([options.store])
        print(_run(results, options))
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sap-report", description="Reports from a store alone.", epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", type=Path, metavar="STORE", help="the results folder of a sweep, such as results/demo")
    parser.add_argument("command", nargs="?", metavar="COMMAND", help=", ".join(COMMANDS))
    parser.add_argument("name", nargs="?", metavar="NAME", help="which table or plot")
    parser.add_argument("--format", default="text", choices=["text", "markdown", "latex", "csv"], help="how a table is printed")
    return parser


def _run(results: Results, options: argparse.Namespace) -> str:
    """The text to print."""
    folder = results.stores[0] / "report"
    match options.command:
        case None if results.debug:
            return status(results)
        case None:
            paths = report.write_all(results, folder)
            parquet = f"{results.stores[0]}/plan.parquet, rows/ and series/: every number, as Parquet"
            first = report.main_tables(results)
            return "\n".join([_shown(first, "text"), parquet, *(str(path) for path in paths)])
        case "table":
            name = _named(options.name, "table", report.TABLES)
            tables = report.TABLES[name](results)
            if not tables:
                raise UserError(f"the store '{results.stores[0]}' has no numbers for the table '{name}'")
            return _shown(tables, options.format)
        case "cost":
            return _shown(report.TABLES["cost"](results), options.format)
        case "plot":
            name = _named(options.name, "plot", report.PLOTS)
            paths = report.write_plot(results, name, folder)
            if not paths:
                raise UserError(f"the store '{results.stores[0]}' has no numbers for the plot '{name}'")
            return "\n".join(str(path) for path in paths)
        case "status":
            return status(results)
    raise unknown("command", options.command, COMMANDS, "sap-report STORE COMMAND")


def _named(name: str | None, what: str, known: Mapping[str, object]) -> str:
    if name is None or name not in known:
        raise unknown(what, name or "", known, f"sap-report STORE {what} NAME")
    return name


def _shown(tables: Sequence[Table], form: str) -> str:
    if form == "csv":
        return to_csv(tables).rstrip("\n")
    width = max(80, shutil.get_terminal_size((120, 24)).columns)
    forms = {"text": lambda table: terminal(table, width), "markdown": markdown, "latex": latex}
    return "\n".join(forms[form](table) for table in tables)


if __name__ == "__main__":
    sys.exit(main())

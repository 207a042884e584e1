"""The commands of `sap-report`, one module each. May import every folder of `analysis`.

To add a command, write `analysis/commands/NAME.py` and add a line to `COMMANDS`. The module has two functions:

    def add_arguments(parser: argparse.ArgumentParser) -> None  # declares the arguments and options after the command's name
    def run(results: Results, options: argparse.Namespace) -> CommandOutput  # returns the text to print, or (text, exit code)

It may define `COLUMNS` (`ReadsColumns`); then only these columns are read, which matters in stores of a million rows.

A module is imported only when its command runs, so that `status` does not load matplotlib. `parsers` returns the argument parsers of all
commands, from which the documentation and the completion of shells are made.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from typing import Protocol, cast, runtime_checkable

from analysis.store.load import Results
from sap_core.command_line import Parser, path_argument

CommandOutput = str | tuple[str, int]
"""The text to print, with an exit code if it is not 0."""

DEFAULT = "summary"
"""The command that runs if none is given."""

COMMANDS = {
    "summary": "print a small table, the finding in one sentence and the next commands; write nothing (the default command)",
    "all": "write every table, figure and the HTML page to STORE/report/, those that have changed",
    "table": "print one table",
    "plot": "write one plot to STORE/report/",
    "cost": "print the tuning cost of every search by phase",
    "headline": "print the accuracy that tuning reaches and its cost, with their uncertainty",
    "forecast": "compare the forecast and the actual run times of jobs",
    "status": "print the progress of the sweep, its failures and the missing rows",
    "cell": "print the seeds, rows and selected settings that a cell of a table was computed from",
    "macros": "print the main numbers as LaTeX commands for use in prose",
    "claims": "judge a paper's claims (holds, fails, undecided) on the store and on the published numbers",
    "lint": "check generated LaTeX against the store; 'lint published' checks the published tables for consistency",
    "published": "print the published numbers ('published table NAME') and tests on them ('published tests')",
    "html": "write the report as one HTML file, STORE/report/report.html; --watch updates it while the sweep runs",
    "cite": "print BibTeX entries for all methods, data sets, noise types and networks in the store",
    "export": "write all rows to one CSV or Parquet file",
}
"""Name -> description, in the order of the help."""

RENAMED = {"report": "all"}
"""Former name -> name, for the message about a command that no longer exists."""

STORE_OPTIONAL: frozenset[str] = frozenset({"claims", "lint", "published"})
"""Commands that also work without a store; `run` then receives None in place of results."""


class Command(Protocol):
    """A module of this package."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, results: Results, options: argparse.Namespace) -> CommandOutput: ...


@runtime_checkable
class ReadsColumns(Protocol):
    """A command that reads only some columns of rows and plan."""

    COLUMNS: Sequence[str]


def command(name: str) -> Command:
    """Imports the module of a command in `COMMANDS`."""
    # Modules have no common base class, so the protocol is asserted here.
    return cast(Command, import_module(f"{__name__}.{name}"))


def parser(name: str) -> Parser:
    """Returns the argument parser of a command; the stores, which come before the command, are not among its arguments."""
    store = "[STORE]" if name in STORE_OPTIONAL else "STORE"
    built = Parser(f"sap-report {store} {name}", f"{COMMANDS[name][0].upper()}{COMMANDS[name][1:]}.")
    built.help_command = f"sap-report {name} --help"
    command(name).add_arguments(built)
    if "--output" not in built.option_names():
        built.add_argument(
            "--output", "-o", dest="text_file", type=path_argument, metavar="FILE", help="file to write in place of printing the text"
        )  # fmt: skip
    return built


def parsers() -> dict[str, Parser]:
    """Returns the argument parsers of all commands of `sap-report`, by command, in the order of the help; has no side effects."""
    return {name: parser(name) for name in COMMANDS}

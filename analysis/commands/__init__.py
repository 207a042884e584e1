"""What `sap-report` can do: one module per command.

To add a command, write `analysis/commands/NAME.py` and one line below. The module has two functions:

    def add_arguments(parser: argparse.ArgumentParser) -> None    # its words and options, after its name on the command line
    def run(results: Results, options: argparse.Namespace) -> Said  # the text to print, or (text, exit code)

It may define `COLUMNS` (`ReadsColumns`): other columns are not read then, which counts in stores of a million rows.

A module is imported when its command runs and not before, so that `status` loads no matplotlib.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from typing import Protocol, cast, runtime_checkable

from analysis.store.load import Results

Said = str | tuple[str, int]
"""What a command gives back: the text to print, and the exit code where it is not 0."""

DEFAULT = "report"
"""The command that is meant when none is named."""

COMMANDS = {
    "report": "writes STORE/report/ (tables, plots) and prints the main table: what happens without a command, too",
    "table": "prints one table",
    "plot": "writes one plot to STORE/report/",
    "cost": "prints what every search cost",
    "headline": "prints one page in words: what tuning costs, and how sure that is",
    "forecast": "prints how long jobs were said to take, and how long they took",
    "status": "prints how far the sweep is, what failed and what is missing",
    "cell": "lists the seeds, rows and chosen settings behind the cells of a table",
    "macros": "prints the main numbers as LaTeX commands, for prose",
    "lint": "compares generated LaTeX with the store; lint published: what does not agree in the published tables",
    "published": "the published numbers: published tests, published table NAME",
    "html": "writes STORE/report/report.html: everything as one page that needs no network (--watch while a sweep runs)",
    "cite": "prints a .bib file of every method, data set and noise kind that was used",
    "export": "writes every row to one file, CSV or Parquet",
}
"""Name -> what it does, in the order of the help."""

STORELESS: frozenset[str] = frozenset({"lint", "published"})
"""Those that can work without a store: `run` then gets None in place of results."""


class Command(Protocol):
    """A module of this package."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, results: Results, options: argparse.Namespace) -> Said: ...


@runtime_checkable
class ReadsColumns(Protocol):
    """A command that reads some columns of rows and plan alone."""

    COLUMNS: Sequence[str]


def command(name: str) -> Command:
    """The module of a registered command."""
    return cast(Command, import_module(f"{__name__}.{name}"))

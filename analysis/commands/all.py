"""`sap-report STORE all`: writes every table, figure and the HTML page to the report folder; what has not changed is kept."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from analysis.commands.common import add_names, add_output, names_in, output_folder
from analysis.page.build import write_page
from analysis.reports import report
from analysis.reports.outputs import Output, write_outputs
from analysis.reports.status import status
from analysis.store.labels import counted
from analysis.store.load import Results
from analysis.tables.names import DisplayNames, printing
from sap_core.command_line import examples


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_names(parser)
    add_output(parser)
    parser.add_argument("--force", action="store_true", help="make everything again, also what has not changed")
    parser.epilog = examples("sap-report results/demo all", "sap-report results/demo all --output paper/report")


def run(results: Results, options: argparse.Namespace) -> str:
    """Writes the report; for a smoke run, returns only the status."""
    # A smoke run's numbers go into no file that might be mistaken for a result.
    if results.debug:
        return status(results)
    names, folder = names_in(options), output_folder(results, options)
    outputs = [
        *(Output(f"figure {name}", partial(_plot, name=name, names=names)) for name in report.PLOTS),
        *(Output(f"table {name}", partial(_table, name=name, names=names)) for name in report.names_of(results)),
        Output("page", _page, alone=True),
    ]
    shown = {field: {name: printed.data() for name, printed in own.items()} for field, own in names.items()}
    written = write_outputs(results, folder, outputs, shown, options.force)
    unchanged = f", {len(written.unchanged)} unchanged (--force makes them again)" if written.unchanged else ""
    removed = f", {len(written.removed)} removed that the store has no numbers for any more" if written.removed else ""
    return "\n".join([*map(str, written.made), f"{folder}: {counted(len(written.made), 'file')} written{unchanged}{removed}"])


def _plot(results: Results, folder: Path, name: str, names: DisplayNames) -> Sequence[Path]:
    with printing(names):
        return report.write_plot(results, name, folder)


def _table(results: Results, folder: Path, name: str, names: DisplayNames) -> Sequence[Path]:
    return report.write_tables(results, name, folder, names)


def _page(results: Results, folder: Path) -> Sequence[Path]:
    return [write_page(results, folder)]

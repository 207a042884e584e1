"""`sap-report STORE`: every table and plot into the report folder; the main table on the screen."""

from __future__ import annotations

import argparse

from analysis.commands.common import add_output, output_folder, shown
from analysis.reports import report
from analysis.reports.status import status
from analysis.store.load import Results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_output(parser)


def run(results: Results, options: argparse.Namespace) -> str:
    """Writes the report; of a smoke run only the status is shown."""
    if results.debug:
        return status(results)
    paths = report.write_all(results, output_folder(results, options))
    parquet = f"{results.stores[0]}/plan.parquet, rows/ and series/: every number, as Parquet"
    return "\n".join([shown(report.main_tables(results), "text"), parquet, *(str(path) for path in paths)])

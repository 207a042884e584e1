"""`sap-report STORE`: every table and plot into the report folder; the main table on the screen."""

from __future__ import annotations

import argparse

from analysis import report
from analysis.commands.common import add_output, output_folder, shown
from analysis.load import Results
from analysis.status import status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_output(parser)


def run(results: Results, options: argparse.Namespace) -> str:
    """Writes the report; of a smoke run only the status is shown."""
    if results.debug:
        return status(results)
    paths = report.write_all(results, output_folder(results, options))
    parquet = f"{results.stores[0]}/plan.parquet, rows/ and series/: every number, as Parquet"
    return "\n".join([shown(report.main_tables(results), "text"), parquet, *(str(path) for path in paths)])

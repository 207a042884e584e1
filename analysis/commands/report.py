"""`sap-report STORE`: writes all tables and plots to the report folder and prints the main tables."""

from __future__ import annotations

import argparse

from analysis.commands.common import add_names, add_output, format_tables, names_in, output_folder
from analysis.reports import report
from analysis.reports.status import status
from analysis.store.load import Results
from analysis.tables.names import printing
from sap_core.command_line import examples


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_names(parser)
    add_output(parser)
    parser.epilog = examples("sap-report results/demo", "sap-report results/demo report --output paper/report")


def run(results: Results, options: argparse.Namespace) -> str:
    """Writes the report; for a smoke run, returns only the status."""
    # A smoke run's numbers go into no file that might be mistaken for a result.
    if results.debug:
        return status(results)
    names = names_in(options)
    paths = report.write_all(results, output_folder(results, options), names)
    parquet = f"{results.stores[0]}/plan.parquet, rows/ and series/: all numbers as Parquet"
    with printing(names):
        tables = format_tables(report.main_tables(results), "text")
    return "\n".join([tables, parquet, *(str(path) for path in paths)])

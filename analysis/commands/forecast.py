"""`sap-report STORE forecast`: compares the forecast and the actual run times of jobs."""

from __future__ import annotations

import argparse

from analysis.commands.common import add_format, format_tables
from analysis.reports.forecast_accuracy import COLUMNS, forecast
from analysis.store.load import Results
from sap_core.command_line import examples
from sap_core.errors import UserError

__all__ = ["COLUMNS", "add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_format(parser)
    parser.epilog = examples("sap-report results/demo forecast", "sap-report results/demo forecast --format csv")


def run(results: Results, options: argparse.Namespace) -> str:
    tables = forecast(results)
    if not tables:
        raise UserError(
            f"no finished job of '{results.stores[0]}' has a forecast; only sweeps started by this version or later have forecasts"
        )
    return format_tables(tables, options.format)

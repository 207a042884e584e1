"""`sap-report STORE forecast`: how long jobs were said to take, and how long they took."""

from __future__ import annotations

import argparse

from analysis.commands.common import FORMATS, shown
from analysis.reports.forecast_accuracy import COLUMNS, forecast
from analysis.store.load import Results
from sap_core.errors import UserError

__all__ = ["COLUMNS", "add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", default="text", choices=FORMATS, help="how the table is printed")


def run(results: Results, options: argparse.Namespace) -> str:
    tables = forecast(results)
    if not tables:
        raise UserError(
            f"no job of '{results.stores[0]}' was forecast before it ran and has ended; sweeps that are started from now on have forecasts"
        )
    return shown(tables, options.format)

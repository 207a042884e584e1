"""`sap-report STORE headline`: the one-page report on tuning cost, in words and tables."""

from __future__ import annotations

import argparse

from analysis.commands.common import nothing, shown
from analysis.reports.headline_text import headline_tables
from analysis.store.load import Results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", default="text", choices=("text", "markdown", "latex"), help="how the page is printed")


def run(results: Results, options: argparse.Namespace) -> str:
    tables = headline_tables(results)
    if not tables:
        raise nothing(results, "report", "headline")
    return shown(tables, options.format)

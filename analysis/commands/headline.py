"""`sap-report STORE headline`: prints the one-page report on tuning cost."""

from __future__ import annotations

import argparse

from analysis.commands.common import add_format, format_tables, no_numbers
from analysis.reports.headline_tables import headline_tables
from analysis.store.load import Results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_format(parser, ("text", "markdown", "latex"))


def run(results: Results, options: argparse.Namespace) -> str:
    tables = headline_tables(results)
    if not tables:
        raise no_numbers(results, "report", "headline")
    return format_tables(tables, options.format)

"""`sap-report STORE cost`: prints the tuning cost of every search by phase."""

from __future__ import annotations

import argparse

from analysis.commands.common import add_format, format_tables
from analysis.store.load import Results
from analysis.tables.registry import TABLES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_format(parser)


def run(results: Results, options: argparse.Namespace) -> str:
    return format_tables(TABLES["cost"](results), options.format)

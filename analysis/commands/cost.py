"""`sap-report STORE cost`: what every search cost, phase by phase."""

from __future__ import annotations

import argparse

from analysis.commands.common import FORMATS, shown
from analysis.store.load import Results
from analysis.tables.registry import TABLES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", default="text", choices=FORMATS, help="how the table is printed")


def run(results: Results, options: argparse.Namespace) -> str:
    return shown(TABLES["cost"](results), options.format)

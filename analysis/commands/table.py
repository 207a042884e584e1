"""`sap-report STORE table NAME`: one table on the screen."""

from __future__ import annotations

import argparse

from analysis import report
from analysis.commands.common import FORMATS, named, nothing, shown
from analysis.load import Results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help=", ".join(report.TABLES))
    parser.add_argument("--format", default="text", choices=FORMATS, help="how the table is printed")


def run(results: Results, options: argparse.Namespace) -> str:
    name = named(options.name, "table", report.TABLES)
    tables = report.TABLES[name](results)
    if not tables:
        raise nothing(results, "table", name)
    return shown(tables, options.format)

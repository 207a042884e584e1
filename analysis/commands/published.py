"""`sap-report published tests|lint|table NAME`: the published numbers, with no store at all."""

from __future__ import annotations

import argparse

from analysis.commands import table
from analysis.commands.common import shown
from analysis.reference import consistency as published_lint
from analysis.store.load import Results
from analysis.tables.significance import published_tests
from analysis.tables.spec import is_path, with_published
from sap_core.errors import UserError, unknown

WHATS = ("tests", "lint", "table")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", nargs="?", metavar="WHAT", help="tests: SAP against the others in table 1; lint: what does not agree; table NAME"
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help=", ".join(with_published()))
    table.add_options(parser)
    parser.set_defaults(show="published")


def run(results: Results | None, options: argparse.Namespace) -> str:
    if options.what == "tests":
        return shown(published_tests(), options.format)
    if options.what == "lint":
        return published_lint.report()
    if options.what != "table":
        raise unknown("word", options.what or "", WHATS, "sap-report published WORD")
    if options.show != "published":
        raise UserError(
            f"sap-report published table shows published numbers alone; sap-report STORE table {options.name} --show {options.show}"
        )
    if options.name is None or (options.name not in with_published() and not is_path(options.name)):
        raise unknown("published table", options.name or "", with_published(), "sap-report published table NAME")
    return table.run(None, options)

"""`sap-report published tests|lint|table NAME`: prints the published numbers, significance tests on them, and their inconsistencies."""

from __future__ import annotations

import argparse

from analysis.commands import table
from analysis.commands.listing import epilog, table_lines
from analysis.reference import consistency
from analysis.reports.generated_block import PUBLISHED_TESTS, Recipe
from analysis.store.load import Results
from analysis.tables.spec import is_path, with_published
from sap_core.completion import completed_by, one_of
from sap_core.errors import UserError, unknown

ACTIONS = ("tests", "lint", "table")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    action = parser.add_argument(
        "action",
        nargs="?",
        metavar="ACTION",
        help="tests: significance tests of SAP against the other methods of table 1; lint: inconsistencies of the tables; table: one table",
    )
    name = parser.add_argument("name", nargs="?", metavar="NAME", help="for the action table: one of the names below")
    table.add_options(parser)
    parser.set_defaults(show="published")
    completed_by(action, one_of(dict.fromkeys(ACTIONS, "")))
    published = {name: table_lines()[name] for name in with_published()}
    completed_by(name, one_of(published))
    parser.epilog = epilog(
        "published tables", published, "sap-report published table table1", "sap-report published tests", "sap-report published lint"
    )  # fmt: skip


def run(results: Results | None, options: argparse.Namespace) -> str:
    if options.action == "tests":
        recipe = Recipe(PUBLISHED_TESTS, width=options.width or "two", print=table.print_options(options).data())
        return table.format_recipe(recipe, None, options.format)
    if options.action == "lint":
        return consistency.report()
    if options.action != "table":
        raise unknown("action", options.action or "", ACTIONS, "sap-report published ACTION")
    if options.show != "published":
        raise UserError(
            f"sap-report published table has only published numbers; use sap-report STORE table {options.name} --show {options.show}"
        )
    if options.name is None or (options.name not in with_published() and not is_path(options.name)):
        raise unknown("published table", options.name or "", with_published(), "sap-report published table NAME")
    # Without a store, the same table is built from the published numbers alone.
    return table.run(None, options)

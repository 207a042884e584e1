"""`sap-report STORE cell TABLE MATCH ...`: prints the seeds, rows and selected settings that cells of a table were computed from."""

from __future__ import annotations

import argparse

from analysis.commands.common import format_tables, no_numbers
from analysis.commands.listing import epilog, table_lines
from analysis.commands.table import add_selection_options, add_table_name, recipe_of
from analysis.reports import generated_block
from analysis.reports.trace import trace
from analysis.reports.trace_computed import trace_computed
from analysis.store.load import Results
from analysis.tables.registry import TABLES, names
from sap_core.errors import UserError


def _names() -> list[str]:
    return [*names(), generated_block.HEADLINE]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_table_name(parser, "TABLE")
    parser.add_argument(
        "matches",
        nargs="*",
        metavar="MATCH",
        help="field=value, as in method=sap noise_rate=0.25, or a part of the label of a row or column; a cell must match all",
    )
    add_selection_options(parser)
    parser.set_defaults(show="ours", width="two")
    lines = {**table_lines(), generated_block.HEADLINE: "the summary that sap-report STORE headline prints"}
    parser.epilog = epilog("tables", lines, "sap-report results/demo cell comparison method=sap")


def run(results: Results, options: argparse.Namespace) -> str:
    if options.name is None:
        raise UserError(
            f"the name of a table is missing in sap-report STORE cell TABLE MATCH ...; allowed: {', '.join(_names())}, or a YAML file"
        )
    if options.name == generated_block.HEADLINE:
        return _computed(generated_block.Recipe(generated_block.HEADLINE), results, options)
    recipe = recipe_of(options)
    if recipe.spec is None and recipe.table in TABLES:
        return _computed(recipe, results, options)
    return format_tables(trace(generated_block.resolve_spec(recipe), results, options.matches, checked=recipe.spec is not None), "text")


def _computed(recipe: generated_block.Recipe, results: Results, options: argparse.Namespace) -> str:
    tables = generated_block.tables(recipe, results)
    if not tables:
        raise no_numbers(results, "table", recipe.table)
    return format_tables(trace_computed(recipe.table, tables, results, options.matches), "text")

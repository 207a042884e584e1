"""`sap-report STORE cell TABLE WORD ...`: the seeds, rows and chosen settings behind cells of a table."""

from __future__ import annotations

import argparse

from analysis.commands.common import shown
from analysis.commands.table import recipe_of
from analysis.reports import generated_block as recipes
from analysis.reports.trace import trace
from analysis.store.load import Results
from analysis.tables.spec import shipped
from sap_core.errors import unknown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="TABLE", help=f"{', '.join(shipped())}; or a YAML file of your own")
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="field=value (method=sap noise_rate=0.25), or a part of a row's or column's label"
    )
    parser.add_argument("--select", choices=["seed", "pooled"], help="as in the command table")
    parser.add_argument("--rule", help="as in the command table")
    parser.add_argument("--fallback", help="as in the command table")
    parser.set_defaults(show="ours", width="two")


def run(results: Results, options: argparse.Namespace) -> str:
    recipe = recipe_of(options)
    if recipe.spec is None and recipe.table not in shipped():
        raise unknown(
            "described table", recipe.table, shipped(), "sap-report STORE cell (or a YAML file); 'table chosen' lists all that was chosen"
        )
    return shown(trace(recipes.described(recipe), results, options.words, checked=recipe.spec is not None), "text")

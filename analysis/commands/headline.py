"""`sap-report STORE headline [PART]`: prints the one-page report on tuning cost, or one of its tables."""

from __future__ import annotations

import argparse

from analysis.commands.common import add_format
from analysis.commands.table import add_print_options, add_width, format_recipe, print_options
from analysis.reports.generated_block import HEADLINE, Recipe
from analysis.reports.headline_tables import PARTS
from analysis.store.load import Results
from sap_core.command_line import examples


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("part", nargs="?", choices=tuple(PARTS), metavar="PART", help=f"{', '.join(PARTS)} (default: all tables)")
    add_format(parser)
    add_width(parser)
    add_print_options(parser)
    parser.epilog = examples("sap-report results/demo headline", "sap-report results/demo headline --format markdown")


def run(results: Results, options: argparse.Namespace) -> str:
    recipe = Recipe(HEADLINE, width=options.width or "two", print=print_options(options).data(), part=options.part or "")
    return format_recipe(recipe, results, options.format)

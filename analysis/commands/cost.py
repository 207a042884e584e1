"""`sap-report STORE cost`: prints the tuning cost of every search by phase; the same as `sap-report STORE table cost`."""

from __future__ import annotations

import argparse

from analysis.commands.common import add_format
from analysis.commands.table import add_print_options, add_width, format_recipe, print_options
from analysis.reports.generated_block import Recipe
from analysis.store.load import Results
from sap_core.command_line import examples


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_format(parser)
    add_width(parser)
    add_print_options(parser)
    parser.epilog = examples("sap-report results/demo cost", "sap-report results/demo cost --format latex")


def run(results: Results, options: argparse.Namespace) -> str:
    recipe = Recipe("cost", width=options.width or "two", print=print_options(options).data())
    return format_recipe(recipe, results, options.format)

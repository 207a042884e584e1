"""`sap-report STORE cost`: prints the tuning cost of every search by phase."""

from __future__ import annotations

import argparse

from analysis.commands.common import add_format, format_tables
from analysis.reports import generated_block
from analysis.store.load import Results
from analysis.tables.registry import TABLES
from sap_core.command_line import examples


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_format(parser)
    parser.epilog = examples("sap-report results/demo cost", "sap-report results/demo cost --format latex")


def run(results: Results, options: argparse.Namespace) -> str:
    # LaTeX is enclosed in comment lines that `lint` reads.
    if options.format == "latex":
        return generated_block.generated_latex(generated_block.Recipe("cost"), results).rstrip("\n")
    return format_tables(TABLES["cost"](results), options.format)

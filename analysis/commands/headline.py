"""`sap-report STORE headline`: prints the one-page report on tuning cost."""

from __future__ import annotations

import argparse

from analysis.commands.common import add_format, format_tables, no_numbers
from analysis.reports import generated_block
from analysis.reports.headline_tables import headline_tables
from analysis.store.load import Results
from sap_core.command_line import examples


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_format(parser, ("text", "markdown", "latex"))
    parser.epilog = examples("sap-report results/demo headline", "sap-report results/demo headline --format markdown")


def run(results: Results, options: argparse.Namespace) -> str:
    tables = headline_tables(results)
    if not tables:
        raise no_numbers(results, "report", "headline")
    # LaTeX is enclosed in comment lines that `lint` reads.
    if options.format == "latex":
        return generated_block.generated_latex(generated_block.Recipe(generated_block.HEADLINE), results).rstrip("\n")
    return format_tables(tables, options.format)

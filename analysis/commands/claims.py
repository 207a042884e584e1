"""`sap-report [STORE] claims [FILE]`: judges a paper's claims on a store, on the published numbers, or on both."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.claims.judge import FAILS, HOLDS
from analysis.claims.spec import SHIPPED, read
from analysis.claims.table import judgements
from analysis.commands import CommandOutput
from analysis.commands.common import add_format
from analysis.commands.table import add_print_options, add_width, format_recipe, print_options
from analysis.reports.generated_block import CLAIMS, Recipe
from analysis.store.load import Results
from analysis.store.results import refuse_smoke
from sap_core.command_line import examples
from sap_core.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="YAML file of claims (default: those of the SAP paper)")
    parser.add_argument(
        "--on", choices=["store", "published", "both"], help="numbers to judge on (default: both; the published ones without a store)"
    )
    parser.add_argument("--strict", action="store_true", help="exit code 1 also if a claim is undecided or has no evidence")
    add_format(parser)
    add_width(parser)
    add_print_options(parser)
    parser.epilog = examples("sap-report claims", "sap-report results/demo claims --on both", "sap-report claims mine.yaml --strict")


def run(results: Results | None, options: argparse.Namespace) -> CommandOutput:
    """Returns exit code 1 if a claim fails; with --strict, unless every claim holds."""
    if results is None and options.on in ("store", "both"):
        raise UserError(f"--on {options.on} needs a store before the command, as in sap-report results/demo claims --on {options.on}")
    if results is not None:
        refuse_smoke(results)
    claims = read(options.file or SHIPPED)
    show = {"store": "ours", None: "published" if results is None else "both"}.get(options.on, options.on)
    verdicts = [one.verdict for one in judgements(claims, results, show)]
    printed = print_options(options).data()
    recipe = Recipe(CLAIMS, show=show, width=options.width or "two", spec=claims.text if options.file else None, print=printed)
    text = format_recipe(recipe, None if show == "published" else results, options.format)
    failed = FAILS in verdicts
    return text, int(failed or (options.strict and set(verdicts) != {HOLDS}))

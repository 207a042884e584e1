"""`sap-report STORE macros`: prints the main numbers as LaTeX commands."""

from __future__ import annotations

import argparse

from analysis.reports import generated_block
from analysis.reports.macros import MAX_LENGTH, PREFIX
from analysis.store.load import Results
from sap_core.command_line import examples
from sap_core.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prefix", default=PREFIX, metavar="WORD", help="beginning of all names, letters only (default: %(default)s)")
    parser.add_argument(
        "--word",
        action="append",
        default=[],
        metavar="KEY=WORD",
        help="word that stands for a cell, a method or method/space in names, such as --word sap/alpha16=Ours; may be repeated; "
        f"names have at most {MAX_LENGTH} letters",
    )
    parser.epilog = examples("sap-report results/demo macros", "sap-report results/demo macros --prefix Demo")


def run(results: Results, options: argparse.Namespace) -> str:
    words = {}
    for given in options.word:
        # The names of cells contain no equals sign, and neither do words.
        key, equals, word = given.rpartition("=")
        if not equals or not key:
            raise UserError(f"--word {given} has no '='; write --word KEY=WORD, as in --word sap/alpha16=Ours")
        words[key] = word
    recipe = generated_block.Recipe(generated_block.MACROS, prefix=options.prefix, words=words or None)
    return generated_block.generated_latex(recipe, results).rstrip("\n")

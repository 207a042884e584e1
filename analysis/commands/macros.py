"""`sap-report STORE macros`: prints the main numbers as LaTeX commands."""

from __future__ import annotations

import argparse

from analysis.reports import generated_block
from analysis.store.load import Results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: the command has no options."""


def run(results: Results, options: argparse.Namespace) -> str:
    return generated_block.generated_latex(generated_block.Recipe(generated_block.MACROS), results).rstrip("\n")

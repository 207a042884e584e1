"""`sap-report STORE macros`: the main numbers as LaTeX commands."""

from __future__ import annotations

import argparse

from analysis.reports import generated_block as recipes
from analysis.store.load import Results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none."""


def run(results: Results, options: argparse.Namespace) -> str:
    return recipes.generated(recipes.Recipe(recipes.MACROS), results).rstrip("\n")

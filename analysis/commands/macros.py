"""`sap-report STORE macros`: the main numbers as LaTeX commands."""

from __future__ import annotations

import argparse

from analysis import recipes
from analysis.load import Results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none."""


def run(results: Results, options: argparse.Namespace) -> str:
    return recipes.generated(recipes.Recipe(recipes.MACROS), results).rstrip("\n")

"""`sap-report STORE status`: how far the sweep is."""

from __future__ import annotations

import argparse

from analysis.load import Results
from analysis.status import COLUMNS, status

__all__ = ["COLUMNS", "add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none."""


def run(results: Results, options: argparse.Namespace) -> str:
    return status(results)

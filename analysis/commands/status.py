"""`sap-report STORE status`: how far the sweep is."""

from __future__ import annotations

import argparse

from analysis.reports.status import COLUMNS, status
from analysis.store.load import Results

__all__ = ["COLUMNS", "add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none."""


def run(results: Results, options: argparse.Namespace) -> str:
    return status(results)

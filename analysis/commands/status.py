"""`sap-report STORE status`: prints the progress of the sweep, its failures and the missing rows."""

from __future__ import annotations

import argparse

from analysis.reports.status import COLUMNS, status
from analysis.store.load import Results

__all__ = ["COLUMNS", "add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: the command has no options."""


def run(results: Results, options: argparse.Namespace) -> str:
    return status(results)

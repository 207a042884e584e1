"""`sap-report STORE status`: prints the progress of the sweep, its failures and the missing rows."""

from __future__ import annotations

import argparse

from analysis.reports.status import COLUMNS, status
from analysis.store.load import Results
from sap_core.command_line import examples

__all__ = ["COLUMNS", "add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds examples: the command has no options."""
    parser.epilog = examples("sap-report results/demo status")


def run(results: Results, options: argparse.Namespace) -> str:
    return status(results)

"""`sap-report STORE status`: how far the sweep is."""

from __future__ import annotations

import argparse

from analysis.load import Results
from analysis.status import status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none."""


def run(results: Results, options: argparse.Namespace) -> str:
    return status(results)

"""`sap-report STORE html`: the whole report as one HTML file; with --watch again and again while the sweep runs."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from analysis.commands.common import add_output, output_folder
from analysis.page.build import page
from analysis.store.labels import counted
from analysis.store.load import Results, load
from sap_core.errors import UserError
from sap_core.files import save_text

EVERY = 15.0
"""Seconds between two looks at the store, unless given."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_output(parser)
    parser.add_argument(
        "--watch",
        type=float,
        nargs="?",
        const=EVERY,
        metavar="SECONDS",
        help="write it anew while rows are missing, every so many seconds (15)",
    )


def run(results: Results, options: argparse.Namespace) -> str:
    """Writes report.html.

    Raises:
        UserError: the time between two looks is no positive number.
    """
    path = output_folder(results, options) / "report.html"
    if options.watch is None:
        save_text(path, page(results))
        return str(path)
    if not 0 < options.watch < float("inf"):
        raise UserError(f"--watch {options.watch:g} is no time between two looks; give seconds above 0, as in --watch 15")
    return watch(results, path, options.watch)


def watch(results: Results, path: Path, seconds: float, sleep: Callable[[float], None] = time.sleep) -> str:
    """Writes the page whenever the store has changed, until no planned row is missing or the user interrupts."""
    told = -1
    try:
        while True:
            there = len(results.rows)
            if there != told:
                save_text(path, page(results, refresh=seconds))
                print(f"{path}: {there} of {counted(len(results.plan), 'planned row')}", file=sys.stderr)
                told = there
            if results.missing.empty:
                return f"{path}: nothing is missing any more"
            sleep(seconds)
            results = load(results.stores)
    except KeyboardInterrupt:
        return f"{path}: stands as it was written last"

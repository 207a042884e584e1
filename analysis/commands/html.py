"""`sap-report STORE html`: writes the report as one HTML file; --watch updates it while the sweep runs."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from analysis.commands.common import add_names, add_output, names_in, output_folder
from analysis.page.build import PAGE, render_page, write_page
from analysis.store.labels import counted
from analysis.store.load import Results, load
from analysis.tables.print_options import PrintOptions, parse_print_options
from sap_core.command_line import examples
from sap_core.errors import UserError
from sap_core.files import save_text

DEFAULT_INTERVAL = 15.0
"""Default seconds between two reads of the store with --watch."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_names(parser)
    parser.add_argument("--decimals", type=int, metavar="N", help="decimals of all numbers that have some")
    parser.add_argument("--no-spread", action="store_true", help="leave out the standard deviations")
    add_output(parser)
    parser.add_argument(
        "--watch",
        type=float,
        nargs="?",
        const=DEFAULT_INTERVAL,
        metavar="SECONDS",
        help="update the file every SECONDS (default: 15) until no row is missing",
    )
    parser.epilog = examples("sap-report results/demo html", "sap-report results/demo html --watch 15")


def run(results: Results, options: argparse.Namespace) -> str:
    """Writes report.html; returns its path.

    Raises:
        UserError: the interval is not a positive number.
    """
    folder = output_folder(results, options)
    given = {"spread": not options.no_spread} | ({} if options.decimals is None else {"decimals": options.decimals})
    printed = replace(parse_print_options(given, "the options"), names=names_in(options))
    if options.watch is None:
        return str(write_page(results, folder, printed))
    if not 0 < options.watch < float("inf"):
        raise UserError(f"--watch {options.watch:g} is not a positive number of seconds; use for example --watch 15")
    return watch(results, folder / PAGE, options.watch, options=printed)


def watch(
    results: Results,
    path: Path,
    seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    options: PrintOptions = PrintOptions(),  # noqa: B008  # frozen
) -> str:
    """Rewrites the page whenever the number of rows has changed, until no planned row is missing or the user interrupts."""
    # The list of the first reading decides the exit code of the program.
    written, damage = -1, results.damage
    try:
        while True:
            # Said when it appears: a damaged file may be all that is missing, and the page is rendered again only for new rows.
            for sentence in results.damage if written < 0 else [sentence for sentence in results.damage if sentence not in damage]:
                print(f"warning: {sentence}", file=sys.stderr)
            damage.extend(sentence for sentence in results.damage if sentence not in damage)
            stored = len(results.rows)
            # A page is rendered only if rows have come, because that draws every figure.
            if stored != written:
                save_text(path, render_page(results, refresh=seconds, options=options))
                print(f"{path}: {stored} of {counted(len(results.plan), 'planned row')}", file=sys.stderr)
                written = stored
            if results.missing.empty:
                return f"{path}: complete, no planned row is missing"
            sleep(seconds)
            # All columns are read, because the page shows every table.
            results = load(results.stores)
    except KeyboardInterrupt:
        return f"{path}: interrupted; the file shows the last update"

"""`sap-report STORE cite`: a .bib file of every method, data set, noise kind, network, trainer and selector that the store used."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.reports.citations import USED, bibliography, used
from analysis.store.load import Results
from sap_core.files import save_text

COLUMNS = USED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE", help="such as references.bib; printed on the screen unless given")


def run(results: Results, options: argparse.Namespace) -> str:
    """The entries, or where they were written and what has none."""
    text, lacking = bibliography(used(results))
    if options.file is None:
        return text.rstrip("\n")
    save_text(options.file, text)
    without = f"; without a reference: {', '.join(lacking)}" if lacking else ""
    return f"{options.file}: {text.count(chr(10) + '@')} entries{without}"

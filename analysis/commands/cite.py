"""`sap-report STORE cite`: prints or writes BibTeX entries for all methods, data sets, noise types, networks, trainers and pruners used."""

from __future__ import annotations

import argparse

from analysis.commands.common import add_output_file, output_file
from analysis.reports.citations import USED, bibliography, used
from analysis.store.load import Results
from sap_core.command_line import examples
from sap_core.files import save_text

COLUMNS = USED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_output_file(parser, "file to write, such as references.bib (default: standard output)")
    parser.epilog = examples("sap-report results/demo cite", "sap-report results/demo cite --output references.bib")


def run(results: Results, options: argparse.Namespace) -> str:
    """Returns the entries, or the path written and the components without a reference."""
    text, lacking = bibliography(used(results))
    file = output_file(options)
    if file is None:
        return text.rstrip("\n")
    # Written whole or not at all: the file may be part of a paper.
    save_text(file, text)
    without = f"; without a reference: {', '.join(lacking)}" if lacking else ""
    return f"{file}: {text.count(chr(10) + '@')} entries{without}"

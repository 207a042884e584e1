"""`sap-report STORE`: prints a small table, the finding in one sentence, and the next commands. Writes nothing."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from analysis.commands.common import add_names, names_in
from analysis.reports.status import status
from analysis.reports.summary import summary, text
from analysis.store.load import Results
from analysis.tables.names import printing
from sap_core.command_line import examples, shell_word


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_names(parser)
    parser.epilog = examples("sap-report results/demo", "sap-report results/a results/b")


def run(results: Results, options: argparse.Namespace) -> str:
    """Returns the summary; of a smoke run, whose numbers no table shows, the status."""
    if results.debug:
        return status(results)
    # As wide as the terminal, and at least as wide as the small table.
    width = max(80, shutil.get_terminal_size((120, 24)).columns)
    with printing(names_in(options)):
        return text(summary(results), " ".join([_program(), *(shell_word(str(store)) for store in results.stores)]), width)


def _program() -> str:
    """The words that run this program in the current shell, whose PATH need not have the environment's programs."""
    found, own = shutil.which("sap-report"), Path(sys.executable).with_name("sap-report")
    if found is not None and Path(found).exists() and own.exists() and Path(found).samefile(own):
        return "sap-report"
    if own.exists():
        here = os.path.relpath(own)
        return shell_word(str(own) if here.startswith(os.pardir) else here)
    return f"{shell_word(sys.executable)} -m analysis"

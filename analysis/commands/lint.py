"""`sap-report STORE lint FILE.tex`: numbers that were touched. `sap-report lint published`: what does not agree in the published tables."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.commands import Said
from analysis.reference import consistency as published_lint
from analysis.reports.lint import lint
from analysis.store.load import Results
from sap_core.errors import UserError

PUBLISHED = "published"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="LaTeX that sap-report made, or a paper that it was pasted into; or: published"
    )


def run(results: Results | None, options: argparse.Namespace) -> Said:
    """Exit code 1 when a number was touched; the published tables' slips are no failure of anybody who runs this."""
    if options.files == [PUBLISHED]:
        return published_lint.report()
    if results is None:
        raise UserError("sap-report lint FILE needs the store before it, as in sap-report results/demo lint table.tex (or: lint published)")
    found = [lint(Path(name), results) for name in options.files]
    return "\n".join(text for text, _ in found), max(code for _, code in found)

"""`sap-report STORE plot NAME`: one plot into the report folder."""

from __future__ import annotations

import argparse

from analysis.commands.common import add_output, named, nothing, output_folder
from analysis.plots.figures import PAGES
from analysis.reports import report
from analysis.store.load import Results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help=", ".join(report.PLOTS))
    parser.add_argument("--columns", choices=tuple(PAGES), help="as wide as one column of a page, or as two; letters have the same size")
    add_output(parser)


def run(results: Results, options: argparse.Namespace) -> str:
    """Writes the plot and names its files."""
    name = named(options.name, "plot", report.PLOTS)
    paths = report.write_plot(results, name, output_folder(results, options), PAGES.get(options.columns))
    if not paths:
        raise nothing(results, "plot", name)
    return "\n".join(str(path) for path in paths)

"""`sap-report STORE plot NAME`: writes one plot to the report folder."""

from __future__ import annotations

import argparse

from analysis.commands.common import add_output, check_name, no_numbers, output_folder
from analysis.plots.figures import PAGE_WIDTHS
from analysis.reports import report
from analysis.store.load import Results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help=f"one of {', '.join(report.PLOTS)}")
    parser.add_argument("--columns", choices=tuple(PAGE_WIDTHS), help="width of the figure in columns of a page (default: two)")
    add_output(parser)


def run(results: Results, options: argparse.Namespace) -> str:
    """Writes the plot; returns the paths."""
    name = check_name(options.name, "plot", report.PLOTS)
    paths = report.write_plot(results, name, output_folder(results, options), PAGE_WIDTHS.get(options.columns))
    if not paths:
        raise no_numbers(results, "plot", name)
    return "\n".join(str(path) for path in paths)

"""`sap-report STORE plot NAME`: writes one plot to the report folder."""

from __future__ import annotations

import argparse

from analysis.commands.common import add_names, add_output, check_name, names_in, no_numbers, output_folder
from analysis.plots.figures import PAGE_WIDTHS
from analysis.reports import report
from analysis.store.load import Results
from analysis.tables.names import printing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help=f"one of {', '.join(report.PLOTS)}")
    parser.add_argument("--columns", choices=tuple(PAGE_WIDTHS), help="width of the figure in columns of a page (default: two)")
    parser.add_argument("--title", action="store_true", help="draw the title and the caption inside the figure")
    add_names(parser)
    add_output(parser)


def run(results: Results, options: argparse.Namespace) -> str:
    """Writes the plot; returns the paths."""
    name = check_name(options.name, "plot", report.PLOTS)
    with printing(names_in(options)):
        paths = report.write_plot(results, name, output_folder(results, options), PAGE_WIDTHS.get(options.columns), options.title)
    if not paths:
        raise no_numbers(results, "plot", name)
    return "\n".join(str(path) for path in paths)

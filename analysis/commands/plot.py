"""`sap-report STORE plot NAME`: writes one plot to the report folder."""

from __future__ import annotations

import argparse

from analysis.commands.common import add_names, add_output, check_name, names_in, no_numbers, output_folder
from analysis.commands.listing import epilog, plot_lines
from analysis.plots.figures import PAGE_WIDTHS
from analysis.reports import report
from analysis.store.load import Results
from analysis.tables.names import printing
from sap_core.completion import completed_by, one_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    name = parser.add_argument("name", nargs="?", metavar="NAME", help="one of the figures below")
    completed_by(name, one_of(plot_lines()))
    parser.add_argument("--width", choices=tuple(PAGE_WIDTHS), help="columns of a page that the figure spans (default: two)")
    # The word of earlier versions, which goes on working.
    parser.add_argument("--columns", dest="width", choices=tuple(PAGE_WIDTHS), help=argparse.SUPPRESS)
    parser.add_argument("--title", action="store_true", help="draw the title and the caption inside the figure")
    add_names(parser)
    add_output(parser)
    parser.epilog = epilog(
        "figures", plot_lines(), "sap-report results/demo plot tuning_cost", "sap-report results/demo plot tuning_cost --width one"
    )  # fmt: skip


def run(results: Results, options: argparse.Namespace) -> str:
    """Writes the plot; returns the paths."""
    name = check_name(options.name, "plot", report.PLOTS)
    with printing(names_in(options)):
        paths = report.write_plot(results, name, output_folder(results, options), PAGE_WIDTHS.get(options.width), options.title)
    if not paths:
        raise no_numbers(results, "plot", name)
    return "\n".join(str(path) for path in paths)

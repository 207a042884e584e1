"""`sap-sweep classes KEY=VALUE ...`: the number and the name of every class of an experiment's data sets.

The second column is the file that `dataset.class_order=FILE` reads, if its lines are sorted as the outputs of a network.
"""

from __future__ import annotations

import argparse

from sap_core.errors import UserError
from sweeper.commands.common import add_overrides, examples, hydra_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_overrides(parser, "the arguments of the sweep: experiment=NAME and any override")
    parser.epilog = examples(
        "sap-sweep classes experiment=own dataset.folder=shapes dataset.size=32 dataset.num_classes=4",
        "sap-sweep classes experiment=own dataset.folder=shapes dataset.size=32 dataset.num_classes=4 dataset.class_order=natural",
        note="A file for dataset.class_order: append `| cut -f2 > data/order.txt`, sort its lines as the outputs of your network, and set "
        "dataset.class_order=order.txt.",
    )


def run(options: argparse.Namespace) -> int:
    """Prints the classes, one per line, number and name separated by a tab; returns 0.

    Raises:
        UserError: the configuration is invalid, files are missing, or no data set names its classes.
    """
    from sap_core.data.source import DataSet
    from sweeper.config.component import parse_component
    from sweeper.plan.build import compose, sweep_paths
    from sweeper.plan.class_numbers import printable_name, read_class_names, warn_of_classes

    composed = compose(hydra_arguments(options))
    data = sweep_paths(composed.config).data
    # Only the data sets are parsed: networks and methods need not be right yet.
    sets = [parse_component(cell["dataset"], "dataset", DataSet, composed.config.plugins) for cell in composed.cells]
    found = read_class_names(sets, data)
    if not found:
        raise UserError(
            "no data set of this experiment names its classes in files; a folder (dataset=folder) or a table (dataset=table) does"
        )
    for name, classes in found.items():
        if classes is None:
            raise UserError(f"the files of data set {name} do not exist below '{data}'; set paths.data, or put them there")
        if len(found) > 1:
            print(f"# {name}")
        for number, each in enumerate(classes.names):
            print(f"{number}\t{printable_name(each)}")
    warn_of_classes(found)
    return 0

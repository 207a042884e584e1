"""`sap-sweep prepare experiment=NAME`: verifies, builds and downloads the data and weights of an experiment, on a machine with network."""

from __future__ import annotations

import argparse
from pathlib import Path

from sap_core.command_line import home_expanded
from sap_core.errors import UserError, unknown
from sweeper.commands.common import add_overrides, examples, hydra_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_overrides(parser, "experiment=NAME and other overrides of the sweep; dataset.download=true allows the download of data sets")
    parser.add_argument("--download", action="store_true", help="download missing data sets, and weights published by torchvision")
    parser.add_argument(
        "--from", dest="releases", action="append", default=[], metavar="NAME=DIR",
        help="build a data set from its extracted release in DIR, as in --from webvision=DIR; may be repeated",
    )  # fmt: skip
    parser.epilog = examples(
        "sap-sweep prepare experiment=demo",
        "sap-sweep prepare experiment=table1 --download",
        "sap-sweep prepare experiment=table3 --from clothing1m=DIR",
        note="Exit code 1: a file is missing; its line gives the remedy.",
    )


def run(options: argparse.Namespace) -> int:
    """Prints one line per prerequisite; returns 0 if all are present, else 1.

    Raises:
        UserError: the command line or the configuration is invalid.
    """
    from sweeper.plan.build import compose, narrowed
    from sweeper.plan.prerequisites import prepare_all

    # Checked before anything is composed or downloaded.
    releases = _releases(options.releases)
    composed = narrowed(compose(hydra_arguments(options)))
    things = []
    for thing in prepare_all(composed, options.download, releases):
        # Downloads and checksums take minutes, so each line is shown as soon as it is known.
        print(thing.line, flush=True)
        things.append(thing)
    lacking = sum(thing.state == "missing" for thing in things)
    name = composed.config.name
    print(f"{name}: {lacking} of {len(things)} things are missing" if lacking else f"{name}: all {len(things)} things are there")
    return 1 if lacking else 0


def _releases(arguments: list[str]) -> dict[str, Path]:
    from sap_core.data.prepare import SETS

    releases = {}
    for argument in arguments:
        name, _, folder = argument.partition("=")
        if name not in SETS:
            raise unknown("data set", name, SETS, "--from NAME=DIR")
        if not folder:
            raise UserError(f"--from {argument} has no folder; write --from {name}=DIR with the folder of the extracted release")
        releases[name] = home_expanded(folder).absolute()
    return releases

"""`sap-sweep check trainer=NAME | pruner=NAME | method=NAME`: tests one component against its interface's promises."""

from __future__ import annotations

import argparse

from sweeper.commands.common import add_overrides, examples, hydra_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_overrides(
        parser,
        "trainer=NAME, pruner=NAME, method=NAME or method=NAME@SPACE is tested; further overrides set its fields, and plugins=[PACKAGE] "
        "admits a package of your own",
    )
    parser.epilog = examples(
        "sap-sweep check trainer=sgd",
        "sap-sweep check method=scrub@grid_a",
        "sap-sweep check pruner=el2n trainer.epochs=2",
        "sap-sweep check method=refit_head plugins=[examples] --config-dir examples/conf",
        note="Exit code 1: a promise is broken. The test runs on 80 synthetic images and takes seconds.",
    )


def run(options: argparse.Namespace) -> int:
    """Prints one line per promise; returns 1 when one is broken.

    Raises:
        UserError: no component is named, it does not exist, or its settings are wrong.
    """
    from sweeper.contracts.check import run_checks

    return run_checks(hydra_arguments(options))

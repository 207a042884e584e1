"""`sap-sweep check trainer=NAME | pruner=NAME | method=NAME`: runs the contract checks of one component."""

from __future__ import annotations

import argparse

from sweeper.commands.common import add_overrides, examples, hydra_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_overrides(
        parser,
        "the component: trainer=NAME, pruner=NAME, method=NAME or method=NAME@SPACE; further overrides set its fields, and "
        "plugins=[PACKAGE] allows components of your own package",
    )
    parser.epilog = examples(
        "sap-sweep check trainer=sgd",
        "sap-sweep check method=scrub@grid_a",
        "sap-sweep check pruner=el2n trainer.epochs=2",
        "sap-sweep check method=refit_head 'plugins=[examples]' --config-dir examples/conf",
        note="Exit code 1: a check failed. The checks run on 80 synthetic images and take seconds.",
    )


def run(options: argparse.Namespace) -> int:
    """Prints one line per check; returns 1 if one failed.

    Raises:
        UserError: no component is named, it does not exist, or its settings are invalid.
    """
    from sweeper.contracts.check import run_checks

    return run_checks(hydra_arguments(options))

"""`sap-sweep replay STORE search=NAME`: simulates a search many times on a complete grid in a store, without training."""

from __future__ import annotations

import argparse
from pathlib import Path

from sap_core.errors import UserError, at_least, unknown
from sweeper.commands.common import add_overrides, examples, hydra_arguments, store_folder

_OWN = ("repeats", "method", "out")
_KEYS = (*_OWN, "search", "search.KEY", "plugins")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", metavar="STORE", help="the results folder of a sweep with search=grid, such as results/demo")
    add_overrides(
        parser,
        "search=NAME and search.KEY=VALUE: the search; repeats=N: search seeds per baseline (default 100); method=NAME or "
        "method=NAME@SPACE: the grid (default: the largest); out=FILE: also write the numbers to a .csv or .json file",
    )
    parser.epilog = examples(
        "sap-sweep replay results/demo search=random repeats=1000 method=sap",
        "sap-sweep replay results/demo search=tpe search.budget=8 repeats=20 method=scrub out=replay.csv",
    )


def run(options: argparse.Namespace) -> int:
    """Prints one table per cell; returns 0.

    Raises:
        UserError: an unknown key, a store without a complete grid, or a search that cannot be replayed.
    """
    # repeats=, method= and out= look like overrides but are no keys of the configuration, so they are taken out before Hydra sees them.
    own = dict(argument.split("=", 1) for argument in options.overrides if "=" in argument and argument.split("=")[0] in _OWN)
    options.overrides = [argument for argument in options.overrides if argument.split("=")[0] not in own]
    for argument in options.overrides:
        key = argument.split("=")[0].removeprefix("+")
        # Everything else is fixed by the store; an override would be ignored.
        if key.split(".")[0] not in ("search", "plugins"):
            raise unknown("key", key, _KEYS, "sap-sweep replay")
    repeats, out = _number(own.get("repeats", "100")), own.get("out")
    if out is not None and Path(out).suffix not in (".csv", ".json"):
        raise UserError(f"out={out} must end in .csv or .json")
    store = store_folder(options.store)

    from sweeper.config.compose import compose_all
    from sweeper.search.replay_report import report

    report(store, compose_all(hydra_arguments(options)).config, repeats, own.get("method"), out and Path(out))
    return 0


def _number(text: str) -> int:
    try:
        repeats = int(text)
    except ValueError as error:
        raise UserError(f"repeats={text} is not an integer; give the number of search seeds, as in repeats=1000") from error
    at_least("replay", 1, repeats=repeats)
    return repeats

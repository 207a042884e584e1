"""`sap-sweep replay STORE search=NAME`: simulates a search many times on a complete grid in a store, without training."""

from __future__ import annotations

import argparse
from pathlib import Path

from sap_core.command_line import home_expanded
from sap_core.errors import UserError, at_least, unknown
from sweeper.commands.common import add_overrides, add_store, examples, hydra_arguments, store_folder

_OLD = {"repeats": "--repeats", "method": "--method", "out": "--output"}
"""Options that were written as KEY=VALUE in earlier versions, and still may be."""

_KEYS = ("search", "search.KEY", "plugins")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_store(parser, help="the results folder of a sweep with search=grid, such as results/demo")
    add_overrides(parser, "search=NAME and search.KEY=VALUE: the search")
    parser.add_argument("--repeats", metavar="N", help="search seeds per baseline (default: 100)")
    parser.add_argument("--method", metavar="NAME", help="NAME or NAME@SPACE: the grid (default: the largest)")
    parser.add_argument("--output", "-o", metavar="FILE", help="also write the numbers to this .csv or .json file")
    parser.epilog = examples(
        "sap-sweep replay results/demo search=random --repeats 1000 --method sap",
        "sap-sweep replay results/demo search=tpe search.budget=8 --repeats 20 --method scrub --output replay.csv",
    )


def run(options: argparse.Namespace) -> int:
    """Prints one table per cell; returns 0.

    Raises:
        UserError: an unknown key, a store without a complete grid, or a search that cannot be replayed.
    """
    old = dict(argument.split("=", 1) for argument in options.overrides if "=" in argument and argument.split("=")[0] in _OLD)
    for key in old:
        if getattr(options, _OLD[key].removeprefix("--")) is not None:
            raise UserError(f"{key}= and {_OLD[key]} are the same; give {_OLD[key]} alone")
    options.overrides = [argument for argument in options.overrides if argument.split("=")[0] not in old]
    for argument in options.overrides:
        key = argument.split("=")[0].removeprefix("+")
        # Everything else is fixed by the store; an override would be ignored.
        if key.split(".")[0] not in ("search", "plugins"):
            raise unknown("key", key, _KEYS, "sap-sweep replay")
    method, output = options.method or old.get("method"), options.output or old.get("out")
    repeats = _number(options.repeats or old.get("repeats", "100"))
    if output is not None and Path(output).suffix not in (".csv", ".json"):
        raise UserError(f"--output {output} must end in .csv or .json")
    store = store_folder(options.store)

    from sweeper.config.compose import compose_all
    from sweeper.search.replay_report import report

    report(store, compose_all(hydra_arguments(options)).config, repeats, method, None if output is None else home_expanded(output))
    return 0


def _number(text: str) -> int:
    try:
        repeats = int(text)
    except ValueError as error:
        raise UserError(f"--repeats {text} is not an integer; give the number of search seeds, as in --repeats 1000") from error
    at_least("replay", 1, repeats=repeats)
    return repeats

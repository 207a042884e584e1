"""The commands of `sap-sweep`: one module per command, imported when its command runs and not before.

To add a command, write `sweeper/commands/NAME.py` and one line below. The module has two functions:

    def add_arguments(parser: argparse.ArgumentParser) -> None   # its arguments, and `parser.epilog` with examples
    def run(options: argparse.Namespace) -> int                  # the exit code; raises UserError for the user's mistakes

Modules import torch, Ray and Hydra inside `run`, so that `--help` needs none of them.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import NamedTuple, Protocol, cast


class Entry(NamedTuple):
    """One command."""

    module: str  # in this package
    summary: str


COMMANDS = {
    "list": Entry("list_components", "lists every data set, network, trainer, method, experiment, ... with its description"),
    "check": Entry("check", "tests whether a method, trainer or pruner (your own, too) keeps its interface's promises"),
    "prepare": Entry("prepare", "verifies, builds and downloads the data and weights that an experiment reads"),
    "import": Entry("import_bundle", "copies the results of `python -m sweeper.execute BUNDLE` into a store"),
    "rerun": Entry("rerun", "runs the job of one row again and compares the result with the store"),
    "track": Entry("track", "mirrors a store to Weights & Biases (tracking=wandb does it while a sweep runs)"),
    "compact": Entry("compact", "merges a store's many small files; sweeps and readers may go on meanwhile"),
    "replay": Entry("replay", "simulates another search on a complete grid in a store; trains nothing"),
}
"""Name -> module and summary, in the order of the help."""


class Command(Protocol):
    """A module of this package."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, options: argparse.Namespace) -> int: ...


def command(name: str) -> Command:
    """The module of a registered command."""
    return cast(Command, import_module(f"{__name__}.{COMMANDS[name].module}"))

"""The commands of `sap-sweep`: one module per command, imported when the command runs. May import all folders of the sweeper.

To add a command, write `sweeper/commands/NAME.py` with the following two functions, and add a line to `COMMANDS`:

    def add_arguments(parser: argparse.ArgumentParser) -> None   # its arguments, and `parser.epilog` with examples
    def run(options: argparse.Namespace) -> int                  # the exit code; raises UserError for usage errors

Modules import torch, Ray and Hydra inside `run`, so that `--help` is fast and works without them. `parsers` returns the argument parsers
of all commands, from which the documentation and the completion of shells are made.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import NamedTuple, Protocol, cast

from sap_core.command_line import Parser


class Entry(NamedTuple):
    """The module (in this package) and the summary of a command."""

    module: str
    summary: str


DEFAULT = "run"
"""The command that runs if none is named."""

COMMANDS = {
    "run": Entry("run", "run a sweep, or continue it and run only the missing jobs (the default command)"),
    "list": Entry("list_components", "list the data sets, networks, trainers, methods, experiments, ... with a one-line description"),
    "check": Entry("check", "run the contract checks of a method, trainer or pruner, including your own"),
    "own": Entry("own", "correct a network of your own on your own images (the experiment own), and say whether to use the result"),
    "classes": Entry("classes", "print the number and the name of every class of an experiment's folders and tables"),
    "prepare": Entry("prepare", "verify, build and download the data and weights that an experiment needs"),
    "convert": Entry("convert", "extract the weights of a torch checkpoint that contains other objects, without running its code"),
    "export": Entry("export", "write the jobs of a sweep to one file, for `python -m sweeper.execute` without Ray, Hydra and network"),
    "import": Entry("import_bundle", "copy the results of `python -m sweeper.execute BUNDLE` into a store"),
    "rerun": Entry("rerun", "rerun the job of one row and compare the result with the store"),
    "verify": Entry("verify", "compare every file of a store with its checksum; say what is damaged and what would be run again"),
    "track": Entry("track", "mirror a store to Weights & Biases (tracking=wandb does so during a sweep)"),
    "compact": Entry("compact", "merge the many small files of a store; sweeps and readers may continue meanwhile"),
    "replay": Entry("replay", "simulate another search on a complete grid in a store, without training"),
    "completion": Entry("completion", "print the script by which a shell completes the commands, options and stores of all programs"),
}
"""Command -> module and summary, in the order of the help."""


class Command(Protocol):
    """The interface of a command's module."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, options: argparse.Namespace) -> int: ...


def command(name: str) -> Command:
    """Imports the module of a registered command."""
    # Imported by name, so that one command does not pay for the imports of the others.
    return cast(Command, import_module(f"{__name__}.{COMMANDS[name].module}"))


def parser(name: str) -> Parser:
    """Returns the argument parser of a command. Imports its module, and neither torch nor Ray nor Hydra."""
    summary = COMMANDS[name].summary
    built = Parser(f"sap-sweep {name}", f"{summary[0].upper()}{summary[1:]}.")
    command(name).add_arguments(built)
    return built


def parsers() -> dict[str, Parser]:
    """Returns the argument parsers of all commands of `sap-sweep`, by command, in the order of the help; has no side effects."""
    return {name: parser(name) for name in COMMANDS}

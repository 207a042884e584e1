"""Argument parsing shared by the commands."""

from __future__ import annotations

import argparse
from pathlib import Path

from sap_core.command_line import examples as examples  # by this name for the commands
from sap_core.command_line import home_expanded, path_argument
from sap_core.completion import completed_by, similar_store, stores
from sap_core.errors import UserError, unknown
from sap_core.location import HOME
from sweeper.commands.override_completion import overrides


def add_config_dir(parser: argparse.ArgumentParser) -> None:
    """Adds the repeatable option `--config-dir DIR`."""
    parser.add_argument(
        "--config-dir", "-cd", action="append", default=[], type=path_argument, metavar="DIR",
        help="folder with your own YAML files, in subfolders named like the groups (method/, experiment/, ...); may be repeated",
    )  # fmt: skip


def add_store(parser: argparse.ArgumentParser, help: str = "the results folder of a sweep, such as results/demo") -> None:
    """Adds the positional argument STORE."""
    completed_by(parser.add_argument("store", metavar="STORE", help=help), stores)


def add_plugins(parser: argparse.ArgumentParser) -> None:
    """Adds the repeatable option `--plugins NAME,...`, which `sweeper.config.packages.plugins_as_override` reads."""
    parser.add_argument(
        "--plugins", action="append", default=[], metavar="NAME,...",
        help="packages of your own whose classes may be named, or their paths, as in --plugins ~/code/mine; the same as plugins=[NAME,...]",
    )  # fmt: skip


def add_overrides(parser: argparse.ArgumentParser, text: str) -> None:
    """Adds Hydra overrides, with this help text, `--config-dir` and `--plugins`."""
    # Overrides are left to Hydra's grammar; argparse only separates them from options.
    completed_by(parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=text), overrides)
    parser.add_argument(
        "--multirun", "-m", action="store_true", help="cross several values of a key into one sweep, as in noise.rate=0.1,0.25"
    )  # fmt: skip
    add_config_dir(parser)
    add_plugins(parser)


def hydra_arguments(options: argparse.Namespace) -> list[str]:
    """The overrides and config folders of a command line, in the form that `sweeper.config.compose` reads."""
    multirun = ["--multirun"] if options.multirun else []
    return [*multirun, *(f"--config-dir={folder}" for folder in options.config_dir), *options.overrides]


def key_values(arguments: list[str], keys: tuple[str, ...], command: str) -> dict[str, str]:
    """Parses KEY=VALUE arguments.

    Raises:
        UserError: an argument has no `=`, or a key that is not in `keys`.
    """
    found = {}
    for argument in arguments:
        key, sign, value = argument.partition("=")
        if key not in keys:
            raise unknown("key", key, keys, command)
        if not sign:
            raise UserError(f"'{argument}' in {command} has no value; write {key}=VALUE")
        found[key] = value
    return found


def artifacts_beside(store: Path) -> Path:
    """The artifacts folder next to a store, which is the default of sweeps; or else the default of the checkout."""
    # Sweeps write artifacts beside their store by default.
    sibling = store.resolve().parent / "artifacts"
    return sibling if sibling.is_dir() else HOME / "results" / "artifacts"


def store_folder(text: str, file: str = "plan.parquet") -> Path:
    """The path of a store.

    Raises:
        UserError: the folder lacks a file that every store has.
    """
    store = home_expanded(text)
    # A folder that exists may still be any folder, so a file of every store is looked for.
    if not (store / file).is_file():
        raise UserError(
            f"'{store}' is not a store: it has no {file}{similar_store(store)}; give the results folder of a sweep, such as results/demo"
        )
    return store

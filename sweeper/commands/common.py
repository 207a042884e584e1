"""Argument parsing that the commands share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from sap_core.errors import UserError, unknown


class Parser(argparse.ArgumentParser):
    """Reports mistakes as a UserError, in one sentence; options may stand anywhere between the arguments."""

    def __init__(self, prog: str, description: str) -> None:
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(prog=prog, description=description, formatter_class=formatter, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; {self.prog} --help lists its arguments")


def examples(*lines: str, note: str = "") -> str:
    """The epilog of a command's help."""
    return "\n".join(["examples:", *(f"  {line}" for line in lines), *(["", note] if note else [])])


def add_config_dir(parser: argparse.ArgumentParser) -> None:
    """`--config-dir DIR`, any number of times."""
    parser.add_argument(
        "--config-dir", "-cd", action="append", default=[], type=Path, metavar="DIR",
        help="a folder with method/, experiment/ or other groups of your own YAML files; may be repeated",
    )  # fmt: skip


def add_overrides(parser: argparse.ArgumentParser, text: str) -> None:
    """Hydra overrides, and `--config-dir`."""
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=text)
    add_config_dir(parser)


def hydra_arguments(options: argparse.Namespace) -> list[str]:
    """The overrides and config folders of a command line, as `sweeper.config.compose` reads them."""
    return [*(f"--config-dir={folder}" for folder in options.config_dir), *options.overrides]


def settings(words: list[str], keys: tuple[str, ...], command: str) -> dict[str, str]:
    """KEY=VALUE words as a dictionary.

    Raises:
        UserError: a word without `=`, or a key that is not one of `keys`.
    """
    found = {}
    for word in words:
        key, sign, value = word.partition("=")
        if key not in keys:
            raise unknown("key", key, keys, command)
        if not sign:
            raise UserError(f"'{word}' in {command} has no value; write {key}=VALUE")
        found[key] = value
    return found


def store_folder(text: str, file: str = "plan.parquet") -> Path:
    """The results folder of a sweep.

    Raises:
        UserError: it lacks the file that every store has.
    """
    store = Path(text)
    if not (store / file).is_file():
        raise UserError(f"'{store}' is not a store: it has no {file}; give the results folder of a sweep, such as results/demo")
    return store

"""The argument parser of all programs: usage errors and warnings are one sentence, as all other errors. Standard library only."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from sap_core.errors import UserError


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Prints Python's warnings as one line without a place in the code, such as what was read from a checkpoint."""

    def show(message: Warning | str, *others: object, **more: object) -> None:
        print(f"warning: {message}", file=sys.stderr)

    before = warnings.showwarning
    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


class Parser(argparse.ArgumentParser):
    """An argument parser that raises usage errors as `UserError`, so that a program prints them in one line like all others."""

    def __init__(self, prog: str, description: str) -> None:
        formatter = argparse.RawDescriptionHelpFormatter
        # Abbreviated options are refused, because a later option could change their meaning; the epilog keeps its lines.
        super().__init__(prog=prog, description=description, formatter_class=formatter, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raises the message of argparse as `UserError`."""
        # argparse would print the usage and exit.
        raise UserError(f"{message}; {self.prog} --help lists its arguments")


def shell_word(text: str) -> str:
    """A word in the quotes that bash and zsh need, for commands that a message prints: brackets are patterns in zsh."""
    if re.fullmatch(r"[\w@%+=:,./-]+", text, re.ASCII):
        return text
    # Double quotes are easier to read around a word that holds single ones; in them these characters keep their meaning.
    return f'"{text}"' if "'" in text and not re.search(r'["$`\\!]', text) else shlex.quote(text)


def path_argument(text: str) -> Path:
    """The type of an argument that is a path, in which `~` and $HOME at the beginning are the home folder (a shell leaves --output=~/x)."""
    return home_expanded(text)


def home_expanded(text: str) -> Path:
    """The path that a text names; `~`, `~USER`, $HOME and ${HOME} at its beginning are replaced.

    Raises:
        UserError: the home folder is not known.
    """
    try:
        return Path(re.sub(r"^(\$HOME|\$\{HOME\})(?=/|$)", "~", text)).expanduser()
    except RuntimeError as error:
        raise UserError(f"the home folder in the path '{text}' is not known ({error}); write the path out") from error

"""The argument parser of all programs: usage errors and warnings are one sentence, as all other errors. Standard library only."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from sap_core.errors import UserError
from sap_core.text import one_line


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Prints Python's warnings as one line without a place in the code, such as what was read from a checkpoint."""

    def show(message: Warning | str, *others: object, **more: object) -> None:
        print(f"warning: {one_line(str(message))}", file=sys.stderr)

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

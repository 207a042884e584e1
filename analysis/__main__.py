"""`sap-report STORE [STORE ...] [COMMAND [words and options]]`: reports from stores alone. `analysis.commands` has the commands."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from analysis.commands import COMMANDS, DEFAULT, STORELESS, ReadsColumns, command
from analysis.store.load import load
from sap_core.errors import UserError, unknown
from sap_core.guard import check_origins

_HELP = ("-h", "--help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code.

    0: done. 1: the store is damaged, and what is sound was served, with a line on standard error for each thing that is wrong (or what the
    command itself says). 2: a mistake of the user's, told in one line.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not where a test or a notebook has put another stream
            stream.reconfigure(errors="replace")  # a screen that knows no such letter as ± shows a question mark
    try:
        check_origins()
        code = _run(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _run(words: list[str]) -> int:
    stores, name, rest = split(words)
    if not words or (name is None and set(rest) & set(_HELP)):
        print(_help())
        return 0
    name = name or DEFAULT
    chosen = command(name)
    parser = _Parser(prog=f"sap-report STORE {name}", description=COMMANDS[name])
    chosen.add_arguments(parser)
    options = parser.parse_args(rest)
    if not stores and name not in STORELESS:
        raise UserError(f"sap-report {name} needs a store before it: the results folder of a sweep, as in sap-report results/demo {name}")
    results = load(stores, chosen.COLUMNS if isinstance(chosen, ReadsColumns) else None) if stores else None
    said = chosen.run(results, options)  # type: ignore[arg-type]  # those of STORELESS expect None
    text, code = said if isinstance(said, tuple) else (said, 0)
    print(text)
    damage = results.damage if results else []
    for sentence in damage:
        print(f"warning: {sentence}", file=sys.stderr)
    return code or int(bool(damage))


def split(words: Sequence[str]) -> tuple[list[Path], str | None, list[str]]:
    """(stores, the command or None, what follows it). A store whose folder is named like a command is written `./table`.

    Raises:
        UserError: an option stands before the command, or a word is neither a store nor a command.
    """
    place = next((place for place, word in enumerate(words) if word in COMMANDS), None)
    first_option = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    if place is not None and first_option < place and words[first_option] not in _HELP:
        raise UserError(f"options stand after the command: sap-report STORE {words[place]} ... {words[first_option]} ...")
    if place is None or first_option < place:
        place, name, rest = first_option, None, list(words[first_option:])
    else:
        name, rest = words[place], list(words[place + 1 :])
    stores = list(words[:place])
    if name is None and not set(rest) & set(_HELP):
        for word in stores[1:]:
            if not Path(word).is_dir():
                raise unknown("command", word, COMMANDS, "sap-report STORE COMMAND")
    return [Path(word) for word in stores], name, rest


class _Parser(argparse.ArgumentParser):
    """Its mistakes are told as all others are: one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; {self.prog} --help says what it takes")


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {does}" for name, does in COMMANDS.items()]
    return "\n".join(
        [
            "sap-report STORE [STORE ...] [COMMAND ...]: reports from stores alone",
            "",
            "STORE is the results folder of a sweep, such as results/demo; several are read as one.",
            "",
            *lines,
            "",
            "sap-report STORE COMMAND --help says what a command takes.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())

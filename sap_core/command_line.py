"""Common to all programs: output streams that do not end a program, and an argument parser whose errors are one sentence.

Standard library only.
"""

from __future__ import annotations

import argparse
import codecs
import errno
import functools
import io
import itertools
import os
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO

from sap_core.errors import StorageError, UserError, WrongPath, unknown
from sap_core.files import is_system_error
from sap_core.machine import complete_account
from sap_core.text import one_line

OUTPUT_FAILED = 1
"""Exit code of a program that succeeded, but whose standard output could not be written."""


def program(main: Callable[..., int]) -> Callable[..., int]:
    """Decorator of a program's `main`: prepares its output streams and account, and reports an output that could not be written.

    A full, closed or broken standard output or standard error never ends the program: a sweep must not stop because of its messages.
    What goes to a file or a pipe is UTF-8 whatever the locale, unless PYTHONIOENCODING sets another encoding; a terminal shows a question
    mark in place of a character that it does not have. A reader that has exited, such as `head`, is no failure; after any other error of
    standard output the exit code is at least 1. A closed standard output is taken for /dev/null.
    """

    @functools.wraps(main)
    def run(arguments: list[str] | None = None) -> int:
        # With arguments it is a call from Python, not a program.
        if arguments is None and codecs.lookup(sys.getfilesystemencoding()).name == "ascii":
            _start_in_utf8_mode()
        complete_account()
        with _streams() as output:
            try:
                code = main(arguments)
            except SystemExit as ended:  # argparse ends a program after --help like this
                if arguments is not None or not isinstance(ended.code, int | None):
                    raise
                code = ended.code or 0
            if output is not None:
                # Here, where an error can still be reported.
                sys.stdout.flush()
                if output.failure is not None and output.failure.errno != errno.EPIPE:
                    print(
                        f"error: standard output cannot be written ({output.failure.strerror}); not all of it was printed", file=sys.stderr
                    )
                    code = code or OUTPUT_FAILED
            return code

    return run


def report_error(error: UserError | OSError) -> int:
    """Print an error as one sentence; return the exit code: 1 if the machine refused something, such as a full disk, 2 for a usage error.

    Raises:
        OSError: an error of the operating system that is no refusal (`is_system_error`); it is a mistake of the program.
    """
    if isinstance(error, OSError) and not is_system_error(error):
        raise error
    print(f"error: {one_line(str(error))}", file=sys.stderr)
    return 1 if isinstance(error, StorageError | OSError) and not isinstance(error, WrongPath) else 2


def _start_in_utf8_mode() -> NoReturn:
    """Starts this program again, as the same process, in Python's UTF-8 mode (PEP 540), which also covers arguments and file names.

    In the POSIX locale Python enters it by itself, unless PYTHONUTF8=0 or another ASCII locale prevents it. A program whose file names
    are ASCII can neither read a non-ASCII argument nor create such a file.
    """
    environment = {**os.environ, "PYTHONUTF8": "1"}
    if "PYTHONIOENCODING" not in environment and sys.stdout is not None and sys.stdout.isatty():
        environment["PYTHONIOENCODING"] = f"{sys.stdout.encoding}:replace"
    # The option as well, because -I and -E ignore the environment.
    os.execve(sys.executable, [sys.orig_argv[0], "-X", "utf8", *sys.orig_argv[1:]], environment)


class _Output(io.FileIO):
    """A standard stream that keeps its first error and drops everything after it."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self.failure: OSError | None = None

    def write(self, data: Any) -> int:
        if self.failure is None:
            try:
                return super().write(data)
            except OSError as error:
                self.failure = error
        return len(data)


@contextmanager
def _streams() -> Iterator[_Output | None]:
    """Replaces both output streams while the block runs; yields that of standard output, or None if a caller has replaced it before."""
    # Else the next file that is opened would become standard output, and a library's message would be written into it.
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    output = None
    # Tests and notebooks replace the streams by others, which are theirs.
    if sys.stdout is sys.__stdout__:
        output = _Output(1)
        sys.stdout = _text(output, before[0], "replace")
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(_Output(2), before[1], "backslashreplace")
    try:
        yield output
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        sys.stdout, sys.stderr = before


def _text(raw: _Output, before: TextIO | None, errors: str) -> io.TextIOWrapper:
    # The stream is None where the descriptor was closed.
    shown = raw.isatty() or "PYTHONIOENCODING" in os.environ
    encoding = before.encoding if before is not None and shown else "utf-8"
    # Names of files that are not valid UTF-8 keep their bytes where the encoding has all characters.
    handling = "surrogateescape" if encoding.lower().replace("-", "") == "utf8" else errors
    lines = raw.fileno() == 2 or raw.isatty() or bool(getattr(before, "write_through", False))
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, handling, line_buffering=lines)


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
        self.help_command = f"{prog} --help"
        super().__init__(prog=prog, description=description, formatter_class=formatter, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raises the message of argparse as `UserError`."""
        # argparse would print the usage and exit.
        raise UserError(f"{message}; {self.help_command} lists its arguments")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse, but an unknown option is an error, with the nearest one as a suggestion.

        Raises:
            UserError: an option is unknown.
        """
        words = sys.argv[1:] if args is None else [*args]
        # First, because argparse would rather report a required option that was mistyped as missing.
        self.refuse_unknown_options(words)
        return super().parse_known_args(words, namespace)

    def refuse_unknown_options(self, words: Sequence[str]) -> None:
        """Checks the options among the words of a command line.

        Raises:
            UserError: one is unknown; the message names the nearest one.
        """
        known = self._option_string_actions
        for word in itertools.takewhile(lambda word: word != "--", words):
            name = word.split("=")[0]
            # As argparse: a negative number or a text with a space is no option; a short option may be followed by its value.
            is_option = re.match(r"-(?!\d|\.\d|$)", word) and " " not in name
            if is_option and name not in known and (name.startswith("--") or name[:2] not in known):
                raise UserError(f"{unknown('option', name, self.option_names(), self.prog)}; {self.help_command} explains them")

    def option_names(self) -> list[str]:
        """Returns the options in the order of the help, of each the long form."""
        shown = (action for action in self._actions if action.option_strings and action.help != argparse.SUPPRESS)
        return [max(action.option_strings, key=len) for action in shown]

    def positionals(self) -> list[argparse.Action]:
        """Returns the arguments that are no options, in order."""
        return [action for action in self._actions if not action.option_strings]

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As argparse, with the nearest choice as a suggestion."""
        if action.choices is not None and value not in action.choices:
            name = max(action.option_strings, key=len, default=str(action.metavar or action.dest))
            raise unknown("value", value, action.choices, name)


COMMON_OPTIONS = """options:
  -h, --help  print this help; after a command, that of the command
  --version   print the version and the folder of the code"""
"""The options of every program with commands, as its help prints them."""


def examples(*lines: str, note: str = "") -> str:
    """The epilog of a command's help: examples, then a note."""
    return "\n".join(["examples:", *(f"  {line}" for line in lines), *(["", note] if note else [])])


def shell_word(text: str) -> str:
    """A word in the quotes that bash and zsh need, for commands that a message prints: brackets are patterns in zsh."""
    if re.fullmatch(r"[\w@%+=:,./-]+", text, re.ASCII):
        return text
    # Double quotes are easier to read around a word that holds single ones; in them these characters keep their meaning.
    return f'"{text}"' if "'" in text and not re.search(r'["$`\\!]', text) else shlex.quote(text)


def path_argument(text: str) -> Path:
    """The type of an argument that is a path, in which `~` and $HOME at the beginning are the home folder (a shell leaves --output=~/x)."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the path is empty (an unset variable of the shell is); write one")
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

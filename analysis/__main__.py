"""The program `sap-report STORE [STORE ...] [COMMAND [ARGUMENT ...]]`; the commands are in `analysis.commands`."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.commands import COMMANDS, DEFAULT, RENAMED, STORE_OPTIONAL, ReadsColumns, command, parser
from analysis.store.load import load
from sap_core.command_line import COMMON_OPTIONS, examples, home_expanded, program, report_error
from sap_core.completion import answer_shell, completed_by, similar_store, stores
from sap_core.errors import UserError, nearest, unknown
from sap_core.files import save_text
from sap_core.guard import check_start
from sap_core.location import CODE, version_line
from sap_core.text import one_line, visible

HELP_OPTIONS = ("-h", "--help")

EXAMPLE = "example"
"""The argument that names the shipped example in place of a store."""


@program
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code.

    0: success. 1: the store is damaged; the report covers the intact files, and standard error has one line for each problem (or the
    command itself returned 1, or a file cannot be written). 2: usage error, reported in one line. 130: interrupted.
    """
    try:
        # First, because packages with common names (analysis, conf) may be shadowed by others in the working directory.
        check_start()
        return _run(sys.argv[1:] if arguments is None else list(arguments))
    except (UserError, OSError) as error:
        return report_error(error)
    except KeyboardInterrupt:
        return 130


def _run(arguments: list[str]) -> int:
    answer_shell(_parser_of)
    if "--version" in arguments:
        print(version_line())
        return 0
    if arguments and arguments[0] == "help":
        arguments = [*arguments[1:], "--help"]
    if not arguments:
        print(f"{_usage()}\n\n{_example()}")
        return 0
    stores, name, rest = split(arguments)
    if name is None and set(rest) & set(HELP_OPTIONS):
        print(_help())
        return 0
    name = name or DEFAULT
    # Only the module of this command is imported.
    chosen = command(name)
    # Before the arguments are parsed, because the store may be among them.
    if not stores and name not in STORE_OPTIONAL and not set(rest) & set(HELP_OPTIONS):
        late = next((word for word in rest if home_expanded(word).is_dir()), None)
        if late is not None:
            words = shlex.join(["sap-report", late, name, *(word for word in rest if word != late)])
            raise UserError(f"the store comes before the command: {words}")
        raise UserError(
            f"sap-report {name} needs a store before the command, as in sap-report results/demo {name}; sap-report {EXAMPLE} {name} shows "
            "that of the shipped example"
        )
    # The arguments are parsed before the store is read, which may take seconds.
    options = parser(name).parse_args(rest)
    results = load(stores, chosen.COLUMNS if isinstance(chosen, ReadsColumns) else None) if stores else None
    damage = results.damage if results else []
    try:
        output = chosen.run(results, options)  # type: ignore[arg-type]  # commands in STORE_OPTIONAL accept None
        text, code = output if isinstance(output, tuple) else (output, 0)
        # A hyphen is standard output, as in other programs.
        if getattr(options, "text_file", None) not in (None, Path("-")):
            save_text(options.text_file, f"{text}\n")
            text = str(options.text_file)
        # A store may come from elsewhere; its names must not move the cursor or set colours.
        print(visible(text))
    finally:
        # After the report, because a command may find damage while it reads a series; also after an error, whose reason the damage may
        # be. On standard error, so that the output can be piped.
        for sentence in damage:
            print(f"warning: {one_line(sentence)}", file=sys.stderr)
    # A report over a damaged store is complete only in what is intact, which a script must be able to notice.
    return code or int(bool(damage))


def split(arguments: Sequence[str]) -> tuple[list[Path], str | None, list[str]]:
    """Splits the command line into the stores, the command (None if there is none), and the rest.

    The first argument that is the name of a command is the command; a store with such a name is given as `./table`.

    Raises:
        UserError: an option precedes the command, or an argument is neither a store nor a command.
    """
    index = next((index for index, argument in enumerate(arguments) if argument in COMMANDS), None)
    first_option = next((index for index, argument in enumerate(arguments) if argument.startswith("-")), len(arguments))
    # Options belong to commands, so argparse sees only what follows the command.
    if index is not None and first_option < index and arguments[first_option] not in HELP_OPTIONS:
        raise UserError(f"options must follow the command: sap-report STORE {arguments[index]} ... {arguments[first_option]} ...")
    if index is None or first_option < index:
        index, name, rest = first_option, None, list(arguments[first_option:])
    else:
        name, rest = arguments[index], list(arguments[index + 1 :])
    stores = list(arguments[:index])
    if name is None:
        # Without a command every argument is a store. The first one is left to `load`, which names what a store is.
        for number, argument in enumerate(stores):
            if argument in RENAMED and not home_expanded(argument).exists():
                raise UserError(f"the command '{argument}' is now named '{RENAMED[argument]}': sap-report STORE {RENAMED[argument]}")
            if _is_mistyped(argument, first=number == 0):
                raise unknown("command", argument, COMMANDS, "sap-report STORE COMMAND")
    return [_store(argument) for argument in stores], name, rest


def _is_mistyped(argument: str, first: bool) -> bool:
    """Whether an argument that is no folder is a mistyped command rather than a store; the first one is either."""
    if argument == EXAMPLE or "/" in argument or home_expanded(argument).is_dir():
        return False
    return not first or (not similar_store(Path(argument)) and nearest(argument, COMMANDS) is not None)


def _store(argument: str) -> Path:
    """The store that an argument names; `example` is the one of the checkout, unless there is a folder of this name.

    Raises:
        UserError: this copy contains no example.
    """
    if argument != EXAMPLE or Path(EXAMPLE).is_dir():
        return home_expanded(argument)
    if not (CODE / "examples" / "demo" / "plan.parquet").is_file():
        raise UserError(
            "the example is part of a checkout and not of an installed copy; make its results with sap-sweep experiment=demo, then run "
            "sap-report results/demo"
        )
    return CODE / "examples" / "demo"


def _example() -> str:
    """The summary of the shipped example, or how to make its results."""
    try:
        store = _store(EXAMPLE)
    except UserError as error:
        return f"No store is named, and {error}."
    text = command(DEFAULT).run(load([store]), parser(DEFAULT).parse_args([]))
    return (
        f"No store is named: this is the shipped example, {store}.\n\n{visible(str(text))}\n\n"
        f"The word {EXAMPLE} names it, as in sap-report {EXAMPLE} table comparison; sap-sweep experiment=demo computes it."
    )


def _parser_of(words: Sequence[str]) -> tuple[argparse.ArgumentParser, int]:
    """The parser that completes the word after `words`, and how many of them it does not parse."""
    index = next((index for index, word in enumerate(words) if word in COMMANDS), None)
    if index is not None:
        return parser(words[index]), index + 1
    names = COMMANDS if words else {name: COMMANDS[name] for name in COMMANDS if name in STORE_OPTIONAL} | {EXAMPLE: "the shipped example"}
    built = parser(DEFAULT)
    completed_by(built.add_argument("stores", nargs="*"), lambda prefix="", **_: {**stores(prefix), **names})
    return built, 0


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {description}" for name, description in COMMANDS.items()]
    return "\n".join(
        [
            "usage: sap-report STORE [STORE ...] [COMMAND] [ARGUMENT ...]",
            "",
            "Makes tables, plots and reports from the results of sweeps.",
            "",
            "STORE is the results folder of a sweep, such as results/demo; several stores are reported as one.",
            f"The word {EXAMPLE} in its place is the shipped example.",
            "",
            "commands (see sap-report COMMAND --help):",
            *lines,
        ]
    )


def _help() -> str:
    return "\n".join(
        [
            _usage(),
            "",
            COMMON_OPTIONS,
            "",
            examples(
                "sap-report results/demo",
                "sap-report results/demo status",
                "sap-report results/demo table comparison --format latex --output table.tex",
                "sap-report results/demo plot tuning_cost",
                "sap-report example headline",
                note="sap-sweep completion --help has the line that makes bash, zsh or fish complete stores, commands, tables and figures.",
            ),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())

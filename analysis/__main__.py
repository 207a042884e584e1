"""The program `sap-report STORE [STORE ...] [COMMAND [ARGUMENT ...]]`; the commands are in `analysis.commands`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.commands import COMMANDS, DEFAULT, RENAMED, STORE_OPTIONAL, ReadsColumns, command
from analysis.store.load import load
from sap_core.command_line import Parser, home_expanded, program, report_error
from sap_core.errors import UserError, unknown
from sap_core.guard import check_start
from sap_core.location import version_line
from sap_core.text import one_line, visible

HELP_OPTIONS = ("-h", "--help")


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
    if "--version" in arguments:
        print(version_line())
        return 0
    stores, name, rest = split(arguments)
    if not arguments or (name is None and set(rest) & set(HELP_OPTIONS)):
        print(_help())
        return 0
    name = name or DEFAULT
    # Only the module of this command is imported.
    chosen = command(name)
    store = "[STORE]" if name in STORE_OPTIONAL else "STORE"
    parser = Parser(prog=f"sap-report {store} {name}", description=f"{COMMANDS[name][0].upper()}{COMMANDS[name][1:]}.")
    chosen.add_arguments(parser)
    options = parser.parse_args(rest)
    if not stores and name not in STORE_OPTIONAL:
        raise UserError(f"sap-report {name} needs a store before the command, as in sap-report results/demo {name}")
    # The arguments are parsed before the store is read, which may take seconds.
    results = load(stores, chosen.COLUMNS if isinstance(chosen, ReadsColumns) else None) if stores else None
    damage = results.damage if results else []
    try:
        output = chosen.run(results, options)  # type: ignore[arg-type]  # commands in STORE_OPTIONAL accept None
        text, code = output if isinstance(output, tuple) else (output, 0)
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
    if name is None and not set(rest) & set(HELP_OPTIONS):
        # Without a command every argument is a store. The first one is left to `load`, which names what a store is.
        for argument in stores[1:]:
            if argument in RENAMED and not home_expanded(argument).exists():
                raise UserError(f"the command '{argument}' is now named '{RENAMED[argument]}': sap-report STORE {RENAMED[argument]}")
            if not home_expanded(argument).is_dir():
                raise unknown("command", argument, COMMANDS, "sap-report STORE COMMAND")
    return [home_expanded(argument) for argument in stores], name, rest


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {description}" for name, description in COMMANDS.items()]
    return "\n".join(
        [
            "usage: sap-report STORE [STORE ...] [COMMAND] [ARGUMENT ...]",
            "",
            "Makes tables, plots and reports from the results of sweeps.",
            "",
            "STORE is the results folder of a sweep, such as results/demo; several stores are reported as one.",
            "",
            "commands:",
            *lines,
            "",
            "'sap-report STORE COMMAND --help' prints the arguments and options of a command.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())

"""Completion of command lines in bash, zsh and fish, by the library argcomplete: which parser answers, and what completes an argument.

`sap-sweep completion SHELL` prints the script that registers the programs. A shell then starts the program itself with variables of
argcomplete in its environment, so completion costs nothing in other starts. Needs the standard library and, to answer,
argcomplete.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sap_core.errors import nearest

PROGRAMS = ("sap-sweep", "sap-report", "sap-slurm")
SHELLS = ("bash", "zsh", "fish")

Completer = Callable[..., Mapping[str, str]]
"""Called with the keyword argument `prefix`, the word as typed so far (and others); returns the completions with their descriptions."""


def answer_shell(choose: Callable[[Sequence[str]], tuple[argparse.ArgumentParser, int]]) -> None:
    """Answers a shell that asks for completions, and ends the process; does nothing in any other start.

    Args:
        choose: called with the complete words between the program and the cursor; returns the parser of the rest of the line, and the
            number of words, such as that of a command, that come before the arguments of this parser.
    """
    if "_ARGCOMPLETE" not in os.environ:
        return
    import argcomplete
    from argcomplete.lexers import split_line

    # The words that start the program, such as `sap-sweep` or `python -m sweeper.execute`.
    own = int(os.environ["_ARGCOMPLETE"])
    words = split_line(os.environ["COMP_LINE"], int(os.environ["COMP_POINT"]))[3]
    parser, before = choose(words[own:])
    os.environ["_ARGCOMPLETE"] = str(own + before)
    # Options are offered once a hyphen is typed.
    argcomplete.autocomplete(parser, always_complete_options=False)


def script(shell: str) -> str:
    """Returns the script that registers all programs in a shell of `SHELLS`."""
    from argcomplete.shell_integration import shellcode

    return str(shellcode(PROGRAMS, shell=shell))


def completed_by(action: argparse.Action, completer: Completer) -> None:
    """Sets what completes an argument."""
    # The attribute that argcomplete reads.
    action.completer = completer  # type: ignore[attr-defined]


def stores(prefix: str = "", **_: object) -> dict[str, str]:
    """Completes the path of a store: the stores of the folder that is being typed, and folders that may contain some."""
    found = {}
    if not prefix:
        found = {path: "store" for path in stores("results/") if not path.endswith("/")}
    parent, _sign, name = prefix.rpartition("/")
    folder = Path(f"{parent}/" if _sign else ".").expanduser()
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.name.startswith(name) and not path.name.startswith(".") and path.is_dir():
                typed = f"{parent}{_sign}{path.name}"
                found |= {typed: "store"} if (path / "plan.parquet").is_file() else {f"{typed}/": "folder"}
    return found


def similar_store(path: Path) -> str:
    """Returns a hint for an error about a path that is no store: the store that was probably meant, or an empty text."""
    inside = [name for name in stores(f"{path}/") if not name.endswith("/")]
    if path.is_dir():
        return f" (did you mean '{inside[0]}'?)" if len(inside) == 1 else ""
    # A name without a folder may be that of a sweep.
    for folder in dict.fromkeys((path.parent, Path("results"))):
        names = {Path(name).name: name for name in stores("" if folder == Path() else f"{folder}/") if not name.endswith("/")}
        near = nearest(path.name, names)
        if near is not None:
            return f" (did you mean '{names[near]}'?)"
    return ""


def one_of(names: Mapping[str, str]) -> Completer:
    """Completes one of several names, given with their descriptions."""
    return lambda **_: names

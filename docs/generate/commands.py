"""The page of the commands: what `--help` of every program and command prints."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from unittest.mock import patch

from analysis.__main__ import main as report
from analysis.commands import COMMANDS as REPORT_COMMANDS
from docs.generate.text import page
from slurm.__main__ import COMMANDS as SLURM_COMMANDS
from slurm.__main__ import main as slurm
from sweeper.__main__ import main as sweep
from sweeper.commands import COMMANDS as SWEEP_COMMANDS
from sweeper.execute import main as execute

PROGRAMS: dict[str, tuple[Callable[[list[str]], int], Iterable[str]]] = {
    "sap-sweep": (sweep, SWEEP_COMMANDS),
    "sap-report": (report, REPORT_COMMANDS),
    "sap-slurm": (slurm, SLURM_COMMANDS),
    "python -m sweeper.execute": (execute, ()),
}
"""Program -> its main function and its commands."""

_INTRO = (
    "What `--help` prints, for each program and command. [Commands by task](../commands.md) has an example of each, and the exit codes. "
    "`--version` of every program prints the version and the folder of the code."
)


def commands_page() -> str:
    """The page."""
    parts = [_INTRO]
    for program, (main, commands) in PROGRAMS.items():
        parts += [f"## {program}", _help(main, ["--help"])]
        for command in commands:
            parts += [f"### {program} {command}", _help(main, [command, "--help"])]
    return page("Commands", *parts)


def _help(main: Callable[[list[str]], int], arguments: list[str]) -> str:
    # argparse folds its lines at the width of the terminal.
    with patch.dict(os.environ, {"COLUMNS": "110"}), redirect_stdout(io.StringIO()) as shown:
        try:
            code = main(arguments)
        except SystemExit as end:
            code = int(end.code or 0)
    if code:
        raise RuntimeError(f"{' '.join(arguments)} ended with exit code {code}")
    return f"```text\n{shown.getvalue().rstrip()}\n```"

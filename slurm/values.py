"""Formats of the values in cluster files: times, sizes, paths, sbatch options. Pure functions, standard library only."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from sap_core.errors import UserError

RESERVED_OPTIONS = (
    "array", "chdir", "cpus-per-gpu", "cpus-per-task", "error", "export", "export-file", "gpus", "gpus-per-node", "gpus-per-task", "gres",
    "input", "job-name", "mem", "mem-per-cpu", "mem-per-gpu", "nodes", "ntasks", "ntasks-per-node", "open-mode", "output", "parsable",
    "requeue", "no-requeue", "signal", "test-only", "time", "wait", "wrap", "partition", "account", "qos", "constraint",
)  # fmt: skip
"""sbatch options that are set by a key of the cluster file or by the job's mode."""

_IN_FULL = ("clusters", "comment", "reservation")  # options that submissions and their records depend on

# Lists of allowed characters rather than of forbidden ones: these values are written unquoted into #SBATCH lines.
PLAIN = re.compile(r"[A-Za-z0-9_.,:@%+=/\-]+")
CONSTRAINT = re.compile(r"[A-Za-z0-9_.,:@%+=/\-&|*\[\]()!]+")
TIME = re.compile(r"\d+|\d+:\d+(:\d+)?|\d+-\d+(:\d+){0,2}|(?i:unlimited|infinite)")
MEMORY = re.compile(r"\d+([KMGTkmgt][Bb]?)?")
_VARIABLE = r"\$[A-Za-z_][A-Za-z0-9_]*|\$\{[A-Za-z_][A-Za-z0-9_]*\}"
# Variables are allowed in a path, because scratch folders depend on the job; command substitution is not.
PATH = re.compile(rf"(~|/[A-Za-z0-9_.@%+=\-]+|{_VARIABLE})(/([A-Za-z0-9_.@%+=\-]|{_VARIABLE})+)*")
_OPTION = re.compile(
    r"--([a-z][a-z-]*)(=[A-Za-z0-9_.,:@%+=/\-&|*\[\]()]([A-Za-z0-9_.,:@%+=/\-&|*\[\]() ]*[A-Za-z0-9_.,:@%+=/\-&|*\[\]()])?)?"
)
UNLIMITED = 60 * 10**7
"""Number of seconds that represents a job without a time limit."""


def parse_time(time: str) -> int:
    """Convert a Slurm time limit (M, M:S, H:M:S, D-H, D-H:M or D-H:M:S) to seconds; 0, UNLIMITED and INFINITE are no limit."""
    if not time[:1].isdigit():
        return UNLIMITED
    # With days the parts count from hours, without them from minutes: sbatch's own rule.
    days, dash, rest = time.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
        return int(days) * 86400 + hours * 3600 + minutes * 60 + seconds
    if len(parts) == 3:
        return parts[0] * 3600 + parts[1] * 60 + parts[2]
    return parts[0] * 60 + (parts[1] if len(parts) == 2 else 0)


def time_limit(time: str) -> int:
    """Return the seconds of a limit as sbatch grants it: whole minutes, rounded up, and no limit for 0."""
    seconds = parse_time(time)
    return -(-seconds // 60) * 60 if seconds else UNLIMITED


def format_time(seconds: int) -> str:
    """Convert seconds to a Slurm time limit, rounded down to whole minutes."""
    # Rounded down, because the result is used as a limit that must end before something else begins.
    minutes = max(0, seconds) // 60
    days, hours = divmod(minutes // 60, 24)
    return f"{days}-{hours:02}:{minutes % 60:02}:00" if days else f"{hours:02}:{minutes % 60:02}:00"


def normalise_option(line: str) -> str:
    """Return an sbatch option of a cluster file as --NAME=VALUE without quotes: `--comment "a b"` becomes `--comment=a b`."""
    found = re.fullmatch(r"""(--[a-z][a-z-]*)(?:=|[ ]+)(?:"([^"]*)"|'([^']*)'|([^"'\s].*))""", line.strip())
    if not found:
        return line
    value = next(text for text in found.groups()[1:] if text is not None)
    # A list of words, which sbatch reads without spaces alone.
    return f"{found[1]}={value.replace(' ', '') if found[1] == '--mail-type' else value}"


def check_options(lines: Sequence[str], where: str) -> None:
    """Check the further sbatch options of a cluster file.

    Raises:
        UserError: an entry is not one option, sets what a key or the mode sets, or is there twice.
    """
    seen: set[str] = set()
    for line in lines:
        # One option per entry without newlines: a newline would start a line of the user's own in the script.
        found = _OPTION.fullmatch(line)
        if not found:
            raise UserError(
                f"{where}: sbatch contains {line!r}; each entry must be one option without spaces, except in its value, as in "
                "--exclude=n1,n2 or --comment=my project"
            )
        # Two values of one option in a script would leave open which one counts.
        if found[1] in RESERVED_OPTIONS:
            raise UserError(f"{where}: sbatch contains {line!r}, which is set by another key or by the mode; remove it")
        # sbatch takes any unambiguous beginning of an option.
        whole = next((one for one in (*RESERVED_OPTIONS, *_IN_FULL) if one.startswith(found[1]) and one != found[1]), None)
        if whole:
            raise UserError(f"{where}: sbatch contains {line!r}, which sbatch may read as --{whole}; write the name of the option in full")
        if found[1] in seen:
            raise UserError(f"{where}: sbatch contains --{found[1]} twice; remove one of them")
        seen.add(found[1])


def shell_words(command: str) -> str:
    """Return a command of a cluster file for bash: words are quoted, but $VARIABLES and a leading `~` are expanded on the node."""
    return " ".join(shell_word(word) for word in shlex.split(command))


def shell_word(word: str) -> str:
    """Return one word for bash, as `shell_words` does."""
    if word == "~" or word.startswith("~/"):
        word = f"$HOME{word[1:]}"
    # Alternating text and variables; only names of variables are left to the shell.
    parts = re.split(rf"({_VARIABLE})", word)
    quoted = [f'"{part}"' if index % 2 else shlex.quote(part) for index, part in enumerate(parts) if part]
    return "".join(quoted) or "''"

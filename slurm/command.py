"""Run Slurm's commands, in an environment without the variables that change what they do. Standard library only."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sap_core.errors import UserError

# Input variables of sbatch, squeue, scancel, sinfo, scontrol and srun, and what an outer job leaves behind (SLURM_JOB_ID, ...). They take
# precedence over the lines of a batch script (sbatch(1)), so a forgotten one would change what is submitted.
_PREFIXES = ("SBATCH_", "SLURM_", "SLURMD_", "SQUEUE_", "SCANCEL_", "SINFO_", "SCONTROL_", "SALLOC_", "SRUN_")
# Where the controller is and how to prove who asks; without these no command works.
_KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SLURM_SACK_KEY", "SLURM_SACK_JWKS")
# Set by Slurm in every job; their absence changes no submission, so they are counted and not listed.
_OUTER_JOB = ("SLURM_", "SLURMD_")

_TRANSIENT = re.compile(r"(?i)unable to contact|timed out|try again|temporarily|communication|connection|zero bytes|not connected")
# "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", and the like. "Requested time limit is invalid"
# is no limit on the number of jobs.
_LIMIT = re.compile(r"(?i)policy|quota|submit limit|job limit|MaxSubmit|MaxJobs|too many jobs|job array.*(limit|large)")


class SlurmError(UserError):
    """A Slurm command failed. `over_limit`: because of a limit on the number of jobs."""

    def __init__(self, text: str, over_limit: bool = False) -> None:
        super().__init__(text)
        self.over_limit = over_limit


@dataclass(frozen=True)
class Answer:
    """The end of a Slurm command. `code` is None if it was stopped because it had not answered in time."""

    program: str
    code: int | None
    output: str
    errors: str
    seconds: float

    @property
    def message(self) -> str:
        """The command's own words, on one line."""
        # Some commands print their error to standard output.
        text = " ".join((self.errors or self.output).split())
        if self.code is None:
            return f"no answer within {self.seconds:g} s" + (f"; its last words: {text}" if text else "")
        return text or f"exit code {self.code}"

    @property
    def transient(self) -> bool:
        """Whether the controller could not be reached or did not answer, so that the outcome of a submission is not known."""
        return self.code is None or bool(_TRANSIENT.search(self.message))

    @property
    def over_limit(self) -> bool:
        """Whether the command was refused because of a limit on the number of jobs."""
        return self.code is not None and bool(_LIMIT.search(self.message))


def clean_environment(environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return (the environment for Slurm's commands, the names of the variables that were left out, sorted)."""
    # TZ and locale stay; times are read in the zone in which squeue prints them.
    dropped = sorted(name for name in environment if name.startswith(_PREFIXES) and name not in _KEPT)
    return {name: value for name, value in environment.items() if name not in dropped}, dropped


def describe_dropped(dropped: Sequence[str]) -> str | None:
    """Return a sentence about variables that were left out; None if nothing worth saying was."""
    named = [name for name in dropped if not name.startswith(_OUTER_JOB)]
    # Two variables of this prefix are options that a user sets by hand.
    named += [name for name in ("SLURM_CLUSTERS", "SLURM_HINT") if name in dropped]
    outer = len(dropped) - len(named)
    parts = [", ".join(named)] if named else []
    parts += [f"{outer} {'variable' if outer == 1 else 'variables'} SLURM_* of the surrounding job or shell"] if outer else []
    if not parts:
        return None
    return f"ignored in the environment: {' and '.join(parts)}; options come from the cluster file and cluster.KEY=VALUE alone"


def ask(*arguments: str, stdin: str | None = None, seconds: float = 60.0) -> Answer:
    """Run a Slurm command once and return how it ended.

    Raises:
        SlurmError: the command is not installed.
    """
    program = arguments[0]
    # Asked before it is run, so that the message names the remedy instead of FileNotFoundError.
    if shutil.which(program) is None:
        raise SlurmError(f"{program} is not installed here; run this on a login node of the cluster")
    environment, _ = clean_environment(os.environ)
    try:
        done = subprocess.run(
            arguments, input=stdin, capture_output=True, encoding="utf-8", errors="replace", check=False, timeout=seconds, env=environment
        )
    except subprocess.TimeoutExpired as error:
        # What it printed until then names the reason, such as a full queue at which sbatch waits.
        return Answer(program, None, _text(error.stdout), _text(error.stderr), seconds)
    except OSError as error:
        raise SlurmError(f"{program} cannot be run ({error.strerror or error}); run this on a login node of the cluster") from error
    return Answer(program, done.returncode, done.stdout, done.stderr, seconds)


def run_command(*arguments: str, stdin: str | None = None) -> str:
    """Run a Slurm command and return its output. It is tried three times while the controller cannot be reached.

    Raises:
        SlurmError: the command is not installed, does not answer for 60 s, or fails; the message repeats the command's own.
    """
    # A busy controller answers a moment later; two short pauses cover that without making a real failure slow.
    for pause in (0.3, 1.0, None):
        answer = ask(*arguments, stdin=stdin)
        # Wrappers of some sites end with code 0 whatever happened; Slurm's own errors begin with the program's name.
        failed = answer.code != 0 or re.search(rf"(?m)^(slurm_\w+ error|{re.escape(answer.program)}: (error|fatal)):", answer.errors)
        if not failed:
            return answer.output
        if pause is None or answer.code is None or not answer.transient:
            break
        time.sleep(pause)
    if answer.code is None:
        raise SlurmError(f"{answer.program} failed: {answer.message}; check with sinfo that the Slurm controller is up")
    raise SlurmError(f"{answer.program} failed: {answer.message}", over_limit=answer.over_limit)


def _text(output: str | bytes | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""

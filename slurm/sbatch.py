"""Call sbatch once per submission: its options, its answer, and the search for a job whose answer was lost. Standard library only."""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Callable, Sequence

from slurm.command import Answer, SlurmError, ask
from slurm.queue import find_tag

SECONDS = 180.0
"""Time limit for sbatch. With a full queue it repeats its request for two minutes itself before it gives up."""

LOOKUP_PAUSES = (0.2, 0.8, 2.0)
"""Seconds before each look at the queue: the controller may still be working on a request whose sender has given up."""

# The request was not sent, or was refused after it had been read.
_NOT_ACCEPTED = re.compile(r"(?i)connect failure|connection refused|temporarily unable to accept")


def options_of(script: str) -> list[str]:
    """Return the options of a script's #SBATCH lines.

    They are given on the command line as well, where they take precedence over everything that a site or a user may have configured.
    """
    lines = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")]
    return [option for line in lines for option in shlex.split(line)]


def sbatch(script: str, tag: str, log: Callable[[str], None]) -> tuple[str, str | None]:
    """Submit a batch script.

    The answer of sbatch may be lost although the job was accepted (a time-out, text of a site around the id, no output). The job is then
    looked up by its tag, and submitted again only if it is not in the queue.

    Args:
        script: text of the script, passed by standard input, so that no file is left behind.
        tag: the tag of the submission, which the name and the comment of the job contain; empty: nothing can be looked up.
        log: gets a line when an answer was lost.

    Returns:
        (job id, cluster that accepted it; None: the one that sbatch is configured for).

    Raises:
        SlurmError: sbatch rejected the job; or its answer was lost and the job is not in the queue (`LostAnswer`).
    """
    options = options_of(script)
    for attempt in (1, 2, 3):
        answer = ask("sbatch", "--parsable", *options, stdin=script, seconds=SECONDS)
        found = ids_of(answer.output)
        # The id counts even if sbatch failed afterwards (--wait of a site's wrapper returns the job's own exit code).
        if len(found) == 1:
            return found[0]
        rejected = answer.code not in (0, None) and (not answer.transient or _NOT_ACCEPTED.search(answer.message))
        if not rejected:
            job = _look_up(answer, tag, options)
            if job is not None:
                log(f"sbatch gave no clear answer ({answer.message}); the job was found in the queue by its tag: {job[0]}")
                return job
        # Only a request that got lost on its way is worth repeating: sbatch itself waits while the queue is full.
        if attempt == 3 or answer.code in (0, None) or not answer.transient or "unable to accept" in answer.message:
            break
        if rejected:
            time.sleep(LOOKUP_PAUSES[1])
    if rejected:
        raise SlurmError(f"sbatch failed: {answer.message}", over_limit=answer.over_limit)
    said = f"sbatch printed no job id ({answer.message})" if answer.code == 0 else f"sbatch failed: {answer.message}"
    raise LostAnswer(f"{said}; no job with the tag {tag} is in the queue, and nothing more was submitted")


class LostAnswer(SlurmError):
    """The answer of sbatch was lost: the job may still appear in the queue, or it is not known whether it is there."""


def _look_up(answer: Answer, tag: str, options: Sequence[str]) -> tuple[str, str | None] | None:
    """Return the id and the cluster (as `sbatch`) of the job with this tag; None if squeue answers and does not list it.

    Raises:
        LostAnswer: squeue does not answer.
    """
    if not tag:
        return None
    named = [option.partition("=")[2] for option in options if option.startswith("--clusters=")]
    clusters: list[str | None] = list(named[-1].split(",")) if named else [None]
    for pause in LOOKUP_PAUSES:
        time.sleep(pause)
        try:
            for cluster in clusters:
                # One by one, because the cluster is not among the columns.
                entries = find_tag(os.geteuid(), tag, *([f"--clusters={cluster}"] if cluster else []))
                if entries:
                    return entries[0].base, None if cluster == "all" else cluster
        except SlurmError as error:
            raise LostAnswer(
                f"it is not known whether the job was accepted: sbatch said '{answer.message}', and {error}; nothing more was submitted, "
                f"and sap-slurm status looks for the job by its tag {tag} once squeue answers"
            ) from error
    return None


def ids_of(output: str) -> list[tuple[str, str | None]]:
    """Return the (job id, cluster) pairs in the output of sbatch, each once; the cluster follows the id after a semicolon."""
    # Whole lines only: sites print notices with numbers in them.
    found = re.findall(r"(?m)^[ \t]*(?:Submitted batch job )?(\d+)(?:;(\S*)|[ ]on cluster (\S+))?[ \t\r]*$", output)
    return list(dict.fromkeys((job, one or other or None) for job, one, other in found))

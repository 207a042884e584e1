"""Why batch jobs of a sweep failed: Slurm's reason, recorded exit codes, and the last sentence of each log. Standard library only."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from slurm.attempt import Attempts, log_of
from slurm.batch import FAILED_STARTS
from slurm.queue import QueueEntry
from slurm.submission import Submission

MAX_LINES = 10
_TAIL_BYTES = 16_384
_TELLING = re.compile(r"(?i)error|exception|cannot|can't|no such|not found|denied|killed|fatal|unbound variable|CANCELLED AT|out of memory")
_LENGTH = 300
_ALL_DONE = (0, 1)  # exit codes of a task that has nothing left to do; 1 says that a job of the sweep failed, which its row explains
_INTERRUPTED = 130


def has_ended(submission: Submission, attempts: Sequence[Attempts]) -> bool:
    """Whether the records of the batch jobs say that every task of a submission has ended for good."""
    last = [one.spans[-1]["code"] for one in attempts if one.tag == submission.tag and one.spans and not one.stopped]
    stopped = sum(1 for one in attempts if one.tag == submission.tag and one.stopped)
    return bool(submission.tag) and sum(code in (0, 1, 2) for code in last) + stopped >= submission.tasks


def failure_lines(
    store: Path, submitted: Sequence[Submission], entries: Sequence[QueueEntry], attempts: Sequence[Attempts], seen: bool
) -> list[str]:
    """Return one line per reason for which batch jobs failed, with the jobs that it concerns.

    Args:
        store: the results folder.
        submitted: its submissions.
        entries: its jobs in the output of squeue.
        attempts: the recorded starts.
        seen: whether squeue answered for all submissions; if not, a job that is not listed may still be queued.
    """
    reasons: dict[str, list[str]] = {}

    def add(job: str, node: object, what: str, tag: str) -> None:
        sentence = last_sentence(log_of(store, job, tag))
        where = f" on {node}" if node else ""
        reasons.setdefault(f"{what}{where}: {sentence or 'no log was written'}", []).append(job)

    listed: set[str] = set()
    for entry in entries:
        listed.add(entry.job)
        if not (entry.pending or entry.running) and entry.state not in ("COMPLETED", "CANCELLED"):
            add(entry.job, entry.node, entry.state + (f" ({entry.reason})" if entry.reason not in ("None", "") else ""), entry.tag)
    for one in attempts if seen else ():
        span = one.spans[-1] if one.spans else None
        if span is None or one.job in listed or one.stopped or span["code"] in (*_ALL_DONE, _INTERRUPTED):
            continue
        what = "ended without an exit code (it was killed, or its node was lost)" if span["code"] is None else f"exit code {span['code']}"
        add(one.job, span["node"], what, one.tag)
    started = {one.tag for one in attempts}
    for submission in submitted if seen else ():
        known = any(job.split("_")[0] == submission.job for job in listed) or submission.tag in started
        if submission.tag and submission.job and not known:
            reasons.setdefault(_never_started(store, submission), []).append(submission.job)
    for node, count in failed_nodes(store, submitted).items():
        starts = "1 start" if count == 1 else f"{count} starts"
        reasons.setdefault(f"{starts} failed at once there; requeues avoid it", []).append(f"node {node}")
    lines = [f"failed: {'' if jobs[0].startswith('node ') else 'batch job '}{_some(jobs)}: {reason}" for reason, jobs in reasons.items()]
    return lines if len(lines) <= MAX_LINES else [*lines[:MAX_LINES], f"failed: {len(lines) - MAX_LINES} more reasons"]


def failed_nodes(store: Path, submitted: Sequence[Submission]) -> Counter[str]:
    """Return node -> number of starts that failed at once there, before they stored anything."""
    found: Counter[str] = Counter()
    for one in submitted:
        with suppress(OSError):
            found.update(
                line.split()[0]
                for line in (store / FAILED_STARTS / one.tag).read_text(encoding="utf-8", errors="replace").splitlines()
                if one.tag and line.strip()
            )
    return found


def _never_started(store: Path, submission: Submission) -> str:
    # One of its tasks may have written a log before it could record its start.
    for path in sorted((store / "logs").glob(f"slurm-{submission.job}*-{submission.tag}.log")):
        if sentence := last_sentence(path):
            return f"it left the queue without a recorded start: {sentence}"
    return (
        f"it left the queue without a recorded start and without a log (cancelled while it waited, or its launch failed); "
        f"scontrol show job {submission.job}, or sacct -j {submission.job}, may tell more"
    )


def last_sentence(path: Path) -> str:
    """Return the last line of a log that names an error, or else its last line; empty if there is none."""
    text = ""
    with suppress(OSError), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        text = file.read().decode(errors="replace")
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if _TELLING.search(line)]
    return (telling or lines or [""])[-1][:_LENGTH]


def _some(jobs: Collection[str]) -> str:
    names = list(jobs)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

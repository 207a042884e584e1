"""`sap-slurm check`: a short job on the cluster that looks at each thing that a sweep needs there."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from sap_core.files import save_text
from slurm.batch import Sweep, closed, header, opening, quoted
from slurm.cluster import Cluster
from slurm.probe import TOKEN
from slurm.queue import Refused, call, queue, sbatch
from slurm.status import REASONS

_SECONDS_AFTER_END = 10.0
"""A log may show late on a network disk."""


def text(cluster: Cluster, sweep: Sweep, token: str) -> str:
    """The batch script of the check: the cluster's own resources for five minutes, one node."""
    short = replace(cluster, time="00:05:00", warning_seconds=30)
    probe = [
        "-m", "slurm.probe", "--data", sweep.data, "--store", sweep.store, "--artifacts", sweep.artifacts, "--gpus", cluster.gpus,
        "--processes", cluster.processes, "--token", token,
    ]  # fmt: skip
    lines = header(short, sweep, "check-%j.log", {"nodes": 1})
    return "\n".join(["#!/usr/bin/env bash", *map(closed, lines), "", *opening(short, sweep), f'"${{run[@]}}" {quoted(probe)}', ""])


def check(cluster: Cluster, sweep: Sweep, say: Callable[[str], None]) -> bool:
    """Submits the check, waits for its end, and prints each answer; did everything pass? Interrupted, it cancels its job.

    Raises:
        Refused: Slurm did not take the job, or it ended without a word.
    """
    token = secrets.token_hex(8)
    (sweep.store / "logs").mkdir(parents=True, exist_ok=True)
    save_text(sweep.store / TOKEN, token)
    job = sbatch(text(cluster, sweep, token))
    log = sweep.store / "logs" / f"check-{job}.log"
    say(f"job {job} looks at cluster {cluster.name}; its log is {log}")
    try:
        _wait(job, say)
    except KeyboardInterrupt:
        call("scancel", job)
        raise
    finally:
        with suppress(OSError):
            (sweep.store / TOKEN).unlink()
    answers = _answers(log)
    if not answers:
        said = log.read_text(errors="replace").strip() if log.exists() else ""
        last = " ".join(said.split())[-400:] or "its log is empty"
        raise Refused(f"job {job} ended without an answer: {last}; mend the cluster's setup lines or python")
    for answer in answers:
        cure = f"\n       cure: {answer['cure']}" if answer["cure"] else ""
        say(f"{'CURE' if cure else 'pass'}   {answer['name']}: {answer['said']}{cure}")
    return not any(answer["cure"] for answer in answers)


def _wait(job: str, say: Callable[[str], None]) -> None:
    """Until the job has ended; each new reason of waiting is said."""
    said, pause = "", 0.3
    while True:
        entries = queue([job])
        if not any(entry.waits or entry.runs for entry in entries):
            return
        reason = next((entry.reason for entry in entries if entry.waits), "")
        if reason not in ("", "None", said):
            said = reason
            say(f"waiting: {reason}{f' ({REASONS[reason]})' if reason in REASONS else ''}; Ctrl-C cancels it")
        time.sleep(pause)
        pause = min(2.0, pause * 1.3)


def _answers(log: Path) -> list[dict[str, str]]:
    end = time.monotonic() + _SECONDS_AFTER_END
    while time.monotonic() < end:
        found = []
        with suppress(OSError):
            for line in log.read_text(errors="replace").splitlines():
                with suppress(ValueError):
                    value = json.loads(line)
                    if isinstance(value, dict) and "cure" in value:
                        found.append(value)
        if found:
            return found
        if log.exists() and log.stat().st_size:
            break
        time.sleep(0.3)
    return []

"""`sap-slurm check`: submit a short job that tests everything a sweep needs on a compute node."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from sap_core.files import save_text
from slurm.batch import Sweep, close_quote, header, prologue, quoted
from slurm.cluster import Cluster
from slurm.command import SlurmError, run_command
from slurm.probe import TOKEN
from slurm.queue import find_tag
from slurm.sbatch import sbatch
from slurm.status import REASONS
from slurm.submission import new_tag

LOG_WAIT_SECONDS = 10.0
"""Time to wait for the job's log after the job has ended: network file systems show new files late."""


def text(cluster: Cluster, sweep: Sweep, token: str, data: bool = True) -> str:
    """Return the batch script of the check: one node for five minutes, with the cluster's resources. `data`: also test that folder."""
    # Five minutes, because short jobs start sooner and the probe takes seconds.
    short = replace(cluster, time="00:05:00", warning_seconds=30)
    probe = [
        "-m", "slurm.probe", *(["--data", sweep.paths.data] if data else []), "--store", sweep.paths.store,
        "--artifacts", sweep.paths.artifacts, "--gpus", cluster.gpus, "--processes", cluster.processes, "--token", token,
    ]  # fmt: skip
    lines = header(short, sweep, "check-%j", {"nodes": 1})
    return "\n".join(["#!/usr/bin/env bash", *map(close_quote, lines), "", *prologue(short, sweep), f'"${{run[@]}}" {quoted(probe)}', ""])


def check(cluster: Cluster, sweep: Sweep, log: Callable[[str], None], data: bool = True) -> bool:
    """Submit the check, wait for its end and log each result. Ctrl-C cancels the job.

    Returns:
        Whether every check passed.

    Raises:
        SlurmError: Slurm rejected the job, or the job ended without a result.
    """
    # Random, so that a file of an earlier check cannot pass for this one's.
    token = secrets.token_hex(8)
    store = sweep.paths.store
    # Before the submission, because Slurm does not create the folder of a log and the job would fail without a message.
    (store / "logs").mkdir(parents=True, exist_ok=True)
    # The compute node must read what the login node wrote.
    save_text(store / TOKEN, token)
    tag = new_tag(store)
    job, _ = sbatch(text(cluster, replace(sweep, tag=tag), token, data), tag, log)
    path = store / "logs" / f"check-{job}-{tag}.log"
    log(f"submitted job {job} to check cluster {cluster.name}; log: {path}")
    try:
        _wait(job, tag, log)
    except KeyboardInterrupt:
        # A check that nobody waits for would occupy a node for nothing.
        run_command("scancel", job)
        raise
    finally:
        with suppress(OSError):
            (store / TOKEN).unlink()
    results = _read_results(path)
    if not results:
        output = path.read_text(errors="replace", encoding="utf-8").strip() if path.exists() else ""
        # The end of the log, where the shell's or Python's error is.
        last = " ".join(output.split())[-400:] or "its log is empty"
        raise SlurmError(f"job {job} ended without a result: {last}; correct setup or python in the cluster file")
    for result in results:
        remedy = f"\n       remedy: {result['remedy']}" if result["remedy"] else ""
        log(f"{'FAIL' if remedy else 'pass'}   {result['name']}: {result['detail']}{remedy}")
    return not any(result["remedy"] for result in results)


def _wait(job: str, tag: str, log: Callable[[str], None]) -> None:
    """Wait until the job has ended; log each new reason for which it is pending."""
    logged, pause = "", 0.3
    while True:
        # squeue is polled, because `sbatch --wait` itself waits 10 s between its looks.
        entries = find_tag(os.geteuid(), tag, job=job)
        if not any(entry.pending or entry.running for entry in entries):
            return
        reason = next((entry.reason for entry in entries if entry.pending), "")
        if reason not in ("", "None", logged):
            logged = reason
            log(f"pending: {reason}{f' ({REASONS[reason]})' if reason in REASONS else ''}; Ctrl-C cancels it")
        time.sleep(pause)
        # Ever longer, because each look is a request to the controller, which all users share.
        pause = min(2.0, pause * 1.3)


def _read_results(path: Path) -> list[dict[str, str]]:
    end = time.monotonic() + LOG_WAIT_SECONDS
    while time.monotonic() < end:
        found = []
        with suppress(OSError):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                # Other lines are output of `setup` and of modules.
                with suppress(ValueError):
                    value = json.loads(line)
                    if isinstance(value, dict) and "remedy" in value:
                        found.append(value)
        if found:
            return found
        if path.exists() and path.stat().st_size:
            # The log is there and contains no result: the script failed before the checks.
            break
        time.sleep(0.3)
    return []

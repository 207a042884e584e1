"""What a batch script notes in the store at the start and end of each of its starts: progress, restarts, times. Standard library only.

    python -m slurm.attempt begin PLAN --store STORE --artifacts DIR --limit 3
    python -m slurm.attempt end PLAN --store STORE --artifacts DIR --code 0

One file per job or task of an array, STORE/slurm/attempts/CLUSTER-JOB_TASK.json. `begin` ends with exit code 3 when the job has been
started too often without any progress: no row and no checkpoint has come since its start before. `end` ends with 0 when every planned job
has its rows, else with 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sap_core.files import save_json

STUCK = 3
FOLDER = "slurm/attempts"


@dataclass
class Attempts:
    """All starts of one job (or task of an array)."""

    job: str  # as squeue names it: 12, or 12_3
    cluster: str = ""
    gpus: int = 0
    cpus: int = 1
    starts: int = 0
    idle: int = 0  # starts in a row that made no progress before they ended
    mark: str = ""
    stopped: str | None = None  # why it is not started again
    spans: list[dict[str, float | str | None]] = field(default_factory=list)  # node, begin, end (seconds since 1970), code


def key_of(environment: Mapping[str, str]) -> tuple[str, str]:
    """(cluster, job as squeue names it) of the job that this runs in."""
    array, task = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array and task else environment.get("SLURM_JOB_ID", "0")
    return environment.get("SLURM_CLUSTER_NAME", ""), job


def path_of(store: Path, cluster: str, job: str) -> Path:
    """The file of one job."""
    return store / FOLDER / f"{cluster}-{job}.json"


def read(path: Path) -> Attempts | None:
    """What stands in a file; None when there is none, or it is damaged."""
    with suppress(OSError, ValueError, TypeError):
        return Attempts(**json.loads(path.read_text()))
    return None


def read_all(store: Path) -> list[Attempts]:
    """Every job's, by name."""
    found = [attempts for path in sorted((store / FOLDER).glob("*.json")) if (attempts := read(path)) is not None]
    for attempts in found:
        if attempts.spans and attempts.spans[-1]["end"] is None:
            attempts.spans[-1]["heard"] = heard(store, attempts.job)
    return found


def heard(store: Path, job: str) -> float | None:
    """When something was last written to a job's log; Slurm itself writes there when it ends a job."""
    with suppress(OSError):
        return (store / "logs" / f"slurm-{job}.log").stat().st_mtime
    return None


def planned(plan: Path) -> list[str]:
    """The ids of the jobs of a plan's file."""
    with suppress(OSError, ValueError, KeyError, TypeError), plan.open(encoding="utf-8") as file:
        return [str(json.loads(line)["job_id"]) for line in file]
    return []


def mark_of(plan: Path, store: Path, artifacts: Path) -> tuple[str, bool]:
    """(a text that differs whenever a row or a checkpoint of the plan's jobs has come, has every job its rows)."""
    names = {path.name for path in (store / "rows").iterdir()} if (store / "rows").is_dir() else set()
    ended = {name.split(".")[0] for name in names if not name.startswith(".")}
    open_jobs = [job for job in planned(plan) if job not in ended]
    states = []
    for job in open_jobs:
        with suppress(OSError):
            stat = (artifacts / job / "last.safetensors").stat()
            states.append((job, stat.st_mtime_ns, stat.st_size))
    return hashlib.sha256(repr((sorted(names), states)).encode()).hexdigest()[:16], not open_jobs


def begin(before: Attempts | None, job: Attempts, mark: str, limit: int, now: float, node: str, last: float | None = None) -> Attempts:
    """Books a start; `stopped` says why if it must not be. `last`: when the start before was last heard of."""
    mine = before or job
    if mine.spans and mine.spans[-1]["end"] is None:  # killed, or its node was lost
        mine.spans[-1]["end"] = min(now, last or now)
    mine.idle = mine.idle + 1 if before is not None and before.mark == mark else 0
    mine.mark = mark
    if mine.idle >= limit:
        mine.stopped = (
            f"{mine.idle} starts in a row finished no job and stored no state; see its log, then give it more time or memory, or a longer "
            "warning (cluster.warning_seconds), and submit again"
        )
        return mine
    mine.starts += 1
    mine.spans.append({"node": node, "begin": now, "end": None, "code": None})
    return mine


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m slurm.attempt", description="Notes a start or an end of a batch job in the store.")
    parser.add_argument("event", choices=("begin", "end"))
    parser.add_argument("plan", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--artifacts", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=3)
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--code", type=int, default=0)
    options = parser.parse_args(arguments)
    cluster, job = key_of(os.environ)
    path = path_of(options.store, cluster, job)
    mark, complete = mark_of(options.plan, options.store, options.artifacts)
    before = read(path)
    if options.event == "end":
        if before is not None and before.spans:
            before.spans[-1] |= {"end": time.time(), "code": options.code}
            save_json(path, asdict(before))
        return 0 if complete else 1
    fresh = Attempts(job, cluster, options.gpus, options.cpus)
    node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    after = begin(before, fresh, mark, options.limit, time.time(), node, heard(options.store, job))
    save_json(path, asdict(after))
    if after.stopped:
        print(f"error: {after.stopped}", file=sys.stderr)
        return STUCK
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

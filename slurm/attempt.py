"""Record the starts and ends of batch jobs in the store, and stop jobs that restart without progress. Standard library only.

    python -m slurm.attempt begin PLAN --store STORE --artifacts DIR --tag TAG --job 12_3 --limit 3
    python -m slurm.attempt end PLAN --store STORE --artifacts DIR --tag TAG --job 12_3 --code 0

Each job or array task has one file, STORE/slurm/attempts/TAG-JOB_TASK.json. `begin` exits with code 3 if the last `--limit` starts made
no progress. Progress is a new row or checkpoint of any planned job, written by any task. It is measured at the start of a job because a
killed job cannot measure it at its end. `end` exits with code 0 if every planned job has rows, with code 4 if the start failed
at once and stored nothing, otherwise with code 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sap_core.command_line import program
from sap_core.files import CHECKSUM_KEY, load_json, load_text, save_json

# Apart from the workers' own codes 0, 1 and 2.
NO_PROGRESS = 3
AT_ONCE = 4
AT_ONCE_SECONDS = 60.0
"""A start that ends within this time and stores nothing has failed at once."""
# The worker was stopped or killed (memory), or had nothing to do: no fault of the node.
_NOT_THE_NODE = (0, 130, 137, 143)
FOLDER = "slurm/attempts"


@dataclass
class Attempts:
    """The starts of one job or array task."""

    job: str  # job id as printed by squeue: 12, or 12_3 for an array task
    cluster: str = ""
    tag: str = ""  # of the submission
    gpus: int = 0
    cpus: int = 1
    starts: int = 0
    without_progress: int = 0  # consecutive starts that made no progress
    progress: str = ""  # digest of rows and checkpoints at the last start
    stopped: str | None = None  # reason for not starting again
    spans: list[dict[str, float | str | None]] = field(default_factory=list)  # node, begin and end (seconds since 1970), exit code


def path_of(store: Path, tag: str, job: str) -> Path:
    """Return the path of one job's file."""
    # By the tag of the submission: another cluster, or a controller that counts from 1 again, may use the same number.
    return store / FOLDER / f"{tag}-{job}.json"


def read(path: Path) -> Attempts | None:
    """Read a file; None if it is missing or damaged."""
    # A damaged record costs the count of restarts, not the job.
    with suppress(OSError, ValueError, TypeError, KeyError):
        found = Attempts(**load_json(path))
        if _is_valid(found):
            return found
    return None


def _is_valid(one: Attempts) -> bool:
    """Whether a record has the form that this program writes; the store may be another person's, and its ids become names of files."""
    texts, counts = (one.cluster, one.progress), (one.gpus, one.cpus, one.starts, one.without_progress)
    return (
        bool(re.fullmatch(r"\d+(_\d+)?", one.job) and re.fullmatch(r"([0-9a-f]+-[0-9a-f]+)?", one.tag))
        and all(isinstance(text, str) for text in texts)
        and all(isinstance(count, int) for count in counts)
        and (one.stopped is None or isinstance(one.stopped, str))
        and isinstance(one.spans, list)
        and all(
            isinstance(span["node"], str)
            and isinstance(span["begin"], int | float)
            and all(span[key] is None or isinstance(span[key], int | float) for key in ("end", "code"))
            for span in one.spans
        )
    )


def read_all(store: Path) -> list[Attempts]:
    """Read the files of all jobs, sorted by name. A start without a recorded end gets the time of its last log line as `last_write`."""
    found = [attempts for path in sorted((store / FOLDER).glob("*.json")) if (attempts := read(path)) is not None]
    for attempts in found:
        if attempts.spans and attempts.spans[-1]["end"] is None:
            attempts.spans[-1]["last_write"] = last_write(store, attempts.job, attempts.tag)
    return found


def last_write(store: Path, job: str, tag: str) -> float | None:
    """Return the time of the last write to a job's log. Slurm itself writes to the log when it ends a job."""
    with suppress(OSError):
        return log_of(store, job, tag).stat().st_mtime
    return None


def log_of(store: Path, job: str, tag: str) -> Path:
    """Return the path of a job's log, as `slurm.batch.header` names it."""
    return store / "logs" / f"slurm-{job}{f'-{tag}' if tag else ''}.log"


def planned(plan: Path) -> list[str]:
    """Return the ids of the jobs in a plan file; none if it cannot be read."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        # JSON alone, without the classes of the sweeper: this program runs before and between the workers and has to start quickly.
        # The first line is the checksum.
        return [str(job["job_id"]) for line in load_text(plan).splitlines() if (job := json.loads(line)).keys() != {CHECKSUM_KEY}]
    return []


def all_done(plan: Path, store: Path) -> bool:
    """Whether every job of a plan file is done; False if the file cannot be read."""
    jobs = planned(plan)
    return bool(jobs) and all((store / "rows" / f"{job}.ok.parquet").exists() for job in jobs)


def progress_of(plan: Path, store: Path, artifacts: Path) -> tuple[str, bool]:
    """Return (digest of the rows and checkpoints of the planned jobs, whether every job has rows; False if the plan cannot be read)."""
    # Names of all files, so that rows of other tasks count as progress, too.
    names = {path.name for path in (store / "rows").iterdir()} if (store / "rows").is_dir() else set()
    ended = {name.split(".")[0] for name in names if not name.startswith(".")}
    # Only checkpoints of unfinished jobs: those of finished ones do not change any more.
    jobs = planned(plan)
    open_jobs = [job for job in jobs if job not in ended]
    states = []
    for job in open_jobs:
        with suppress(OSError):
            stat = (artifacts / job / "last.safetensors").stat()
            # Time and size, because a checkpoint is replaced under the same name at every epoch.
            states.append((job, stat.st_mtime_ns, stat.st_size))
    # A digest, because a record with thousands of file names would be rewritten at every start.
    return hashlib.sha256(repr((sorted(names), states)).encode()).hexdigest()[:16], bool(jobs) and not open_jobs


def has_failed_since(store: Path, begun: float) -> bool:
    """Whether a job stored failed rows since then, perhaps once more: such a start ran jobs, and its node works."""
    for path in (store / "rows").glob("[!.]*.failed.parquet"):
        # A few seconds earlier, because the times are those of the file server's clock.
        with suppress(OSError):
            if path.stat().st_mtime >= begun - 5.0:
                return True
    return False


def begin(before: Attempts | None, job: Attempts, progress: str, limit: int, now: float, node: str, last: float | None = None) -> Attempts:
    """Record a start, or set `stopped` if the job must not start again.

    Args:
        before: the earlier starts of this job; None at the first.
        job: an empty record of this job.
        progress: the digest from `progress_of`.
        limit: consecutive starts without progress after which the job stops.
        now: the current time, in seconds since 1970.
        node: name of the compute node.
        last: time of the last log line of the previous start, for a start whose end was not recorded.
    """
    record = before or job
    # The process was killed, or its node was lost.
    if record.spans and record.spans[-1]["end"] is None:
        # Not later than now: the log may carry the time of a file server whose clock is ahead.
        record.spans[-1]["end"] = min(now, last or now)
    # The first start has nothing to be compared with.
    record.without_progress = record.without_progress + 1 if before is not None and before.progress == progress else 0
    record.progress = progress
    # Only starts without progress count, because a long sweep needs many restarts.
    if record.without_progress >= limit:
        record.stopped = (
            f"{record.without_progress} consecutive starts finished no job and stored no checkpoint; read the log, increase cluster.time, "
            "cluster.memory or cluster.warning_seconds"
        )
        return record
    record.starts += 1
    record.spans.append({"node": node, "begin": now, "end": None, "code": None})
    return record


@program
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="python -m slurm.attempt", description="Record the start or end of a batch job in the store."
    )
    parser.add_argument("event", choices=("begin", "end"))
    parser.add_argument("plan", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--artifacts", type=Path, required=True)
    parser.add_argument("--job", required=True, help="id of the job as printed by squeue: 12, or 12_3 for an array task")
    parser.add_argument("--tag", default="", help="tag of the submission")
    parser.add_argument("--limit", type=int, default=3)
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--code", type=int, default=0)
    options = parser.parse_args(arguments)
    job, tag = options.job, options.tag
    path = path_of(options.store, tag, job)
    # Measured now for the next start to compare with, because a killed job cannot do it at its end.
    progress, complete = progress_of(options.plan, options.store, options.artifacts)
    before = read(path)
    if options.event == "end":
        failed_at_once = False
        if before is not None and before.spans:
            now, begun = time.time(), float(before.spans[-1]["begin"] or 0)
            failed_at_once = (
                options.code not in _NOT_THE_NODE
                and now - begun < AT_ONCE_SECONDS
                and progress == before.progress
                and not has_failed_since(options.store, begun)
            )
            before.spans[-1] |= {"end": now, "code": options.code}
            save_json(path, asdict(before))
        return 0 if complete else AT_ONCE if failed_at_once else 1
    fresh = Attempts(job, os.environ.get("SLURM_CLUSTER_NAME", ""), tag, options.gpus, options.cpus)
    # Slurm's own name of the node, which `sinfo` and administrators use; the host name may differ.
    node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    after = begin(before, fresh, progress, options.limit, time.time(), node, last_write(options.store, job, tag))
    # By rename, because the limit may kill this program while it writes.
    save_json(path, asdict(after))
    if after.stopped:
        print(f"error: {after.stopped}", file=sys.stderr)
        return NO_PROGRESS
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Plan a sweep inside a batch job whose script `sap-slurm script` printed: once for all of its tasks, before the workers start.

    python -m slurm.plan_job PLAN --record JSON --job 12 -- experiment=demo ...

PLAN is the job file that the workers read. The submission is recorded as well, so that `sap-slurm status` and `cancel` know the job.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from sap_core.command_line import program
from sap_core.errors import UserError
from sap_core.files import save_text
from slurm.submission import Submission, give_id, save
from sweeper.store.provenance import commit

WAIT_SECONDS = 600.0
"""Time that a task waits for another one that is planning."""


@program
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="python -m slurm.plan_job", description="Plan a sweep inside a batch job, once for all of its tasks."
    )
    parser.add_argument("plan", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--record", required=True, help="fields of slurm.submission.Submission that are known when the script is printed")
    parser.add_argument("--job", required=True, help="id of the job or array")
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Split by hand: argparse gives positional arguments that follow options to nobody. After --: the command line of the sweep.
    end = given.index("--") if "--" in given else len(given)
    options, sweep = parser.parse_args(given[:end]), given[end + 1 :]
    until = time.monotonic() + WAIT_SECONDS
    while not options.plan.exists():
        try:
            _plan(options.plan, sweep)
        except UserError as error:
            # Another task, or a sap-sweep, holds the store and may be writing this very plan.
            if "another sap-sweep is writing" not in str(error) or time.monotonic() > until:
                print(f"error: {error}", file=sys.stderr)
                return 2
            time.sleep(2.0)
    _record(options.store, json.loads(options.record), options.job)
    return 0


def _plan(path: Path, sweep: Sequence[str]) -> None:
    # Hydra and torch are loaded by the task that plans, and by no other one.
    from sweeper.plan.snapshot import take_snapshot

    snapshot = take_snapshot(sweep)
    if not path.exists():
        save_text(path, snapshot.plan.read_text(encoding="utf-8"))


def _record(store: Path, known: dict[str, object], job: str) -> None:
    give_id(store, str(known["tag"]))
    cluster = os.environ.get("SLURM_CLUSTER_NAME", "")
    record = Submission(job=job, cluster=cluster, submitted_at=time.time(), commit=commit(), user=os.geteuid(), **known)  # type: ignore[arg-type]
    save(store, record)


if __name__ == "__main__":
    raise SystemExit(main())

"""`sap-sweep rerun STORE RUN_ID`: runs the job of one row again, in this process, and compares what comes out with what is stored.

Rows of one job share work, so the job runs whole, into a store and artifacts that are thrown away; the store that is looked at stays as it
is. A network that the job reads is taken from the artifacts, and trained again where it is not there any more.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sap_core.errors import UserError
from sap_core.files import storing
from sap_core.records import TIMING_COLUMNS, Row
from sweeper.commands.common import examples, settings, store_folder
from sweeper.jobs.job import Job, SweepPaths, artifact, read_jobs
from sweeper.store.provenance import HOME
from sweeper.store.store import Store

_KEYS = ("paths.data", "paths.artifacts", "backend.device")

_SHORTEST = 4
"""So many letters of a run's id at least, when only its beginning is given."""

_CIRCUMSTANCES = frozenset({*TIMING_COLUMNS, "attempt", "commit", "device_share", "experiment", "schema_version"})
"""What may differ between two runs of one row without its being another result."""

_TOLD = ("commit", "device", "threads", "precision", "component_version")
"""What explains a difference: said when it is not the same."""


@dataclass(frozen=True)
class Difference:
    """One column of one row that came out otherwise."""

    run_id: str
    column: str
    stored: object
    now: object


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", metavar="STORE", help="the results folder of a sweep, such as results/demo")
    parser.add_argument("run_id", metavar="RUN_ID", help=f"the row's run_id, or at least its first {_SHORTEST} characters")
    parser.add_argument(
        "settings", nargs="*", metavar="KEY=VALUE",
        help="paths.data=DIR, paths.artifacts=DIR: other folders; backend.device=cpu|cuda: another device than the row's",
    )  # fmt: skip
    parser.epilog = examples(
        "sap-sweep rerun results/demo 8695b5b39eaeba54",
        "sap-sweep rerun results/demo 8695b5b3 backend.device=cpu paths.artifacts=/scratch/artifacts",
        note="Exit code 1: a column differs. sap-report STORE export rows.csv lists all run ids.",
    )


def run(options: argparse.Namespace) -> int:
    """Runs and prints; returns 0 when everything is equal, 1 when something differs.

    Raises:
        UserError: no such store or run, an unknown key, or rows that cannot be read.
    """
    store, run_id, keys = store_folder(options.store, "jobs.jsonl"), options.run_id, settings(options.settings, _KEYS, "sap-sweep rerun")
    Store(store).check_version()
    jobs = {job.job_id: job for job in read_jobs(store / "jobs.jsonl")}
    job, run_id = find(jobs, run_id, store)
    stored = {row.run_id: row for row in Store(store).read_rows(job.job_id)}
    if run_id not in stored:
        raise UserError(f"run {run_id} has no row in {store} yet, so there is nothing to compare with; start its sweep again first")
    from sweeper.jobs.job import SweepPaths

    folders = SweepPaths(_folder(keys, "paths.data", _data()), store, _folder(keys, "paths.artifacts", _artifacts(store)))
    device = keys.get("backend.device") or ("cpu" if stored[run_id].device == "cpu" else "cuda")
    print(f"job {job.job_id} ({job.job_type}, {len(job.runs)} rows) runs again on {device}", file=sys.stderr)
    again, weights = repeat(job, jobs, folders, device)
    print(told(stored, again, run_id, weights))
    return 1 if differences(stored, again) or weights == "different" else 0


def find(jobs: Mapping[str, Job], run_id: str, store: Path) -> tuple[Job, str]:
    """The job of a run and the run's whole id; the beginning of an id is enough where one run alone begins so.

    Raises:
        UserError: no run, or several, begin so.
    """
    found = [(job, run.run_id) for job in jobs.values() for run in job.runs if run.run_id.startswith(run_id)]
    exact = [pair for pair in found if pair[1] == run_id]
    if exact or (len(found) == 1 and len(run_id) >= _SHORTEST):
        return (exact or found)[0]
    if found:
        raise UserError(
            f"{len(found)} runs of {store} begin with '{run_id}'; give more of the id (at least {_SHORTEST} letters), "
            f"for example {found[0][1]}"
        )
    raise UserError(f"{store} plans no run '{run_id}'; sap-report {store} export rows.csv lists them in its column run_id")


def repeat(job: Job, jobs: Mapping[str, Job], folders: SweepPaths, device: str) -> tuple[list[Row], str]:
    """(the job's rows as they come out now, whether its network has the stored one's weights: equal | different | unknown)."""
    from sweeper.jobs.run_job import execute

    with tempfile.TemporaryDirectory(prefix="sap-sweep-rerun-") as name, storing(Path(name)):
        scratch = SweepPaths(folders.data, Path(name) / "store", Path(name) / "artifacts")
        scratch.artifacts.mkdir()
        for parent in job.parents:
            _provide(parent, jobs, folders, scratch, device)
        execute(job, scratch, device, jobs_on_device=1)
        weights = _same_weights(artifact(folders.artifacts, job.job_id).parent, artifact(scratch.artifacts, job.job_id).parent)
        return Store(scratch.store).read_rows(job.job_id), weights


def differences(stored: Mapping[str, Row], again: Sequence[Row]) -> list[Difference]:
    """Every column of every row that differs, but for times and circumstances; a row that is missing now differs in its status."""
    now = {row.run_id: row for row in again}
    found = []
    for run_id, row in stored.items():
        if run_id not in now:
            found.append(Difference(run_id, "status", row.status, "no row"))
            continue
        before, after = asdict(row), asdict(now[run_id])
        found += [
            Difference(run_id, name, value, after[name])
            for name, value in before.items()
            if name not in _CIRCUMSTANCES and not name.endswith("_seconds") and not _equal(value, after[name])
        ]
    return found


def told(stored: Mapping[str, Row], again: Sequence[Row], run_id: str, weights: str) -> str:
    """What is printed: the run's verdict first, then its job's other rows, then what may explain a difference."""
    found = differences(stored, again)
    mine = [one for one in found if one.run_id == run_id]
    others = {one.run_id for one in found} - {run_id}
    row = stored[run_id]
    name = f"{row.method}{f' ({row.space})' if row.space else ''}, seed {row.seed}"
    lines = [f"run {run_id}, {name}: {'DIFFERENT' if mine else 'equal'}"]
    lines += [f"  {one.column}: stored {one.stored}, now {one.now}" for one in mine]
    if not mine:
        scores = [(column, getattr(row, column)) for column in ("val_noisy_acc", "val_clean_acc", "test_acc", "val_noisy_r2", "test_r2")]
        lines.append("  " + ", ".join(f"{column} {value:.6g}" for column, value in scores if value is not None))
    if len(stored) > 1:
        lines.append(f"  the other {len(stored) - 1} rows of its job: {f'{len(others)} DIFFERENT' if others else 'equal'}")
    if weights != "unknown":
        lines.append(f"  the network's weights: {'equal' if weights == 'equal' else 'DIFFERENT'} (SHA-256 of model.safetensors)")
    now = next((one for one in again if one.run_id == run_id), None)
    if now is not None:
        pairs = [(column, getattr(row, column), getattr(now, column)) for column in _TOLD]
        lines += [f"  {column}: {before} then, {after} now" for column, before, after in pairs if before != after]
    return "\n".join(lines)


def _equal(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    return one == other


def _provide(parent: str, jobs: Mapping[str, Job], folders: SweepPaths, scratch: SweepPaths, device: str) -> None:
    """A parent's artifact by a link; made again in the scratch folder where it is gone."""
    from sweeper.jobs.run_job import execute

    if artifact(folders.artifacts, parent).exists():
        (scratch.artifacts / parent).symlink_to(artifact(folders.artifacts, parent).parent.resolve())
    elif not artifact(scratch.artifacts, parent).exists():
        print(f"the artifact of job {parent} is not in {folders.artifacts}: it is made again first", file=sys.stderr)
        for above in jobs[parent].parents:
            _provide(above, jobs, folders, scratch, device)
        execute(jobs[parent], scratch, device, jobs_on_device=1)


def _same_weights(stored: Path, now: Path) -> str:
    files = [folder / "model.safetensors" for folder in (stored, now)]
    if not all(file.is_file() for file in files):
        return "unknown"
    first, second = (hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    return "equal" if first == second else "different"


def _folder(keys: Mapping[str, str], key: str, otherwise: Path) -> Path:
    return Path(keys[key]).resolve() if key in keys else otherwise


def _data() -> Path:
    return (HOME / os.environ.get("SAP_SWEEP_DATA", "data")).resolve()


def _artifacts(store: Path) -> Path:
    """Beside the store, as sweeps lay them out; else the checkout's."""
    beside = store.resolve().parent / "artifacts"
    return beside if beside.is_dir() else HOME / "results" / "artifacts"

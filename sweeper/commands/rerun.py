"""`sap-sweep rerun STORE RUN_ID`: reruns the job of one row in this process and compares the results with the stored rows.

Rows of one job share work, so the complete job is rerun, with a temporary store and temporary artifacts; the store is only read. Artifacts
of parent jobs are used where they exist, and recomputed otherwise.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sap_core.command_line import home_expanded
from sap_core.errors import DamagedFile, UserError
from sap_core.files import storing
from sap_core.instruction_sets import use_reproducible
from sap_core.records import TIMING_COLUMNS, Row
from sweeper.commands.common import add_plugins, add_store, artifacts_beside, examples, key_values, store_folder
from sweeper.config.packages import parse_plugins
from sweeper.jobs.job import Job, SweepPaths, artifact, read_jobs
from sweeper.jobs.stored_artifacts import damage, is_complete
from sweeper.store.provenance import HOME
from sweeper.store.store import Store

_KEYS = ("paths.data", "paths.artifacts", "backend.device", "plugins")

_MIN_ID_LENGTH = 4
"""Minimum length of a prefix of a run id."""

_CIRCUMSTANCES = frozenset(
    {*TIMING_COLUMNS, "attempt", "commit", "cpu_capability", "device_share", "experiment", "reproducible", "schema_version"}
)
"""Columns that may differ between two runs of one row: times, and the circumstances of the run."""

_CONDITIONS = ("commit", "device", "threads", "cpu_capability", "reproducible", "precision", "component_version")
"""Columns that may explain a difference; printed if they differ."""


@dataclass(frozen=True)
class Difference:
    """A column of a row whose value differs."""

    run_id: str
    column: str
    stored: object
    now: object


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument("run_id", metavar="RUN_ID", help=f"the row's run_id, or its first characters (at least {_MIN_ID_LENGTH})")
    parser.add_argument(
        # With a default, so that argparse does not count it among the required arguments.
        "settings", nargs="*", default=[], metavar="KEY=VALUE",
        help="paths.data=DIR, paths.artifacts=DIR: other paths; backend.device=cpu|cuda|mps (default: the row's device); "
        "plugins=[PACKAGE]: packages of your own that the jobs may name",
    )  # fmt: skip
    add_plugins(parser)
    parser.epilog = examples(
        "sap-sweep rerun results/demo 51565bf676c424b3",
        "sap-sweep rerun results/demo 51565bf6 backend.device=cpu paths.artifacts=/scratch/artifacts",
        note="Exit code 1: a column differs. `sap-report STORE export --output rows.csv` lists all run ids.",
    )


def run(options: argparse.Namespace) -> int:
    """Reruns the job and prints the comparison; returns 0 if everything is equal, else 1.

    Raises:
        UserError: the store or run does not exist, a key is unknown, or the rows cannot be read.
    """
    store = home_expanded(options.store)
    # The version first: an old store may also lack the file of jobs, but that is not what is wrong with it.
    Store(store).check_version()
    if not (store / "jobs.jsonl").is_file():
        store_folder(options.store)
        raise UserError(
            f"'{store}' has no jobs.jsonl, so its jobs cannot be rerun; give the results folder of a sweep, such as results/demo"
        )
    run_id, keys = options.run_id, key_values(options.settings, _KEYS, "sap-sweep rerun")
    # From the stored plan, not from today's configuration.
    jobs = {job.job_id: job for job in read_jobs(store / "jobs.jsonl", parse_plugins(keys.get("plugins", "")))}
    job, run_id = find(jobs, run_id, store)
    # Compared with all rows of the job, because a setting's cost depends on the work that it shares.
    stored = {row.run_id: row for row in Store(store).read_rows(job.job_id)}
    if run_id not in stored and (lost := Store(store).damaged_rows(job.job_id)) is not None:
        raise UserError(f"{lost}, which contains run {run_id}, is damaged; start the sweep again, which runs its job once more")
    if run_id not in stored:
        raise UserError(f"run {run_id} has no row in {store} yet, so there is nothing to compare with; run its sweep first")
    paths = SweepPaths(_folder(keys, "paths.data", _data()), store, _folder(keys, "paths.artifacts", artifacts_beside(store)))
    # A row names the model of its GPU, not its number, so any GPU of this machine will do.
    device = keys.get("backend.device") or (found if (found := stored[run_id].device) in ("cpu", "mps") else "cuda")
    if stored[run_id].reproducible:
        # Before torch is loaded.
        use_reproducible()
    # As the row was computed: the plan may have changed since.
    jobs = {name: replace(one, reproducible=bool(stored[run_id].reproducible)) for name, one in jobs.items()}
    job = jobs[job.job_id]
    print(f"job {job.job_id} ({job.job_type}, {len(job.runs)} rows): rerun on {device}", file=sys.stderr)
    rerun, weights = rerun_job(job, jobs, paths, device)
    print(format_report(stored, rerun, run_id, weights))
    return 1 if differences(stored, rerun) or weights == "different" else 0


def find(jobs: Mapping[str, Job], run_id: str, store: Path) -> tuple[Job, str]:
    """The job of a run, and the complete run id. A prefix of the id is sufficient if it is unique.

    Raises:
        UserError: no run, or several, have this prefix.
    """
    found = [(job, run.run_id) for job in jobs.values() for run in job.runs if run.run_id.startswith(run_id)]
    exact = [pair for pair in found if pair[1] == run_id]
    if exact or (len(found) == 1 and len(run_id) >= _MIN_ID_LENGTH):
        return (exact or found)[0]
    if found:
        raise UserError(
            f"{len(found)} runs of {store} begin with '{run_id}'; give more characters of the id (at least {_MIN_ID_LENGTH}), "
            f"for example {found[0][1]}"
        )
    raise UserError(f"{store} has no run '{run_id}'; `sap-report {store} export --output rows.csv` lists all run ids in the column run_id")


def rerun_job(job: Job, jobs: Mapping[str, Job], paths: SweepPaths, device: str) -> tuple[list[Row], str]:
    """Runs a job again; returns (its rows, whether its network has the stored weights: equal | different | unknown)."""
    # Loads torch, which the usage errors above do not need.
    from sweeper.jobs.run_job import execute

    with tempfile.TemporaryDirectory(prefix="sap-sweep-rerun-") as name, storing(Path(name)):
        scratch = SweepPaths(paths.data, Path(name) / "store", Path(name) / "artifacts")
        # The job must run and not be found finished, so both its store and its own artifact are elsewhere.
        scratch.artifacts.mkdir()
        for parent in job.parents:
            _provide(parent, jobs, paths, scratch, device)
        # jobs_on_device is a circumstance, not part of the result; nothing else runs in this process.
        execute(job, scratch, device, jobs_on_device=1)
        # Scores may agree by chance where weights do not.
        weights = _same_weights(artifact(paths.artifacts, job.job_id).parent, artifact(scratch.artifacts, job.job_id).parent)
        return Store(scratch.store).read_rows(job.job_id), weights


def differences(stored: Mapping[str, Row], rerun: Sequence[Row]) -> list[Difference]:
    """All columns of all rows that differ, except times and circumstances. A row that the rerun lacks differs in its status."""
    now = {row.run_id: row for row in rerun}
    found = []
    for run_id, row in stored.items():
        if run_id not in now:
            found.append(Difference(run_id, "status", row.status, "no row"))
            continue
        # Equal in all bits, because a job is deterministic on one type of device with one number of threads.
        before, after = asdict(row), asdict(now[run_id])
        found += [
            Difference(run_id, name, value, after[name])
            for name, value in before.items()
            # Costs in seconds are measurements; FLOPs, passes and scores must be equal in all bits.
            if name not in _CIRCUMSTANCES and not name.endswith("_seconds") and not _equal(value, after[name])
        ]
    return found


def format_report(stored: Mapping[str, Row], rerun: Sequence[Row], run_id: str, weights: str) -> str:
    """The printed report: the result for the run, the other rows of its job, and the conditions that may explain a difference."""
    found = differences(stored, rerun)
    own = [one for one in found if one.run_id == run_id]
    others = {one.run_id for one in found} - {run_id}
    row = stored[run_id]
    name = f"{row.method}{f' ({row.space})' if row.space else ''}, seed {row.seed}"
    lines = [f"run {run_id}, {name}: {'DIFFERENT' if own else 'equal'}"]
    lines += [f"  {one.column}: stored {one.stored}, now {one.now}" for one in own]
    if not own:
        scores = [(column, getattr(row, column)) for column in ("val_noisy_acc", "val_clean_acc", "test_acc", "val_noisy_r2", "test_r2")]
        lines.append("  " + ", ".join(f"{column} {value:.6g}" for column, value in scores if value is not None))
    if len(stored) > 1:
        lines.append(f"  the other {len(stored) - 1} rows of its job: {f'{len(others)} DIFFERENT' if others else 'equal'}")
    if weights != "unknown":
        lines.append(f"  the network's weights: {'equal' if weights == 'equal' else 'DIFFERENT'} (all bits)")
    now = next((one for one in rerun if one.run_id == run_id), None)
    if now is not None:
        pairs = [(column, getattr(row, column), getattr(now, column)) for column in _CONDITIONS]
        lines += [f"  {column}: {_known(before)} then, {_known(after)} now" for column, before, after in pairs if before != after]
        if found and row.device == "cpu" and row.cpu_capability != now.cpu_capability:
            lines.append(
                "  other instruction sets round differently (docs/reproducibility.md), which may explain the difference"
                if row.cpu_capability
                else "  the row does not record its instruction sets, and others round differently (docs/reproducibility.md)"
            )
    return "\n".join(lines)


def _known(value: object) -> object:
    return "not recorded" if value is None else value


def _equal(one: object, other: object) -> bool:
    # NaN is a stored value (the loss of a diverged training) and has to equal itself; other floats must be equal in all bits.
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    return one == other


def _provide(parent: str, jobs: Mapping[str, Job], paths: SweepPaths, scratch: SweepPaths, device: str) -> None:
    """Links the artifact of a parent job into the temporary folder, or recomputes it there if it is missing."""
    from sweeper.jobs.run_job import execute

    if is_complete(paths.artifacts, parent):
        # Linked, not copied: checkpoints may be large, and the store's artifacts are only read.
        (scratch.artifacts / parent).symlink_to(artifact(paths.artifacts, parent).parent.resolve())
    elif not artifact(scratch.artifacts, parent).exists():
        # Recomputed in the temporary folder; the store's artifacts are not written.
        why = damage(paths.artifacts, parent)
        state = f"cannot be used ({why})" if why else f"is missing from {paths.artifacts}"
        print(f"the artifact of job {parent} {state} and is recomputed first", file=sys.stderr)
        for ancestor in jobs[parent].parents:
            _provide(ancestor, jobs, paths, scratch, device)
        execute(jobs[parent], scratch, device, jobs_on_device=1)


def _same_weights(stored: Path, now: Path) -> str:
    from sap_core.checkpoint import load_state, same_bits

    files = [folder / "model.safetensors" for folder in (stored, now)]
    if not all(file.is_file() for file in files):
        return "unknown"
    try:
        # The states and not the files, whose headers may be of two versions.
        first, second = (load_state(file) for file in files)
    except DamagedFile as error:
        print(f"the weights are not compared: {error}", file=sys.stderr)
        return "unknown"
    return "equal" if same_bits(first, second) else "different"


def _folder(keys: Mapping[str, str], key: str, otherwise: Path) -> Path:
    return home_expanded(keys[key]).resolve() if key in keys else otherwise


def _data() -> Path:
    return (HOME / home_expanded(os.environ.get("SAP_SWEEP_DATA", "data"))).resolve()

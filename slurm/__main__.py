"""The program `sap-slurm` (also `python -m slurm`, from the root of the checkout): plan a sweep and run it on a Slurm cluster.

Imports inside functions keep Hydra and pyarrow out of commands that do not need them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sap_core.errors import UserError, unknown
from sap_core.guard import check_origins
from sap_core.location import CODE
from slurm.usage import HELP, USAGE

if TYPE_CHECKING:
    from slurm.batch import Sweep
    from slurm.cluster import Cluster
    from slurm.submit import Submission
    from sweeper.plan.snapshot import Snapshot

_HELP_OPTIONS = ("--help", "-h")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return the exit code (0 done, 1 a check failed, 2 the user's mistake, 130 interrupted)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in _HELP_OPTIONS:
        print(USAGE)
        return 0
    try:
        # First, because a package of the same name elsewhere on the path would otherwise plan and submit a sweep of other code.
        check_origins()
        name = arguments[0]
        if name not in COMMANDS:
            raise unknown("command", name, COMMANDS, "sap-slurm")
        # Help is printed before the command's own imports, so it works where Slurm, Hydra or a cluster file is missing.
        if set(arguments) & set(_HELP_OPTIONS):
            print(HELP[name])
            return 0
        return COMMANDS[name](arguments[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _log(line: str) -> None:
    # Standard error, because standard output has the job ids or the script, which other programs read.
    print(line, file=sys.stderr, flush=True)


def _script(arguments: Sequence[str]) -> int:
    from slurm.script import parse_request, script, script_text, submission_plan
    from sweeper.store.provenance import HOME

    if any(argument.startswith("cluster=") for argument in arguments):
        cluster, rest = read_cluster(arguments)
        sweep = _sweep(cluster, _snapshot(cluster, rest, write=False))
        for chunk in submission_plan(cluster):
            print(script_text(cluster, sweep, chunk), end="")
        return 0
    request, overrides = parse_request(arguments)
    from sweeper.plan.build import check_command

    # A script for a sweep that cannot be composed would fail only after its time in the queue.
    check_command(overrides)
    print(script(request, overrides, str(HOME), sys.executable), end="")
    return 0


def _submit(arguments: Sequence[str]) -> int:
    from slurm.queue import scontrol_config
    from slurm.submit import submissions, submit
    from sweeper.store.provenance import commit

    cluster, rest = read_cluster(arguments)
    # First, so that a machine without Slurm is refused before anything is planned.
    settings = scontrol_config()
    snapshot = _snapshot(cluster, rest)
    store, counts = snapshot.paths.store, snapshot.counts
    _log(f"{store}: {counts.planned} jobs planned, {counts.done} done, {snapshot.todo} to do, {counts.failed} failed")
    if counts.given_up:
        _log(f"{counts.given_up} failed jobs have used all their attempts; delete {store}/rows/*.failed.parquet to run them again")
    if snapshot.retrain:
        _log(f"the checkpoints of {snapshot.retrain} finished jobs are missing; they are trained again first, and their rows are kept")
    # Reported before anything is submitted, because the stored plan is used whatever has changed.
    for line in _changes(store, rest, commit()):
        _log(line)
    if not snapshot.todo:
        _log("all jobs are done; nothing was submitted")
        return 0
    # Only of this cluster: a store may be shared by clusters whose job numbers overlap.
    queued = _queued(submissions(store, settings.get("ClusterName", "")))
    if queued:
        _log(f"{len(queued)} batch jobs or array tasks of this sweep are queued already ({queued[0]} ...); all share its jobs")
    jobs = submit(cluster, _sweep(cluster, snapshot), commit(), snapshot.flops_done, settings, _log)
    # The ids alone on standard output, one per line, for scripts that wait for the jobs.
    print(*jobs, sep="\n", flush=True)
    _log(f"submitted to {cluster.partition or 'the default partition'}; sap-slurm status {_short(store)} prints the progress")
    return 0


def _changes(store: Path, rest: Sequence[str], now: str) -> list[str]:
    """Describe the changes since the last submission of a store: the commit, and the configuration composed from the same arguments."""
    from slurm.submit import submissions
    from sweeper.plan.snapshot import changed_keys

    before = submissions(store)
    if not before:
        return []
    lines = [] if before[-1].commit == now else [f"the code has changed since the last submission: {before[-1].commit} -> {now}"]
    if rest and "=" not in rest[0] and before[-1].arguments:
        # Composed from the same arguments today, only to name the differences.
        found = changed_keys(store, before[-1].arguments)
        lines += [f"the configuration has changed and the stored plan is used: {line}" for line in found[:10]]
        lines += [f"{len(found) - 10} further changes"] if len(found) > 10 else []
        lines += [] if lines else ["nothing has changed since the last submission"]
    return lines


def _queued(submitted: Sequence[Submission]) -> list[str]:
    from slurm.queue import queue

    return [entry.job for entry in queue(one.job for one in submitted) if entry.pending or entry.running]


def _status(arguments: Sequence[str]) -> int:
    from slurm.attempt import read_all
    from slurm.lookup import split_store
    from slurm.queue import SlurmError, queue
    from slurm.status import explain, text
    from slurm.submit import submissions
    from sweeper.monitor.job_counts import sweep_counts
    from sweeper.store.provenance import HOME
    from sweeper.store.store import Store

    store, rest = split_store(arguments, HOME)
    _no_arguments("status", rest)
    found = sweep_counts(Store(store))
    submitted = submissions(store)
    try:
        queued = queue(one.job for one in submitted)
        hints = explain(queued, submitted)
    # The counts come from the store, so `status` is useful while the controller is down or on a machine without Slurm.
    except SlurmError as error:
        queued, hints = [], [f"hint: {error}"]
    print(text(_short(store), found, submitted, queued, read_all(store), hints, time.time()))
    return 0


def _logs(arguments: Sequence[str]) -> int:
    from slurm.lookup import find_log, is_slurm_job, split_store
    from sweeper.monitor.job_counts import job_of_run
    from sweeper.store.provenance import HOME
    from sweeper.store.store import Store

    store, rest = split_store(arguments, HOME)
    _no_arguments("logs", rest[1:])
    name = rest[0] if rest else None
    # The plan is read only for names that are not ids of Slurm: it may be large.
    path = find_log(store, name, job_of_run(Store(store)) if name and not is_slurm_job(name) else {})
    _log(str(path))
    print(path.read_text(errors="replace"), end="")
    return 0


def _cancel(arguments: Sequence[str]) -> int:
    from slurm.lookup import is_slurm_job, split_store
    from slurm.submit import cancel, submissions
    from sweeper.store.provenance import HOME

    store, rest = split_store(arguments, HOME)
    submitted = [one.job for one in submissions(store)]
    for job in rest:
        # Only jobs of this sweep's submissions: a mistyped number must not cancel somebody's other job.
        if not is_slurm_job(job) or job.split("_")[0] not in submitted:
            raise unknown("job", job, submitted, f"the submissions of {_short(store)}")
    # Array tasks are reduced to their array, so that one scancel ends it as a whole.
    jobs = rest or sorted({job.split("_")[0] for job in _queued(submissions(store))})
    if not jobs:
        _log(f"{_short(store)} has no queued batch jobs")
        return 0
    cancel(store, jobs)
    _log(f"cancelled {', '.join(jobs)}; finished jobs are stored, and sap-slurm submit {_short(store)} cluster=NAME continues the sweep")
    return 0


def _init(arguments: Sequence[str]) -> int:
    from sap_core.files import save_text
    from slurm.cluster import check_name, config_folder
    from slurm.init import fill_example, list_partitions
    from slurm.queue import scontrol_config

    _no_arguments("init", arguments[1:])
    name = check_name(arguments[0] if arguments else "")
    path = config_folder() / f"{name}.yaml"
    # Never overwritten, because the user may have edited it.
    if path.exists():
        raise UserError(f"{path} exists already; remove it or choose another name")
    example = (CODE / "conf" / "cluster" / "example.yaml").read_text(encoding="utf-8")
    text = fill_example(example, list_partitions(), scontrol_config())
    save_text(path, text)
    print(path)
    _log(f"review this file, then run sap-slurm check cluster={name}")
    return 0


def _check(arguments: Sequence[str]) -> int:
    from slurm.batch import Sweep
    from slurm.check import check
    from sweeper.plan.snapshot import folders_from
    from sweeper.store.provenance import HOME

    cluster, rest = read_cluster(arguments)
    paths = folders_from([*cluster.overrides, *rest], "cluster-check")
    # A store of its own, so that the check needs no experiment and leaves nothing in a sweep's folder.
    sweep = Sweep("check", paths, HOME, sys.executable, paths.store / "jobs.jsonl")
    return 0 if check(cluster, sweep, print) else 1


def read_cluster(arguments: Sequence[str]) -> tuple[Cluster, list[str]]:
    """Read the cluster that `cluster=NAME` and `cluster.KEY=VALUE` describe; return it and the other arguments.

    Raises:
        UserError: no cluster or several are named, or the cluster file is invalid.
    """
    from slurm.cluster import load_cluster

    names = [argument.removeprefix("cluster=") for argument in arguments if argument.startswith("cluster=")]
    overrides = [argument.removeprefix("cluster.") for argument in arguments if argument.startswith("cluster.")]
    for argument in arguments:
        if argument.startswith("slurm."):
            raise UserError(f"'{argument}' cannot be combined with cluster=NAME; write cluster.KEY=VALUE, as in cluster.time=12:00:00")
    if len(names) != 1:
        raise UserError("name one cluster, as in cluster=mine (sap-slurm init mine writes its file)")
    rest = [argument for argument in arguments if not argument.startswith(("cluster=", "cluster."))]
    return load_cluster(names[0], CODE, overrides), rest


def _snapshot(cluster: Cluster, rest: Sequence[str], write: bool = True) -> Snapshot:
    """Return the sweep that the arguments name: a new plan of an experiment, or the stored plan of a results folder."""
    from slurm.submit import submissions
    from sweeper.plan.snapshot import load_snapshot, refuse_secrets, take_snapshot

    # Lines of the cluster file become part of batch scripts, which Slurm stores.
    refuse_secrets({f"the cluster file {cluster.name}.yaml": repr(cluster)})
    if rest and "=" not in rest[0] and not rest[0].startswith("-"):
        before = submissions(Path(rest[0]))
        last = before[-1] if before else None
        # A store may have been moved since it was planned; the folders of data and artifacts are then given anew.
        moved = [override for override in cluster.overrides if override.startswith(("paths.data=", "paths.artifacts="))]
        return load_snapshot(Path(rest[0]), [*moved, *rest[1:]], last.plan if last else None, last.arguments if last else [])
    given = {argument.split("=")[0].lstrip("+~") for argument in rest}
    device = "cuda" if cluster.gpus else "cpu"
    # Defaults that follow from the cluster: the command line wins, then the cluster file's own overrides.
    defaults = ["backend=local" if cluster.mode == "array" else "backend=ray", f"backend.device={device}", *cluster.overrides]
    return take_snapshot([*(override for override in defaults if override.split("=")[0] not in given), *rest], write)


def _sweep(cluster: Cluster, snapshot: Snapshot) -> Sweep:
    from slurm.batch import Sweep
    from sweeper.store.provenance import HOME

    device = "cuda" if cluster.gpus else "cpu"
    return Sweep(snapshot.name, snapshot.paths, HOME, sys.executable, snapshot.plan, snapshot.arguments, snapshot.order, device)


def _no_arguments(command: str, arguments: Sequence[str]) -> None:
    if arguments:
        raise UserError(f"unexpected argument '{arguments[0]}'; sap-slurm {command} --help lists the arguments")


def _short(store: Path) -> str:
    """Return the path of a store relative to the working directory, if it lies below it."""
    here = Path.cwd()
    return str(store.relative_to(here)) if store.is_relative_to(here) else str(store)


COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "submit": _submit, "script": _script, "status": _status, "logs": _logs, "cancel": _cancel, "init": _init, "check": _check,
}  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())

"""The command `sap-slurm` (also `python -m slurm`, from the checkout's root). The only module here that imports the sweeper."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sap_core.errors import UserError, unknown
from sap_core.guard import check_origins
from sap_core.location import CODE

if TYPE_CHECKING:
    from slurm.batch import Sweep
    from slurm.cluster import Cluster
    from slurm.submit import Submission
    from sweeper.plan.snapshot import Snapshot

USAGE = """sap-slurm: sweeps on a Slurm cluster (docs/slurm.md)

  sap-slurm init NAME                                    write a commented cluster file from what sinfo and scontrol say
  sap-slurm check cluster=NAME                           a short job: GPU, folders, ports, memory; pass, or the cure
  sap-slurm submit experiment=NAME cluster=NAME [...]    check, freeze and queue a sweep; returns at once
  sap-slurm submit STORE cluster=NAME                    go on with a frozen one, e.g. after a maintenance window
  sap-slurm status [STORE]                               done, running, waiting and why, restarts, failures, ETA, GPU-hours
  sap-slurm logs [STORE] [JOB|RUN]                       a log: of a batch job (12, 12_3), of a job or run of the sweep, the newest
  sap-slurm cancel [STORE] [JOB ...]                     cancel all of its jobs, or those named
  sap-slurm script experiment=NAME cluster=NAME [...]    print the batch script; submits nothing
  sap-slurm script experiment=NAME [slurm.KEY=VALUE ...] the plain script of one node, without a cluster file

cluster.KEY=VALUE changes one key of the cluster's file for this submission: cluster.time=12:00:00 cluster.tasks=16
slurm.KEY (script without cluster=): job_name partition account qos constraint gpus cpus memory time
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code (0, 1 when a check did not pass, 2 for the user's mistake, 130 interrupted)."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("--help", "-h"):
        print(USAGE)
        return 0
    try:
        check_origins()
        if words[0] not in COMMANDS:
            raise unknown("command", words[0], COMMANDS, "sap-slurm")
        return COMMANDS[words[0]](words[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _script(words: Sequence[str]) -> int:
    from slurm.script import parse_request, script, scripts, text_of
    from sweeper.store.provenance import HOME

    if any(word.startswith("cluster=") for word in words):
        cluster, rest = read_cluster(words)
        frozen = _frozen(cluster, rest, write=False)
        for part in scripts(cluster, sweep := _sweep(cluster, frozen)):
            print(text_of(cluster, sweep, part), end="")
        return 0
    request, overrides = parse_request(words)
    from sweeper.plan.build import check_command

    check_command(overrides)
    print(script(request, overrides, str(HOME), sys.executable), end="")
    return 0


def _submit(words: Sequence[str]) -> int:
    from slurm.queue import settings
    from slurm.submit import submissions, submit
    from sweeper.store.provenance import commit

    cluster, rest = read_cluster(words)
    known = settings()  # before anything is planned: is there a Slurm here?
    frozen = _frozen(cluster, rest)
    store = frozen.paths.store
    _say(f"{store}: {frozen.counts.planned} jobs planned, {frozen.counts.done} done, {frozen.todo} to do, {frozen.counts.failed} failed")
    if frozen.counts.given_up:
        _say(f"{frozen.counts.given_up} of the failed ones have had their attempts; delete rows/*.failed.parquet to try once more")
    if frozen.retrain:
        _say(f"the checkpoints of {frozen.retrain} finished jobs are gone and needed: those are trained again first, their rows stay")
    for line in _changes(store, rest, commit()):
        _say(line)
    if not frozen.todo:
        _say("nothing is left to do; nothing was submitted")
        return 0
    feeding = _queued(submissions(store, known.get("ClusterName", "")))
    if feeding:
        _say(f"{len(feeding)} queued jobs or tasks feed this sweep already ({feeding[0]} ...); all share its jobs")
    jobs = submit(cluster, _sweep(cluster, frozen), commit(), frozen.flops_done, known, _say)
    print(*jobs, sep="\n", flush=True)
    _say(f"submitted to {cluster.partition or 'the default partition'}; sap-slurm status {_short(store)} says how it goes")
    return 0


def _changes(store: Path, rest: Sequence[str], now: str) -> list[str]:
    """What is otherwise than when a store was submitted before: the code, and what the same words would configure."""
    from slurm.submit import submissions
    from sweeper.plan.snapshot import changed_keys

    before = submissions(store)
    if not before:
        return []
    lines = [] if before[-1].commit == now else [f"changed since the last submission: the code, {before[-1].commit} -> {now}"]
    if rest and "=" not in rest[0] and before[-1].words:
        found = changed_keys(store, before[-1].words)
        lines += [f"changed in the configuration, and not taken up: {line}" for line in found[:10]]
        lines += [f"and {len(found) - 10} more"] if len(found) > 10 else []
        lines += [] if lines else ["nothing has changed since the last submission"]
    return lines


def _queued(submitted: Sequence[Submission]) -> list[str]:
    from slurm.queue import queue

    return [entry.job for entry in queue(one.job for one in submitted) if entry.pending or entry.running]


def _status(words: Sequence[str]) -> int:
    from slurm.attempt import read_all
    from slurm.lookup import split_store
    from slurm.queue import SlurmError, queue
    from slurm.status import explain, text
    from slurm.submit import submissions
    from sweeper.monitor.job_counts import sweep_counts
    from sweeper.store.provenance import HOME
    from sweeper.store.store import Store

    store, rest = split_store(words, HOME)
    _none_left("status", rest)
    found = sweep_counts(Store(store))
    submitted = submissions(store)
    try:
        queued = queue(one.job for one in submitted)
        hints = explain(queued, submitted)
    except SlurmError as error:
        queued, hints = [], [f"hint: {error}"]
    print(text(_short(store), found, submitted, queued, read_all(store), hints, time.time()))
    return 0


def _logs(words: Sequence[str]) -> int:
    from slurm.lookup import is_slurm_job, log_of, split_store
    from sweeper.monitor.job_counts import job_of_run
    from sweeper.store.provenance import HOME
    from sweeper.store.store import Store

    store, rest = split_store(words, HOME)
    _none_left("logs", rest[1:])
    word = rest[0] if rest else None
    path = log_of(store, word, job_of_run(Store(store)) if word and not is_slurm_job(word) else {})
    _say(str(path))
    print(path.read_text(errors="replace"), end="")
    return 0


def _cancel(words: Sequence[str]) -> int:
    from slurm.lookup import is_slurm_job, split_store
    from slurm.submit import cancel, submissions
    from sweeper.store.provenance import HOME

    store, rest = split_store(words, HOME)
    mine = [one.job for one in submissions(store)]
    for word in rest:
        if not is_slurm_job(word) or word.split("_")[0] not in mine:
            raise unknown("job", word, mine, f"{_short(store)}, as squeue names jobs")
    jobs = rest or sorted({job.split("_")[0] for job in _queued(submissions(store))})
    if not jobs:
        _say(f"{_short(store)}: nothing of it is queued")
        return 0
    cancel(store, jobs)
    _say(f"cancelled {', '.join(jobs)}; what was finished is stored: sap-slurm submit {_short(store)} cluster=NAME goes on")
    return 0


def _init(words: Sequence[str]) -> int:
    from sap_core.files import save_text
    from slurm.cluster import check_name, config_folder
    from slurm.init import ask, fill
    from slurm.queue import settings

    _none_left("init", words[1:])
    name = check_name(words[0] if words else "")
    path = config_folder() / f"{name}.yaml"
    if path.exists():
        raise UserError(f"{path} is there already; remove it, or choose another name")
    text = fill((CODE / "conf" / "cluster" / "example.yaml").read_text(encoding="utf-8"), ask(), settings())
    save_text(path, text)
    print(path)
    _say(f"read it, then: sap-slurm check cluster={name}")
    return 0


def _check(words: Sequence[str]) -> int:
    from slurm.batch import Sweep
    from slurm.check import check
    from sweeper.plan.snapshot import folders_from
    from sweeper.store.provenance import HOME

    cluster, rest = read_cluster(words)
    places = folders_from([*cluster.overrides, *rest], "cluster-check")
    sweep = Sweep("check", places.store, places.data, places.artifacts, HOME, sys.executable, places.store / "jobs.jsonl")
    return 0 if check(cluster, sweep, print) else 1


def read_cluster(words: Sequence[str]) -> tuple[Cluster, list[str]]:
    """(the cluster that `cluster=NAME` and `cluster.KEY=VALUE` name, the other words)."""
    from slurm.cluster import load_cluster

    names = [word.removeprefix("cluster=") for word in words if word.startswith("cluster=")]
    own = [word.removeprefix("cluster.") for word in words if word.startswith("cluster.")]
    for word in words:
        if word.startswith("slurm."):
            raise UserError(f"'{word}': with cluster=NAME write cluster.KEY=VALUE, as in cluster.time=12:00:00")
    if len(names) != 1:
        raise UserError("name one cluster, as in cluster=mine (sap-slurm init mine writes its file)")
    rest = [word for word in words if not word.startswith(("cluster=", "cluster."))]
    return load_cluster(names[0], CODE, own), rest


def _frozen(cluster: Cluster, rest: Sequence[str], write: bool = True) -> Snapshot:
    """The sweep that the words name: an experiment, frozen now, or a store, as it was frozen."""
    from slurm.submit import submissions
    from sweeper.plan.snapshot import load_snapshot, refuse_secrets, take_snapshot

    refuse_secrets({f"the file of cluster {cluster.name}": repr(cluster)})
    if rest and "=" not in rest[0] and not rest[0].startswith("-"):
        before = submissions(Path(rest[0]))
        last = before[-1] if before else None
        kept = [word for word in cluster.overrides if word.startswith(("paths.data=", "paths.artifacts="))]
        return load_snapshot(Path(rest[0]), [*kept, *rest[1:]], last.plan if last else None, last.words if last else [])
    given = {word.split("=")[0].lstrip("+~") for word in rest}
    device = "cuda" if cluster.gpus else "cpu"
    ours = ["backend=local" if cluster.mode == "array" else "backend=ray", f"backend.device={device}", *cluster.overrides]
    return take_snapshot([*(word for word in ours if word.split("=")[0] not in given), *rest], write)


def _sweep(cluster: Cluster, frozen: Snapshot) -> Sweep:
    from slurm.batch import Sweep
    from sweeper.store.provenance import HOME

    places = frozen.paths
    device = "cuda" if cluster.gpus else "cpu"
    sweep = Sweep(frozen.name, places.store, places.data, places.artifacts, HOME, sys.executable, frozen.plan)
    return replace(sweep, words=frozen.words, order=frozen.order, device=device)


def _none_left(command: str, words: Sequence[str]) -> None:
    if words:
        raise UserError(f"sap-slurm {command} does not take '{words[0]}'; sap-slurm --help shows what it takes")


def _short(store: Path) -> str:
    """The store as a user would type it here."""
    here = Path.cwd()
    return str(store.relative_to(here)) if store.is_relative_to(here) else str(store)


COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "submit": _submit, "script": _script, "status": _status, "logs": _logs, "cancel": _cancel, "init": _init, "check": _check,
}  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())

"""A sweep that is composed, checked, planned and stored, to be run elsewhere; and one that was, read back from its store."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.store.job_counts import Counts, count_jobs, total
from sap_core.errors import UserError
from sap_core.identity import content_id
from sweeper.jobs.job import SweepPaths
from sweeper.plan.build import check, compose, plan_key, planned, sweep_paths, write_plan
from sweeper.plan.job_filter import filter_jobs, parse_filter
from sweeper.store.credentials import secrets
from sweeper.store.provenance import HOME
from sweeper.store.store import Store

if TYPE_CHECKING:
    from sweeper.config.compose import Composed
    from sweeper.jobs.job import Job

CONFIG_DIR = "--config-dir"


@dataclass(frozen=True)
class Snapshot:
    """A planned sweep and how far it is. SweepPaths are absolute; the store holds none of them."""

    name: str
    paths: SweepPaths
    plan: Path  # one JSON line per job, never changed once it is there
    order: str
    words: tuple[str, ...]  # of the command line that froze it, without its folders
    counts: Counts  # of jobs
    again: int  # whose rows are held, and whose artifact is gone and needed
    flops_done: float

    @property
    def todo(self) -> int:
        return self.counts.to_do + self.again


def take_snapshot(arguments: Sequence[str], write: bool = True) -> Snapshot:
    """Composes, checks and plans a command line, and stores configuration and plan; runs nothing.

    `write=False` checks alone: data sets are not looked at, nothing is written, and the counts are 0.

    Raises:
        UserError: see `sap_core.errors`; also data, weights or folders that the sweep needs and that are not there.
    """
    composed = compose(arguments)
    only = parse_filter(composed.config.only)
    refuse_secrets({"the configuration": str(composed.raw), "the command line": " ".join(arguments)})
    paths, words = sweep_paths(composed.config), _without_folders(arguments)
    if not write:
        check(composed)
        return Snapshot(
            str(composed.config.name), paths, paths.store / "jobs.jsonl", composed.config.order, words, Counts("all"), 0, 0.0
        )  # fmt: skip
    refuse_missing(composed)
    plan = planned(composed, check(composed), paths)
    jobs = plan.jobs if only is None else filter_jobs(plan.jobs, only)
    store = Store(paths.store)
    with store.locked():
        write_plan(store, plan, composed, plan_key(composed))
        path = _own_plan(store, jobs)
    return _counted(str(composed.config.name), paths, path, composed.config.order, words, jobs)


def load_snapshot(store: Path, arguments: Sequence[str], plan: str | None, words: Sequence[str]) -> Snapshot:
    """The sweep that a store holds, as it was frozen. `plan` and `words` are what was noted when it was last submitted.

    Args:
        store: the results folder, wherever it lies now.
        arguments: `paths.data=` and `paths.artifacts=` for folders that lie elsewhere now.
        plan: the name of its job file in the store; None: jobs.jsonl.
        words: see `Snapshot`.

    Raises:
        UserError: it holds no plan, other keys are given, or data that it needs is not there.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from sweeper.jobs.job import read_jobs

    store = store.resolve()
    if not (store / "config.yaml").is_file() or not (store / "jobs.jsonl").is_file():
        raise UserError(f"{store} holds no planned sweep (config.yaml and jobs.jsonl); name an experiment, as in experiment=demo")
    Store(store).check_version()
    others = [word for word in arguments if not word.startswith(("paths.data=", "paths.artifacts="))]
    if others:
        raise UserError(
            f"'{others[0]}': {store} goes on with the configuration that is frozen there, "
            "so only paths.data= and paths.artifacts= may be given"
        )
    try:
        config: Any = OmegaConf.to_container(OmegaConf.load(store / "config.yaml"))
        configured = dict(config.get("paths") or {}) | dict(word.removeprefix("paths.").split("=", 1) for word in arguments)
        name, order = str(config["name"]), str(config.get("order", "cells"))
    except (OmegaConfBaseException, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{store / 'config.yaml'} cannot be read ({' '.join(str(error).split())}); freeze the sweep again from its experiment"
        ) from error
    data = configured.get("data") or os.environ.get("SAP_SWEEP_DATA", "data")
    paths = SweepPaths((HOME / data).resolve(), store, (HOME / (configured.get("artifacts") or "results/artifacts")).resolve())
    path = store / (plan or "jobs.jsonl")
    jobs = list(read_jobs(path if path.exists() else store / "jobs.jsonl"))
    path = _own_plan(Store(store), jobs)
    return _counted(name, paths, path, order, tuple(words), jobs)


def differences(store: Path, words: Sequence[str]) -> list[str]:
    """What the same words would configure otherwise today than what is frozen: `KEY: then -> now`, or why that cannot be told."""
    from omegaconf import OmegaConf

    if CONFIG_DIR in words:
        return ["it was frozen with a --config-dir, which the store does not name: freeze it from its experiment to see"]
    try:
        now = _flat(compose(words).raw)
    except UserError as error:
        return [f"the words that it was submitted with are refused today: {error}"]
    then = _flat(OmegaConf.to_container(OmegaConf.load(store / "config.yaml")))
    outside = ("paths.", "backend.", "dry_run")
    keys = sorted(key for key in {*now, *then} if not key.startswith(outside) and now.get(key) != then.get(key))
    return [f"{key}: {then.get(key, 'absent')} -> {now.get(key, 'absent')}" for key in keys]


def folders(arguments: Sequence[str], name: str) -> SweepPaths:
    """The folders that `paths.*` words mean, without any experiment; the store's is results/`name`.

    Raises:
        UserError: another word.
    """
    paths = {"data": os.environ.get("SAP_SWEEP_DATA", "data"), "results": f"results/{name}", "artifacts": "results/artifacts"}
    for word in arguments:
        key, sign, value = word.partition("=")
        if key.startswith("paths."):
            if key.removeprefix("paths.") not in paths or not sign or not value:
                raise UserError(f"'{word}' names no folder; allowed: {', '.join(f'paths.{known}=DIR' for known in paths)}")
            paths[key.removeprefix("paths.")] = value
    return SweepPaths(*((HOME / paths[key]).resolve() for key in ("data", "results", "artifacts")))


def _without_folders(arguments: Sequence[str]) -> tuple[str, ...]:
    """The words without `paths.*`, and `--config-dir` without its folder: a store is moved, and holds no path of any machine."""
    words: list[str] = []
    for word in arguments:
        if words and words[-1] == CONFIG_DIR and "=" not in word and not word.startswith("-"):
            continue
        if not word.startswith("paths."):
            words.append(CONFIG_DIR if word.startswith(("--config-dir", "-cd")) else word)
    return tuple(words)


def refuse_missing(composed: Composed) -> None:
    """Data, weights and folders that the experiment reads must be there before anything is queued.

    Raises:
        UserError: all that is missing, in one sentence.
    """
    from sweeper.plan.prerequisites import missing

    gone = missing(composed)
    if gone:
        raise UserError(f"nothing was queued, because this is missing: {'; '.join(gone)}; sap-sweep prepare experiment=... gets it")


def refuse_secrets(texts: Mapping[str, str]) -> None:
    """Keys and passwords of the environment must not end up in files.

    Raises:
        UserError: a text holds the value of such a variable; the sentence names the variable, not its value.
    """
    for name, value in secrets().items():
        for where, text in texts.items():
            if value in text:
                raise UserError(
                    f"{where} holds the content of the environment variable {name}, which would be written to files; leave it out"
                )


def _own_plan(store: Store, jobs: Sequence[Job]) -> Path:
    """The jobs in a file of their own, named by content: what waits in a queue is not touched by a later plan."""
    from sweeper.jobs.job import write_jobs

    key = content_id({"jobs": [job.to_json() for job in jobs]})
    path = store.root / "slurm" / f"plan-{key}.jsonl"
    if not path.exists():
        write_jobs(path, jobs)
    return path


def _counted(name: str, paths: SweepPaths, path: Path, order: str, words: tuple[str, ...], jobs: Sequence[Job]) -> Snapshot:
    from sweeper.scheduling.schedule import Schedule

    store = Store(paths.store)
    statuses = store.statuses()
    finished, _ = store.finished()
    waiting = Schedule.of(jobs, finished, paths.artifacts).waiting
    given_up = [job_id for job_id, status in finished.items() if status == "failed"]
    return Snapshot(
        name=name, paths=paths, plan=path, order=order, words=words,
        counts=total(count_jobs({job.job_id: job.job_type for job in jobs}, statuses, given_up)),
        again=sum(finished.get(job_id) == "ok" for job_id in waiting),
        flops_done=sum(job.forecast_flops for job in jobs if statuses.get(job.job_id) == "ok"),
    )  # fmt: skip


def _flat(value: Any, path: str = "") -> dict[str, str]:
    if isinstance(value, Mapping):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        items = [(str(number), item) for number, item in enumerate(value)]
    else:
        return {path: repr(value)}
    return {key: text for name, item in items for key, text in _flat(item, f"{path}.{name}" if path else name).items()}

"""Snapshots of planned sweeps for batch systems: composed, checked, planned and stored now, run later on other machines.

A snapshot freezes the configuration: jobs that wait in a queue do not change when a YAML file is edited.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.store.job_counts import Counts, count_jobs, total
from sap_core.command_line import home_expanded
from sap_core.errors import UserError
from sap_core.identity import content_id
from sweeper.config.packages import parse_plugins
from sweeper.config.schema import ORDERS, is_name
from sweeper.jobs.job import Job, SweepPaths, read_jobs, write_jobs
from sweeper.plan.build import check_cells, compose, inspect_and_plan, narrowed, needed_cells, plan_key, sweep_paths, write_plan
from sweeper.plan.job_filter import filter_jobs, parse_filter
from sweeper.scheduling.schedule import Schedule
from sweeper.store.config_file import read_config
from sweeper.store.credentials import secrets
from sweeper.store.provenance import HOME
from sweeper.store.store import Store

# Hydra (OmegaConf) and torch are loaded inside the functions that need them: `sap-slurm` must answer quickly on login nodes.
if TYPE_CHECKING:
    from sweeper.config.compose import Composed

CONFIG_DIR = "--config-dir"


@dataclass(frozen=True)
class Snapshot:
    """A planned sweep and its progress. Paths are absolute here; the store contains none."""

    name: str
    paths: SweepPaths
    plan: Path  # job file, one JSON line per job; never changed once it exists
    order: str
    arguments: tuple[str, ...]  # of the command line that it was taken from, without folders
    counts: Counts  # of jobs, by state
    retrain: int  # finished jobs whose artifact is missing and needed by a job that is still to run
    flops_done: float  # known forecast FLOPs of the jobs that are done
    runnable: int = 0  # number of jobs to run that do not depend on a job that has failed for good
    plugins: tuple[str, ...] = ()  # packages that the user has named on the command line

    @property
    def todo(self) -> int:
        """Number of jobs to run."""
        return self.counts.to_do + self.retrain


def take_snapshot(arguments: Sequence[str], write: bool = True) -> Snapshot:
    """Compose, check and plan a command line, and store its configuration and plan. Runs no job.

    With `write=False` it only checks the configuration: no data are read, nothing is written, and the counts are 0.

    Raises:
        UserError: a mistake in the configuration; data, weights or folders that the sweep needs are missing.
    """
    composed = compose(arguments)
    only = parse_filter(composed.config.only)
    # Both are written to files that others may read: the store, and the notes of submissions.
    refuse_secrets({"the configuration": str(composed.raw), "the command line": " ".join(arguments)})
    name, order, plugins = str(composed.config.name), composed.config.order, tuple(composed.config.plugins)
    paths, kept = sweep_paths(composed.config), _without_folders(arguments)
    if not write:
        check_cells(composed)
        return Snapshot(name, paths, paths.store / "jobs.jsonl", order, kept, Counts("all"), 0, 0.0, plugins=plugins)
    refuse_missing(narrowed(composed), arguments)
    from sweeper.plan.class_numbers import read_class_names, warn_of_classes, write_classes

    cells = check_cells(composed)
    needed = needed_cells(composed, cells)
    classes = read_class_names((cell.dataset for number, cell in enumerate(cells) if number in needed), paths.data)
    warn_of_classes(classes)
    plan = inspect_and_plan(composed, cells, paths)
    jobs = plan.jobs if only is None else filter_jobs(plan.jobs, only)
    store = Store(paths.store)
    # Another start on the same store would plan at the same time.
    with store.locked():
        write_classes(store.root, classes)
        write_plan(store, plan, composed, plan_key(composed))
        # The queue gets a file of its own, because jobs.jsonl is rewritten by the next plan.
        path = _write_jobs_once(store, jobs)
    return replace(_with_progress(name, paths, path, order, kept, jobs), plugins=plugins)


def load_snapshot(store: Path, overrides: Sequence[str], plan: str | None, arguments: Sequence[str]) -> Snapshot:
    """Load the snapshot in a store.

    Args:
        store: the results folder, wherever it is now.
        overrides: `paths.data=` and `paths.artifacts=`, for folders that have moved, and `plugins=`, the packages that the jobs may name.
        plan: name of the job file in the store, as recorded at the last submission; None: jobs.jsonl.
        arguments: see `Snapshot`; as recorded at the last submission.

    Raises:
        UserError: the store contains no plan, or other keys are overridden.
    """
    store = store.resolve()
    if not (store / "config.yaml").is_file() or not (store / "jobs.jsonl").is_file():
        raise UserError(f"{store} contains no planned sweep (config.yaml and jobs.jsonl); name an experiment, as in experiment=demo")
    # Rows of another schema version could not be read together with new ones.
    Store(store).check_version()
    plugins = tuple(name for one in overrides if one.startswith("plugins=") for name in parse_plugins(one.removeprefix("plugins=")))
    overrides = [override for override in overrides if not override.startswith("plugins=")]
    others = [override for override in overrides if not override.startswith(("paths.data=", "paths.artifacts="))]
    if others:
        raise UserError(
            f"'{others[0]}' cannot be given: {store} continues with its stored configuration; only paths.data=, "
            "paths.artifacts= and plugins= are allowed"
        )
    try:
        config = read_config(store / "config.yaml")
        configured = dict(config.get("paths") or {}) | dict(override.removeprefix("paths.").split("=", 1) for override in overrides)
        name, order = str(config["name"]), str(config.get("order", "cells"))
        if not is_name(name) or order not in ORDERS:
            raise ValueError(f"name={name[:100]!r} or order={order[:100]!r} has a form that sap-sweep does not write")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{store / 'config.yaml'} cannot be read ({' '.join(str(error).split())}); submit the experiment again to write it"
        ) from error
    # The store has no absolute paths, so folders are found as for a new sweep: an override, the configuration, the environment, the
    # default.
    data = configured.get("data") or os.environ.get("SAP_SWEEP_DATA", "data")
    paths = SweepPaths(_folder(data), store, _folder(configured.get("artifacts") or "results/artifacts"))
    # A resubmission continues the plan of its last submission, even if the experiment has been planned anew since.
    path = store / (plan or "jobs.jsonl")
    jobs = list(read_jobs(path if path.exists() else store / "jobs.jsonl", plugins))
    path = _write_jobs_once(Store(store), jobs)
    return replace(_with_progress(name, paths, path, order, tuple(arguments), jobs), plugins=plugins)


def retry_failed(snapshot: Snapshot) -> Snapshot:
    """Give the failed jobs of a snapshot new attempts; return it with the new counts.

    Raises:
        StorageError: the store cannot be written.
    """
    jobs = list(read_jobs(snapshot.plan, snapshot.plugins))
    Store(snapshot.paths.store).retry_failed(job.job_id for job in jobs)
    found = _with_progress(snapshot.name, snapshot.paths, snapshot.plan, snapshot.order, snapshot.arguments, jobs)
    return replace(found, plugins=snapshot.plugins)


def changed_keys(store: Path, arguments: Sequence[str]) -> list[str]:
    """Compare the stored configuration with what the same arguments compose to today.

    Returns:
        `KEY: stored -> today` for each difference, or one sentence if they cannot be compared.
    """
    if CONFIG_DIR in arguments:
        return ["not compared with today's configuration: it was submitted with a --config-dir, whose path the store does not contain"]
    try:
        # Composed again from the recorded arguments: an edited YAML file shows as a difference.
        now = _flat(compose(arguments).raw)
    except UserError as error:
        return [f"the arguments of its first submission are no longer valid: {error}"]
    try:
        then = _flat(read_config(store / "config.yaml"))
    except (OSError, ValueError) as error:
        return [f"not compared with today's configuration: {store / 'config.yaml'} cannot be read ({error})"]
    # Folders and resources change no result, and may differ between machines.
    ignored = ("paths.", "backend.", "dry_run", "retry")
    keys = sorted(key for key in {*now, *then} if not key.startswith(ignored) and now.get(key) != then.get(key))
    return [f"{key}: {then.get(key, 'absent')} -> {now.get(key, 'absent')}" for key in keys]


def folders_from(arguments: Sequence[str], name: str) -> SweepPaths:
    """The folders given by `paths.*`, without any experiment; the store defaults to results/`name`.

    Raises:
        UserError: another key below `paths`, or one without a value.
    """
    paths = {"data": os.environ.get("SAP_SWEEP_DATA", "data"), "results": f"results/{name}", "artifacts": "results/artifacts"}
    for argument in arguments:
        key, sign, value = argument.partition("=")
        # Other arguments belong to the experiment and are checked when it is composed.
        if key.startswith("paths."):
            if key.removeprefix("paths.") not in paths or not sign or not value:
                raise UserError(f"'{argument}' names no folder; allowed: {', '.join(f'paths.{known}=DIR' for known in paths)}")
            paths[key.removeprefix("paths.")] = value
    return SweepPaths(*(_folder(paths[key]) for key in ("data", "results", "artifacts")))


def _folder(path: str) -> Path:
    return (HOME / home_expanded(path)).resolve()


def _without_folders(arguments: Sequence[str]) -> tuple[str, ...]:
    """The arguments without `paths.*`, `--config-dir` without its folder, and plug-ins by name: a store may move."""
    kept: list[str] = []
    for argument in arguments:
        # The folder that follows the option is a path, too.
        if kept and kept[-1] == CONFIG_DIR and "=" not in argument and not argument.startswith("-"):
            continue
        if argument.startswith("plugins=") and "{" not in argument:
            argument = f"plugins=[{','.join(parse_plugins(argument.removeprefix('plugins=')))}]"
        if not argument.startswith("paths."):
            kept.append(CONFIG_DIR if argument.startswith(("--config-dir", "-cd")) else argument)
    return tuple(kept)


def refuse_missing(composed: Composed, arguments: Sequence[str]) -> None:
    """Check before anything is queued that the experiment's data, weights and folders exist.

    Args:
        composed: the experiment.
        arguments: of its command line, which the message repeats.

    Raises:
        UserError: names everything that is missing.
    """
    from sweeper.plan.prerequisites import find_missing

    missing = find_missing(composed)
    if missing:
        # Backend and device are those of compute nodes, and change nothing that is read.
        same = [argument for argument in arguments if not argument.startswith("backend")]
        remedy = f"{shlex.join(['sap-sweep', 'prepare', *same])} --download gets it"
        raise UserError(f"nothing was queued, because this is missing: {'; '.join(missing)}; {remedy}")


def refuse_secrets(texts: Mapping[str, str]) -> None:
    """Check that no key or password of the environment would be written to a file.

    Raises:
        UserError: a text contains the value of such a variable; the message names the variable, not its value.
    """
    for name, value in secrets().items():
        for where, text in texts.items():
            # Only the variable's name is printed, because the message may end in a log.
            if value in text:
                raise UserError(
                    f"{where} contains the value of the environment variable {name}, which would be written to files; remove it"
                )


def _write_jobs_once(store: Store, jobs: Sequence[Job]) -> Path:
    """Write the jobs to a file named by their content, so that a later plan does not change what is waiting in a queue."""
    key = content_id({"jobs": [job.to_json() for job in jobs]})
    path = store.root / "slurm" / f"plan-{key}.jsonl"
    if not path.exists():
        write_jobs(path, jobs)
    return path


def _with_progress(name: str, paths: SweepPaths, plan: Path, order: str, arguments: tuple[str, ...], jobs: Sequence[Job]) -> Snapshot:
    """A snapshot with the numbers of jobs by state, from the rows in the store."""
    store = Store(paths.store)
    # From file names alone; `finished` also leaves out failed jobs that have attempts remaining.
    statuses = store.statuses()
    finished, _ = store.finished()
    given_up = [job_id for job_id, status in finished.items() if status == "failed"]
    # A finished job that the schedule contains is one whose artifact must be made again.
    schedule = Schedule.of(jobs, finished, paths.artifacts)
    waiting = dict(schedule.waiting)
    # Jobs below one that was given up would only become failed rows.
    schedule.orphans()
    return Snapshot(
        name=name, paths=paths, plan=plan, order=order, arguments=arguments,
        counts=total(count_jobs({job.job_id: job.job_type for job in jobs}, statuses, given_up)),
        retrain=sum(finished.get(job_id) == "ok" for job_id in waiting),
        runnable=len(schedule.waiting),
        flops_done=sum(job.forecast_flops or 0.0 for job in jobs if statuses.get(job.job_id) == "ok"),
    )  # fmt: skip


def _flat(value: Any, path: str = "") -> dict[str, str]:
    """Nested mappings and lists of mappings as {dotted key: repr of the value}."""
    if isinstance(value, Mapping):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        items = [(str(number), item) for number, item in enumerate(value)]
    else:
        return {path: repr(value)}
    return {key: text for name, item in items for key, text in _flat(item, f"{path}.{name}" if path else name).items()}

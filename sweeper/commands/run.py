"""`sap-sweep run KEY=VALUE ...`, also without the word run: composes, plans and runs a sweep.

Imports inside functions keep torch, Ray and Hydra out of commands that do not need them: a sweep that is already complete answers without
torch, and a dry run without Ray.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from sap_core import machine
from sap_core.checksum import is_intact
from sap_core.command_line import home_expanded
from sweeper.backends.configured import is_limited_by_cluster, make_backend, num_workers
from sweeper.commands.common import add_overrides, examples, hydra_arguments
from sweeper.jobs.job import Job, Result, SweepPaths
from sweeper.monitor.report import report, summary
from sweeper.monitor.stages import stage
from sweeper.monitor.wandb_mirror import mirroring
from sweeper.plan.build import check_cells, compose_experiments, inspect_and_plan, plan_key, sweep_paths, write_plan
from sweeper.plan.job_filter import JobFilter, filter_jobs, parse_filter
from sweeper.plan.reproducible import prepare_reproducible, refuse_other_artifacts
from sweeper.store.plan_index import exchanged_files, read_plan_index
from sweeper.store.provenance import HOME
from sweeper.store.store import MAX_ATTEMPTS, Store

if TYPE_CHECKING:
    from sweeper.config.compose import Composed
    from sweeper.config.schema import Config
    from sweeper.estimate.duration import RuntimeEstimator
    from sweeper.plan.cell import Cell
    from sweeper.plan.plan import Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_overrides(parser, "experiment=NAME, and any override of a configuration key (docs/config.md)")
    parser.epilog = examples(
        "sap-sweep run experiment=demo",
        "sap-sweep run experiment=table1 dry_run=true",
        "sap-sweep run experiment=table1 debug=smoke",
        "sap-sweep run experiment=demo 'methods=[sap]' trainer.epochs=2 'seeds=[1]' name=short",
        note="The word run may be left out: sap-sweep experiment=demo. Options of Hydra: --cfg job prints the composed configuration, and "
        "sap-sweep experiment=demo --help every key. Exit code: 0 done, 1 a job failed, 2 the command line or a file is invalid.",
    )


GIVEN = "trainers.pretrained.Pretrained"
"""Class of the trainer that loads a checkpoint in place of training."""


def run(options: argparse.Namespace) -> int:
    """Composes and plans the sweep and runs the jobs that the store does not contain; returns 0, or 1 if a job or a whole search failed.

    Raises:
        UserError: the configuration is invalid, a prerequisite is missing, or results cannot be stored.
    """
    # Composition needs no torch, so everything that can be answered from it comes first.
    stage("composing the configuration")
    experiments = compose_experiments(hydra_arguments(options), existing=True)
    codes = []
    for number, composed in enumerate(experiments, 1):
        if len(experiments) > 1:
            store = os.path.relpath(sweep_paths(composed.config).store)
            print(f"experiment {number} of {len(experiments)}: {composed.config.name}, results in {store}", file=sys.stderr)
        codes.append(_run_experiment(composed))
    return max(codes)


def _run_experiment(composed: Composed) -> int:
    config = composed.config
    only = parse_filter(config.only)
    paths = sweep_paths(config)
    store = Store(paths.store)
    # Neither a dry run nor an export runs a job, so both end before the store is opened; but neither promises what a start would refuse.
    if config.dry_run or config.export is not None:
        store.check_version()
    if config.dry_run:
        return _dry_run(composed, only)
    if config.export is not None:
        return _export(composed, only, paths)
    if config.backend.reproducible:
        prepare_reproducible(store, workers_here=config.backend.address is None)
    key = plan_key(composed)
    # The key covers the complete plan, so the shortcut does not apply to a part of it; and a network may still have to be saved.
    complete = _complete_plan(store, key) if only is None and config.save_corrected == "none" and not config.retry else None
    if complete is not None:
        from sweeper.jobs.job import read_jobs

        rows, given_up = complete
        print(f"{paths.store}: all {rows} planned rows are stored, nothing to do")
        _print_given_up(given_up)
        # Mirrors the jobs that an earlier start did not.
        with mirroring(config.tracking, paths.store):
            pass
        if config.timing == "exclusive":
            with store.locked():
                _measure_exclusively(read_jobs(store.jobs, config.plugins), config, paths)
        _print_results(composed, store)
        return (1 if given_up else 0) | _print_failed_searches(read_jobs(store.jobs, None), store)
    from sweeper.plan.class_numbers import FILE, describe_classes, read_class_names, warn_of_classes, write_classes

    # Before anything is written to a store of another version. A plan with this key was written by this code, hence by this version: a
    # complete store answers without opening a Parquet file.
    store.check_version()
    stage("checking networks and methods")
    cells = check_cells(composed)
    stage("inspecting the data")
    classes = read_class_names((cell.dataset for cell in cells), paths.data)
    warn_of_classes(classes)
    # All checks run before the first folder is created.
    plan = inspect_and_plan(composed, cells, paths)
    jobs = plan.jobs if only is None else filter_jobs(plan.jobs, only)
    refuse_other_artifacts(jobs, paths)
    with store.locked() as check_owned:
        stage("planning the jobs")
        estimator, _ = _estimator(config, cells, paths)
        if config.retry:
            _print_retried(store.retry_failed(job.job_id for job in jobs))
        # Under the lock: the forecasts of an earlier start are read from the plan that is about to be replaced.
        plan = _forecast(plan, estimator, store)
        write_classes(store.root, classes)
        write_plan(store, plan, composed, key)
        if plan.data_report:
            from sweeper.monitor.progress import log_lines

            log_lines(store.logs / "sweep.log", plan.data_report)
        for line in describe_classes(classes, f"all in {os.path.relpath(paths.store / FILE)}"):
            print(line, file=sys.stderr)
        _print_counts(plan)
        with mirroring(config.tracking, paths.store):
            code = _run(config, jobs, paths, store, estimator, check_owned)
        if config.timing == "exclusive":
            _measure_exclusively(jobs, config, paths)
        # After all jobs, because the families of a search are separate jobs and only now is its best setting known.
        code |= _save_corrected(plan, config, paths)
        _print_results(composed, store)
        # Last, so that it is the last line. Of the whole plan, although `only` may have run a part.
        return code | _print_failed_searches(plan.jobs, store)


def _print_failed_searches(jobs: Iterable[Job], store: Store) -> int:
    """Prints the searches in which every setting failed; returns the exit code 1 if there are any."""
    from sweeper.jobs.searches import failed_searches

    found = failed_searches(jobs, store)
    for sentence in found:
        print(sentence, file=sys.stderr)
    if found:
        count = "1 search failed: none of its" if len(found) == 1 else f"{len(found)} searches failed: none of their"
        remedy = f"`sap-report {os.path.relpath(store.root)} status` prints the errors"
        print(f"{count} settings gave a result; {remedy}", file=sys.stderr)
    return 1 if found else 0


def _save_corrected(plan: Plan, config: Config, paths: SweepPaths) -> int:
    if config.save_corrected == "none":
        return 0
    from sweeper.jobs.save_best import save_best

    return save_best(plan.jobs, paths, config.backend.device)


def _measure_exclusively(jobs: Iterable[Job], config: Config, paths: SweepPaths) -> None:
    from sweeper.backends.exclusive_timing import measure

    measure(list(jobs), paths, config.backend.device)


def _print_results(composed: Composed, store: Store) -> None:
    """Prints what was found, as far as the store has it: the table of sampled searches, the recommendation for a network that was trained
    elsewhere, or else the summary of the store. No table accepts the rows of smoke runs.
    """
    config = composed.config
    if config.debug.name:
        return
    # By the class: other trainers have an option `checkpoint` of their own, and importing the class would load torch.
    given = any(cell["trainer"]["_target_"] == GIVEN for cell in composed.cells)
    if not (config.search.is_grid and not config.searches):
        print(report(store.root, "table", "search"), end="")
    elif not given:
        print(summary(store.root), end="")
    # The owner of a network wants to know which of two to use.
    if given:
        print(report(store.root, "table", "recommendation"), end="")
        print(f"complete report: sap-report {os.path.relpath(store.root)} all", file=sys.stderr)


def _print_counts(plan: Plan) -> None:
    from sweeper.plan.flops import summarise_searches

    counts = ", ".join(f"{search.name} {search.counts}" for search in summarise_searches(plan.rows))
    print(f"settings per baseline: {counts}", file=sys.stderr)


def _forecast(plan: Plan, estimator: RuntimeEstimator, store: Store) -> Plan:
    """The plan with forecast seconds of the remaining jobs. Earlier forecasts are kept, so that they can be compared with the run times."""
    from sweeper.plan.runtime_forecast import earlier_forecasts, with_forecasts

    return replace(plan, rows=tuple(with_forecasts(plan.rows, estimator, earlier_forecasts(store.plan), store.statuses())))


def _run(
    config: Config, jobs: Sequence[Job], paths: SweepPaths, store: Store, estimator: RuntimeEstimator, check_owned: Callable[[], None]
) -> int:
    """Runs the jobs that the store does not contain; `check_owned` raises if the store is not this process's any more."""
    from sweeper.jobs.job_leases import remove_stale_leases
    from sweeper.jobs.results import store_failure
    from sweeper.monitor.progress import Progress
    from sweeper.scheduling.schedule import Schedule
    from sweeper.scheduling.work_queue import retraining_message
    from sweeper.store.leases import process_leases

    finished = _finished(store)
    schedule = Schedule.of(jobs, finished, paths.artifacts, config.order)
    pending = list(schedule.waiting.values())
    # Counts are in rows, because a job may have one row or hundreds.
    total = sum(len(job.runs) for job in jobs)
    stored = total - sum(len(job.runs) for job in pending)
    print(f"{paths.store}: {total} rows planned in {len(jobs)} jobs, {stored} rows stored", file=sys.stderr)
    _print_given_up(sum(1 for job in jobs if finished.get(job.job_id) == "failed"))
    if line := retraining_message(schedule.recomputed):
        print(line, file=sys.stderr)
    workers = None if is_limited_by_cluster(config.backend) else max(1, min(num_workers(config.backend), len(pending)))
    backend = make_backend(config.backend, paths, len(pending), workers)
    stage(None)
    progress = Progress(pending, total, stored, store.logs / "sweep.log", estimator, workers)
    with machine.signals_as_interrupt(), progress:
        # Jobs below a job that has been given up become failed rows that name it, so that no planned row is silently absent.
        for orphan, why in schedule.orphans():
            progress.report(orphan, store_failure(orphan, store, "parent", why))

        def report(job: Job, result: Result) -> None:
            progress.report(job, result)
            # Before the next job starts, which would store its rows in whatever has the store's name by then.
            check_owned()

        backend.run(schedule, report)
    # A worker that died between storing its rows and releasing its lease leaves one on a finished job.
    remove_stale_leases(jobs, paths, process_leases())
    failed = len(schedule.failed)
    if failed:
        count = "1 job" if failed == 1 else f"{failed} jobs"
        remedy = f"`sap-report {shlex.quote(os.path.relpath(paths.store))} status` prints the errors, the same command retries"
        print(f"{count} failed; {remedy}", file=sys.stderr)
    return 1 if failed else 0


def _finished(store: Store) -> dict[str, str]:
    """Job id -> status, of the jobs that are not run again. Prints messages about damaged files."""
    finished, problems = store.finished()
    for problem in problems:
        print(problem, file=sys.stderr)
    return finished


def _print_given_up(jobs: int) -> None:
    if jobs:
        them = "it" if jobs == 1 else "them"
        text = "1 job failed {} times and is" if jobs == 1 else f"{jobs} jobs failed {{}} times and are"
        print(f"{text.format(MAX_ATTEMPTS)} not retried; add retry=failed to the command to give {them} new attempts", file=sys.stderr)


def _print_retried(jobs: int) -> None:
    what = "no job has failed" if not jobs else f"{'1 failed job gets' if jobs == 1 else f'{jobs} failed jobs get'} new attempts"
    print(f"retry=failed: {what}", file=sys.stderr)


def _dry_run(composed: Composed, only: JobFilter | None) -> int:
    from sweeper.plan.cell_descriptions import describe_cells
    from sweeper.plan.class_numbers import describe_classes, read_class_names, warn_of_classes
    from sweeper.plan.flops import describe_plan, flops_of
    from sweeper.plan.runtime_forecast import describe_seconds

    stage("checking networks and methods")
    cells = check_cells(composed)
    stage("planning the jobs")
    classes = read_class_names((cell.dataset for cell in cells), sweep_paths(composed.config).data)
    # The same checks of the user's files as before a run; published data sets need not be downloaded yet.
    plan = inspect_and_plan(composed, cells, sweep_paths(composed.config))
    jobs = plan.jobs if only is None else filter_jobs(plan.jobs, only)
    chosen = {run.run_id for job in jobs for run in job.runs}
    # The largest network, for an upper bound of the disk space of checkpoints.
    parameters = max(flops_of(cell.model, cell.dataset).parameters for cell in cells)
    backend = composed.config.backend
    print(f"{composed.config.name}: dry run, no job is started")
    print("\n".join(describe_cells(cells, jobs)), end="\n\n")
    for line in describe_classes(classes, "`sap-sweep classes` with the same arguments prints all"):
        print(line)
    warn_of_classes(classes)
    rows = [row for row in plan.rows if row.run_id in chosen]
    print(describe_plan(jobs, rows, parameters, backend.flops_per_second, backend.device))
    estimator, workers = _estimator(composed.config, cells, sweep_paths(composed.config))
    print(f"\n{describe_seconds(rows, estimator, workers)}")
    return 0


def _export(composed: Composed, only: JobFilter | None, paths: SweepPaths) -> int:
    """Writes the jobs and their plan to one file (see `sweeper.plan.bundle`)."""
    from omegaconf import OmegaConf

    from sweeper.plan.bundle import Bundle, write_bundle
    from sweeper.plan.class_numbers import read_class_names, warn_of_classes
    from sweeper.store.provenance import commit

    # The data are inspected here, because ids contain the fingerprint of files that are not the published ones.
    cells = check_cells(composed)
    warn_of_classes(read_class_names((cell.dataset for cell in cells), paths.data))
    plan, config = inspect_and_plan(composed, cells, paths), composed.config
    jobs = plan.jobs if only is None else filter_jobs(plan.jobs, only)
    chosen = {run.run_id for job in jobs for run in job.runs}
    rows = tuple(row for row in plan.rows if row.run_id in chosen)
    path = (HOME / home_expanded(config.export or "")).resolve()
    # Relative, so that the bundle contains no path of this machine if the store is in the checkout.
    results = os.path.relpath(paths.store, HOME) if paths.store.is_relative_to(HOME) else str(paths.store)
    # The stored configuration must not export once more when the bundle's store is resumed.
    text = OmegaConf.to_yaml(OmegaConf.create(composed.raw | {"export": None}))
    # A bundle of a part of the plan has no key, so that the next start of its store plans the rest.
    bundle = Bundle(config.name or "", results, config.order, "" if only else plan_key(composed), text, commit(), jobs, rows)
    write_bundle(path, bundle)
    if any(job.job_type == "search" for job in jobs):
        print("sampled searches need Optuna on the machine that runs the bundle", file=sys.stderr)
    print(f"{path}: {len(jobs)} jobs, {len(rows)} rows; run it with `python -m sweeper.execute {path.name} --data DIR --store DIR`")
    return 0


def _estimator(config: Config, cells: Sequence[Cell], paths: SweepPaths) -> tuple[RuntimeEstimator, int]:
    """(runtime estimator from the measurements of this store and its siblings, number of workers)"""
    from sweeper.estimate.measurements import stores_in
    from sweeper.plan.runtime_forecast import make_estimator

    workers = num_workers(config.backend)
    # Finished jobs of the stores beside this one are measurements, too.
    return make_estimator(config, cells, stores_in(paths.store.parent), workers, machine.cores()), workers


def _complete_plan(store: Store, key: str) -> tuple[int, int] | None:
    """(number of planned rows, number of jobs given up) if the stored plan belongs to this configuration and all its jobs ended; else None.

    A shortcut that avoids planning, which loads torch. A plan.json that is missing or damaged is written again by planning.
    """
    with suppress(OSError, ValueError, KeyError, TypeError):
        stored = read_plan_index(store.root)
        # What reports and other commands read is written anew where it is damaged.
        whole = all(is_intact(path) for path in (store.plan, store.jobs, store.root / "config.yaml"))
        whole = whole and not exchanged_files(store.root, stored)
        if stored["key"] == key and whole:
            finished = _finished(store)
            if all(job_id in finished for job_id in stored["jobs"]):
                return int(stored["rows"]), sum(finished[job_id] == "failed" for job_id in stored["jobs"])
    return None

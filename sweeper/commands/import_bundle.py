"""`sap-sweep import DIR ...`: copies the results of `python -m sweeper.execute BUNDLE` into a store.

Everything is verified before it is copied: ids must match the plan, files must be readable. What the store contains is never replaced, so a
second import does nothing.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from sap_core.command_line import home_expanded
from sap_core.errors import UserError
from sap_core.files import replacing, save_yaml
from sap_core.records import Planned
from sweeper.commands.common import add_plugins, examples, key_values
from sweeper.commands.import_checks import (
    check_ids,
    default_store,
    foreign_files,
    is_own_file,
    points_problem,
    read_columns,
    row_problem,
)
from sweeper.config.packages import parse_plugins
from sweeper.jobs.job import ARTIFACT_LEASE, Job, artifact, read_jobs, write_jobs
from sweeper.jobs.stored_artifacts import ARTIFACT_FILES, damage, is_complete
from sweeper.plan.bundle import Bundle, stored_bundles
from sweeper.store.leases import acquire_all, process_leases
from sweeper.store.plan_index import write_plan_index
from sweeper.store.provenance import HOME
from sweeper.store.store import Store, write_records

KEYS = ("paths.results", "paths.artifacts", "plugins")
_LAST = "last.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders", nargs="*", metavar="DIR",
        help="the --store folder of `python -m sweeper.execute BUNDLE`; several are merged. Also paths.results=STORE (default: the store "
        "that the bundle names) and paths.artifacts=DIR (default: results/artifacts), and plugins=[PACKAGE] for packages of your "
        "own that its jobs may name",
    )  # fmt: skip
    add_plugins(parser)
    parser.epilog = examples("sap-sweep import back", "sap-sweep import back1 back2 paths.results=results/headline")


def run(options: argparse.Namespace) -> int:
    """Imports the folders; returns 0, or 1 if a file was refused.

    Raises:
        UserError: a folder is missing or has no bundle, or the bundles or the store belong to different experiments.
    """
    folders, chosen = _parse(options.folders)
    plugins = parse_plugins(chosen.get("plugins", ""))
    bundles = {folder: stored_bundles(folder, plugins) for folder in folders}
    # Everything is checked before anything is written.
    for folder, kept in bundles.items():
        for bundle in kept:
            check_ids(bundle, folder)
    # Bundles of one experiment name one store; of several, the user has to choose.
    targets = {bundle.results for kept in bundles.values() for bundle in kept}
    if len(targets) > 1 and "paths.results" not in chosen:
        raise UserError(f"these bundles belong to several stores ({', '.join(sorted(targets))}); import them one by one")
    store = Store((HOME / chosen["paths.results"]).resolve() if "paths.results" in chosen else default_store(targets.pop()))
    artifacts = (HOME / chosen.get("paths.artifacts", "results/artifacts")).resolve()
    counts: Counter[str] = Counter()
    # No sweep may plan or run in the store while its plan is extended.
    with store.locked():
        for folder, kept in bundles.items():
            for reason in foreign_files(folder, kept):
                _refuse(reason, counts)
            for bundle in kept:
                _import_plan(bundle, store)
                for job in bundle.jobs:
                    # Artifacts first: a stored row whose checkpoint is missing would make the next start train again.
                    _import_artifact(job, folder / "artifacts", artifacts, counts)
                    _import_rows(job, Store(folder), store, counts)
    print(f"{store.root}: {_summary(counts)}")
    return 1 if counts["refused"] else 0


def _parse(arguments: Sequence[str]) -> tuple[list[Path], dict[str, str]]:
    # A folder may have `=` in its name, so it counts as one if it exists.
    folders = [argument for argument in arguments if "=" not in argument or home_expanded(argument).is_dir()]
    for folder in folders:
        if not home_expanded(folder).is_dir():
            raise UserError(f"'{folder}' is not a folder; give the --store folder of `python -m sweeper.execute BUNDLE`")
    if not folders:
        raise UserError("sap-sweep import needs the --store folder of `python -m sweeper.execute BUNDLE`, as in sap-sweep import DIR")
    others = [argument for argument in arguments if argument not in folders]
    return [home_expanded(folder).resolve() for folder in folders], key_values(others, KEYS, "sap-sweep import")


def _summary(counts: Counter[str]) -> str:
    jobs = f"{counts['jobs']} jobs imported ({counts['rows']} rows, {counts['failed']} jobs failed), {counts['stored']} already stored"
    artifacts = f"checkpoints: {counts['artifacts']} imported, {counts['artifacts stored']} already stored"
    refused = f", {counts['refused']} files refused" if counts["refused"] else ""
    return f"{jobs}, {counts['open']} not run yet; {artifacts}{refused}"


def _import_plan(bundle: Bundle, store: Store) -> None:
    """Adds the bundle's jobs and planned rows to the store; writes nothing if the store contains all of them.

    Raises:
        UserError: the store belongs to another experiment, or its plan is damaged.
    """
    jobs = {job.job_id: job for job in read_jobs(store.jobs, None)} if store.jobs.exists() else {}
    # Rows of two experiments in one store would be reported as one.
    others = {job.labels["experiment"] for job in jobs.values()} - {bundle.name}
    if others:
        raise UserError(
            f"{store.root} contains the experiment {', '.join(sorted(others))}, but the bundle belongs to {bundle.name}; "
            "choose another store with paths.results=..."
        )
    # A second import changes nothing, not even the plan's modification time.
    if all(job.job_id in jobs for job in bundle.jobs):
        return
    # What the store has planned stays as it is, forecasts included.
    rows = {row.run_id: row for row in _planned(store)}
    fresh = not jobs
    jobs = jobs | {job.job_id: job for job in bundle.jobs if job.job_id not in jobs}
    rows |= {row.run_id: row for row in bundle.rows if row.run_id not in rows}
    # An existing configuration is kept: the store continues with it.
    if fresh:
        save_yaml(store.root / "config.yaml", bundle.config)
    write_jobs(store.jobs, jobs.values())
    write_records(store.plan, list(rows.values()), Planned)
    # Without a key the next start plans again: the store contains more than this bundle's configuration.
    write_plan_index(store.root, bundle.key if fresh else "", len(rows), list(jobs))


def _planned(store: Store) -> Iterable[Planned]:
    from analysis.store.parquet import UNREADABLE, read_file

    try:
        return [Planned(**line) for line in read_file(store.plan, Planned).to_pylist()] if store.plan.exists() else []
    except UNREADABLE as error:
        raise UserError(
            f"the plan {store.plan} cannot be read ({error}); start the sweep once more, which writes it anew, then import again"
        ) from error


def _import_rows(job: Job, source: Store, store: Store, counts: Counter[str]) -> None:
    """Copies a job's series, then its rows: a job counts as done as soon as its rows are stored."""
    status = source.statuses().get(job.job_id)
    if status is None:
        counts["open"] += 1
        return
    # A failed job is imported once: its rows count as attempts of the store.
    if store.is_done(job.job_id) or (status == "failed" and store.attempts(job.job_id)):
        counts["stored"] += 1
        return
    path = source.rows / f"{job.job_id}.{status}.parquet"
    # A job in a merged file has none of its own.
    if path.exists() and not is_own_file(path, source.root):
        _refuse(f"{path} is a link to another folder, or no regular file", counts)
        return
    rows = source.read_rows(job.job_id)
    if problem := row_problem(job, rows, path):
        _refuse(f"{path} {problem}", counts)
        return
    points = source.read_series(job.job_id)
    if problem := points_problem(job, points):
        _refuse(f"{source.series / f'{job.job_id}.parquet'} {problem}", counts)
        return
    store.write_series(job.job_id, points)
    store.write_rows(rows)
    counts.update(jobs=1, rows=len(rows), failed=int(status == "failed"))


def _import_artifact(job: Job, source: Path, artifacts: Path, counts: Counter[str]) -> None:
    """Copies a checkpoint or a selection, its marker last; or the state of an unfinished training, if there is nothing yet."""
    from sap_core.checkpoint import load_state

    name, folder, target = ARTIFACT_FILES.get(job.job_type), source / job.job_id, artifacts / job.job_id
    # A training without a marker is unfinished; its last state lets the sweep continue it.
    marker = artifact(source, job.job_id)
    if name is None or not (marker.exists() or (folder / _LAST).exists()):
        return
    if is_complete(artifacts, job.job_id) or (not marker.exists() and (target / _LAST).exists()):
        counts["artifacts stored"] += 1
        return
    # The marker is copied last, because it declares the artifact complete.
    names = (name, marker.name) if marker.exists() else (_LAST,)
    if not all(is_own_file(folder / each, source.parent) for each in names):
        _refuse(f"{folder / names[0]} or its {marker.name} is a link to another folder, or no regular file", counts)
        return
    try:
        # The file is read, because an interrupted copy is not visible in its name.
        load_state(folder / names[0])
        if marker.exists():
            read_columns(marker)
            if damage(source, job.job_id):
                raise ValueError("it is not the file that was stored")
    except (UserError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        _refuse(f"{folder / names[0]} or its {marker.name} is damaged ({' '.join(str(error).split())[:200]})", counts)
        return
    # The lease keeps out a sweep that is training the same baseline.
    with acquire_all(process_leases(), [target / ARTIFACT_LEASE]) as owner:
        if isinstance(owner, str):
            counts["leased artifacts"] += 1
            return
        for each in names:
            # Copied under a temporary name and renamed, so that no sweep reads half a checkpoint.
            with replacing(target / each) as temporary:
                shutil.copyfile(folder / each, temporary)
    counts["artifacts"] += 1


def _refuse(reason: str, counts: Counter[str]) -> None:
    print(f"refused: {reason}", file=sys.stderr)
    counts["refused"] += 1

"""`sap-sweep import DIR ...`: takes what `python -m sweeper.execute` made of a bundle into a store.

Everything is looked at before it is taken: ids must be the plan's, files whole. What the store holds stays as it is: a second import does
nothing, complete rows are never replaced, and checkpoints that are there are kept.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from sap_core.errors import UserError
from sap_core.files import replacing, save_json, save_text
from sap_core.identity import content_id
from sap_core.records import Planned, Row
from sweeper.commands.common import examples, settings
from sweeper.jobs.job import MAKING, Job, artifact, read_jobs, write_jobs
from sweeper.plan.bundle import Bundle, kept_bundles
from sweeper.store.leases import acquire_all, process_leases
from sweeper.store.provenance import HOME
from sweeper.store.store import Store, schema, write_records

KEYS = ("paths.results", "paths.artifacts")
_FILES = {"train": "model.safetensors", "select": "selection.safetensors"}
_LAST = "last.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders", nargs="*", metavar="DIR",
        help="the --store of `python -m sweeper.execute BUNDLE`; several are merged. Also paths.results=STORE, in place of the store that "
        "the bundle names, and paths.artifacts=DIR, in place of results/artifacts",
    )  # fmt: skip
    parser.epilog = examples("sap-sweep import back", "sap-sweep import back1 back2 paths.results=results/headline")


def run(options: argparse.Namespace) -> int:
    """Returns 0, or 1 when a file was refused.

    Raises:
        UserError: no folder, one without bundles, bundles of different experiments, a store of another experiment.
    """
    folders, chosen = _parse(options.folders)
    bundles = {folder: kept_bundles(folder) for folder in folders}
    targets = {bundle.results for kept in bundles.values() for bundle in kept}
    if len(targets) > 1 and "paths.results" not in chosen:
        raise UserError(f"these bundles belong to several stores ({', '.join(sorted(targets))}); import them one by one")
    store = Store((HOME / chosen.get("paths.results", targets.pop())).resolve())
    artifacts = (HOME / chosen.get("paths.artifacts", "results/artifacts")).resolve()
    counts: Counter[str] = Counter()
    with store.locked():
        for folder, kept in bundles.items():
            for bundle in kept:
                _check_ids(bundle, folder)
                _take_plan(bundle, store)
                for job in bundle.jobs:
                    _take_artifact(job, folder / "artifacts", artifacts, counts)
                    _take_rows(job, Store(folder), store, counts)
    print(f"{store.root}: {_words(counts)}")
    return 1 if counts["refused"] else 0


def _parse(words: Sequence[str]) -> tuple[list[Path], dict[str, str]]:
    folders = [word for word in words if "=" not in word or Path(word).is_dir()]
    for word in folders:
        if not Path(word).is_dir():
            raise UserError(f"{word} is no folder; give the --store of python -m sweeper.execute BUNDLE")
    if not folders:
        raise UserError("sap-sweep import needs a folder: the --store of python -m sweeper.execute BUNDLE, as in sap-sweep import DIR")
    return [Path(word).resolve() for word in folders], settings([word for word in words if word not in folders], KEYS, "sap-sweep import")


def _words(counts: Counter[str]) -> str:
    taken = f"{counts['jobs']} jobs imported ({counts['rows']} rows, {counts['failed']} of the jobs failed), {counts['held']} held already"
    artifacts = f"checkpoints: {counts['artifacts']} imported, {counts['artifacts held']} held already"
    refused = f", {counts['refused']} files refused" if counts["refused"] else ""
    return f"{taken}, {counts['open']} not run yet; {artifacts}{refused}"


def _check_ids(bundle: Bundle, folder: Path) -> None:
    """Ids that follow from what a job holds must be what it is called.

    Raises:
        UserError: the first that is not.
    """
    for job in bundle.jobs:
        ids = [run.run_id for run in job.runs]
        right = {
            "tune": lambda job=job, ids=ids: content_id({"kind": "tune", "runs": ids}) == job.job_id,
            "search": lambda job=job, ids=ids: (
                ids == [content_id({"kind": "search", "job": job.job_id, "trial": number}) for number in range(len(ids))]
            ),
        }.get(job.job_type, lambda job=job, ids=ids: ids == [job.job_id])
        if not right():
            raise UserError(f"a bundle in {folder} has a job {job.job_id} whose id is not that of its content; export and run it again")


def _take_plan(bundle: Bundle, store: Store) -> None:
    """Adds the bundle's jobs and planned rows to those of the store; nothing is written where all are there.

    Raises:
        UserError: the store is of another experiment.
    """
    jobs = {job.job_id: job for job in read_jobs(store.jobs)} if store.jobs.exists() else {}
    others = {job.labels["experiment"] for job in jobs.values()} - {bundle.name}
    if others:
        raise UserError(
            f"{store.root} holds the experiment {', '.join(sorted(others))}, and this bundle is of {bundle.name}; "
            "choose another store with paths.results=..."
        )
    if all(job.job_id in jobs for job in bundle.jobs):
        return
    rows = {row.run_id: row for row in _planned(store)}
    fresh = not jobs
    jobs = jobs | {job.job_id: job for job in bundle.jobs if job.job_id not in jobs}
    rows |= {row.run_id: row for row in bundle.rows if row.run_id not in rows}
    if fresh:
        save_text(store.root / "config.yaml", bundle.config)
    write_jobs(store.jobs, jobs.values())
    write_records(store.plan, list(rows.values()), Planned)
    save_json(store.root / "plan.json", {"key": bundle.key if fresh else "", "rows": len(rows), "jobs": list(jobs)})


def _planned(store: Store) -> Iterable[Planned]:
    import pyarrow.parquet as pq

    return [Planned(**line) for line in pq.read_table(store.plan, schema=schema(Planned)).to_pylist()] if store.plan.exists() else []


def _take_rows(job: Job, source: Store, store: Store, counts: Counter[str]) -> None:
    """Series first, then the rows, which say that the job is done."""
    status = source.statuses().get(job.job_id)
    if status is None:
        counts["open"] += 1
        return
    if store.holds(job.job_id) or (status == "failed" and store.attempts(job.job_id)):
        counts["held"] += 1
        return
    rows = source.read_rows(job.job_id)
    wrong = _not_of(job, rows)
    if wrong:
        _refuse(f"{source.rows}/{job.job_id}.{status}.parquet {wrong}", counts)
        return
    store.write_series(job.job_id, source.read_series(job.job_id))
    store.write_rows(rows)
    counts.update(jobs=1, rows=len(rows), failed=int(status == "failed"))


def _not_of(job: Job, rows: Sequence[Row]) -> str:
    """Why these are not the job's rows; empty when they are."""
    if not rows:
        return "is damaged, or holds no row of its job"
    planned = {run.run_id: run for run in job.runs}
    if sorted(row.run_id for row in rows) != sorted(planned):
        return "does not hold all rows of its job, and no others"
    for row in rows:
        run = planned[row.run_id]
        known = {**job.labels, "job_id": job.job_id, "job_type": job.job_type, "position": run.position}
        if job.job_type != "search":  # the setting of a trial is chosen as it runs
            known["settings"] = json.dumps(run.settings, sort_keys=True)
        if job.job_type in ("tune", "search") and known.get("information") == "none":
            del known["information"]  # a corrector that selects samples without declaring it is recorded as scored
        for name, value in known.items():
            if getattr(row, name, value) != value:
                return f"says {name}={getattr(row, name)!r} where the plan says {value!r}"
    return ""


def _take_artifact(job: Job, source: Path, artifacts: Path, counts: Counter[str]) -> None:
    """A checkpoint or a selection, its marker last; or how far a training has come, where there is nothing yet."""
    from sap_core.checkpoint import load_state

    name, folder, target = _FILES.get(job.job_type), source / job.job_id, artifacts / job.job_id
    marker = artifact(source, job.job_id)
    if name is None or not (marker.exists() or (folder / _LAST).exists()):
        return
    if artifact(artifacts, job.job_id).exists() or (not marker.exists() and (target / _LAST).exists()):
        counts["artifacts held"] += 1
        return
    names = (name, marker.name) if marker.exists() else (_LAST,)
    try:
        load_state(folder / names[0])
        if marker.exists():
            json.loads(marker.read_text())["columns"]
    except (UserError, OSError, ValueError, KeyError, TypeError):
        _refuse(f"{folder / names[0]} or its {marker.name} is damaged", counts)
        return
    with acquire_all(process_leases(), [target / MAKING]) as held:
        if isinstance(held, str):
            counts["artifacts in the making"] += 1
            return
        for each in names:
            with replacing(target / each) as temporary:
                shutil.copyfile(folder / each, temporary)
    counts["artifacts"] += 1


def _refuse(what: str, counts: Counter[str]) -> None:
    print(f"refused: {what}", file=sys.stderr)
    counts["refused"] += 1

"""Reads and writes job bundles: a sweep's jobs and plan in one file, for machines without Ray, Hydra or a network.

sap-sweep export experiment=NAME --output FILE               writes FILE: a header, one line per job, one per planned row
python -m sweeper.execute FILE --data DIR --store DIR        runs it, and copies it to DIR/bundles
sap-sweep import DIR                                         imports rows and checkpoints into a store
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sap_core.checksum import DIGITS, ZEROS, Checksum, checksum_of, seal
from sap_core.errors import UserError
from sap_core.files import CHECKSUM_KEY, DAMAGED, replacing, save_text
from sap_core.records import SCHEMA_VERSION, Planned
from sweeper.config.schema import ORDERS, is_name
from sweeper.jobs.forms import record_problem
from sweeper.jobs.job import Job, checked_job

FORMAT_VERSION = 2
"""Raise it together with `sap_core.records.SCHEMA_VERSION`, which the rows of a bundle follow."""
FOLDER = "bundles"
"""Folder of a store with the bundles that filled it."""

_FORMAT = ".jsonl"

_BEGINNING = re.compile(rf'\{{("{CHECKSUM_KEY}": ".{{{DIGITS}}}", )?"bundle":')
"""How the header of a bundle begins."""


@dataclass(frozen=True)
class Bundle:
    """The content of a bundle file."""

    name: str  # of the experiment
    results: str  # the store that the sweep would fill, relative to the checkout
    order: str  # of the jobs
    key: str  # of the complete plan (`sweeper.plan.build.plan_key`); empty if `only` left out some of it
    config: str  # YAML
    commit: str
    jobs: tuple[Job, ...]
    rows: tuple[Planned, ...]


def write_bundle(path: Path, bundle: Bundle) -> None:
    """Write a bundle atomically.

    Raises:
        StorageError: the disk is full or read-only.
    """
    # The header counts jobs and rows, so that a truncated copy is recognised.
    header = {name: value for name, value in vars(bundle).items() if name not in ("jobs", "rows")}
    counts = {"bundle": FORMAT_VERSION, "num_jobs": len(bundle.jobs), "num_rows": len(bundle.rows)}
    # One JSON object per line, so that no text of the whole bundle is built, and a diff shows single jobs.
    with replacing(path) as temporary:
        with temporary.open("w", encoding="utf-8") as file:
            # The checksum is the first of the sorted keys, which is where `sap_core.checksum` expects it.
            file.write(json.dumps(counts | header | {CHECKSUM_KEY: ZEROS}, sort_keys=True) + "\n")
            file.writelines(f"{job.to_json()}\n" for job in bundle.jobs)
            file.writelines(f"{json.dumps({'planned': asdict(row)}, sort_keys=True)}\n" for row in bundle.rows)
        # The format is that of a job file, whatever name the user chooses.
        seal(temporary, path, _FORMAT)


def is_bundle(path: Path) -> bool:
    """Whether a file begins like a bundle (and not like a store's jobs.jsonl); False if it cannot be read."""
    try:
        # A pipe would be empty for the reader after this one.
        if not path.is_file():
            return False
        with path.open(encoding="utf-8", errors="replace") as file:
            # 64 characters, because a file that is no bundle may have a first line of any length.
            return _BEGINNING.match(file.readline(64)) is not None
    except OSError:
        return False


def read_bundle(path: Path, plugins: Sequence[str] = ()) -> Bundle:
    """Read a bundle, which may come from elsewhere: every id, name and value is checked for its form.

    Args:
        path: the file.
        plugins: packages whose classes its jobs may name, besides this project's.

    Raises:
        UserError: the file does not exist, is not a bundle, has another format version, is incomplete, or contains what a bundle may not.
    """
    remedy = "write it again with sap-sweep export experiment=NAME --output FILE"
    if path.exists() and not path.is_file():
        raise UserError(f"the bundle {path} is no regular file; {remedy}")
    try:
        data = path.read_bytes()
        lines = data.decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the bundle {path} cannot be read ({error}); {remedy}") from error
    try:
        # The header is parsed before the jobs, but its version is compared after them: a bundle of another version may fail to parse at
        # all, and both errors have the same remedy.
        if checksum_of(data, path, _FORMAT) is Checksum.DAMAGED and data:
            raise ValueError(DAMAGED)
        header: dict[str, Any] = json.loads(lines[0]) if lines else {}
        header.pop(CHECKSUM_KEY, None)
        version, num_jobs, num_rows = (header.pop(name) for name in ("bundle", "num_jobs", "num_rows"))
        values = [json.loads(line) for line in lines[1:]]
        jobs = tuple(
            checked_job(value, plugins, f"{path}, line {number},") for number, value in enumerate(values, 2) if "planned" not in value
        )
        rows = tuple(_checked_row(value["planned"]) for value in values if "planned" in value)
        if version != FORMAT_VERSION:
            raise UserError(f"{path} is a bundle of version {version}, and this program reads version {FORMAT_VERSION}; {remedy}")
        bundle = Bundle(jobs=jobs, rows=rows, **header)
    # A file from another machine may be cut or edited in any way, so all errors of parsing mean the same.
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is not a complete bundle ({' '.join(str(error).split())}); copy it again, or {remedy}") from error
    if (len(jobs), len(rows)) != (num_jobs, num_rows):
        raise UserError(
            f"{path} contains {len(jobs)} of its {num_jobs} jobs and {len(rows)} of its {num_rows} planned rows; copy it again, or {remedy}"
        )
    if problem := _contradiction(bundle):
        raise UserError(f"{path} is not a bundle that sap-sweep wrote: {problem}; {remedy}")
    return bundle


def _checked_row(value: dict[str, Any]) -> Planned:
    if problem := record_problem(value, Planned):
        raise ValueError(problem)
    return Planned(**value)


def _contradiction(bundle: Bundle) -> str:
    """Why the header, the jobs and the planned rows do not belong together; "" if they do."""
    if not isinstance(bundle.name, str) or not is_name(bundle.name) or bundle.order not in ORDERS:
        return f"name={str(bundle.name)[:100]!r} or order={str(bundle.order)[:100]!r} has another form"
    for name in ("results", "key", "config", "commit"):
        if not isinstance(getattr(bundle, name), str):
            return f"{name} is no text"
    jobs = {job.job_id: job for job in bundle.jobs}
    if len(jobs) != len(bundle.jobs):
        return "a job occurs twice"
    if others := sorted({str(job.labels["experiment"]) for job in bundle.jobs} - {bundle.name}):
        return f"it has jobs of the experiment {others[0]!r} beside those of {bundle.name!r}"
    runs = {run.run_id: (job, run) for job in bundle.jobs for run in job.runs}
    if len(runs) != sum(len(job.runs) for job in bundle.jobs):
        return "a run belongs to two jobs"
    if len({row.run_id for row in bundle.rows}) != len(bundle.rows) or runs.keys() != {row.run_id for row in bundle.rows}:
        return "its planned rows are not those of its jobs"
    for row in bundle.rows:
        job, run = runs[row.run_id]
        # A plan that says something else than its job would place the results in another row of a table.
        known = job.labels | {
            "job_id": job.job_id, "job_type": job.job_type, "position": run.position, "parents": ",".join(job.parents),
            "schema_version": SCHEMA_VERSION,
        }  # fmt: skip
        for name, value in known.items():
            if getattr(row, name, value) != value:
                return f"the planned row {row.run_id} has {name}={str(getattr(row, name))[:100]!r} where its job has {str(value)[:100]!r}"
    return ""


def copy_bundle(path: Path, store: Path) -> None:
    """Copy a bundle to the store that it fills; the import reads the plan from there."""
    # Named by content: a store may be filled from several bundles, and from one bundle by several machines.
    text = path.read_text(encoding="utf-8")
    kept = store / FOLDER / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.jsonl"
    if not kept.exists():
        save_text(kept, text)


def stored_bundles(store: Path, plugins: Sequence[str] = ()) -> Sequence[Bundle]:
    """The bundles of a store, ordered by file name; `plugins` as in `read_bundle`.

    Raises:
        UserError: there is none, or one is damaged.
    """
    # Sorted, so that every import adds jobs in the same order.
    paths = sorted((store / FOLDER).glob("*.jsonl"))
    if not paths:
        raise UserError(
            f"{store} contains no {FOLDER}/*.jsonl, so its rows cannot be identified; give the --store of python -m sweeper.execute BUNDLE"
        )
    return [read_bundle(path, plugins) for path in paths]

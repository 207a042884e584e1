"""Reads and writes job bundles: a sweep's jobs and plan in one file, for machines without Ray, Hydra or a network.

sap-sweep experiment=NAME export=FILE                        writes FILE: a header, one line per job, one per planned row
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
from sap_core.records import Planned
from sweeper.jobs.job import Job

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
        with temporary.open("w") as file:
            # The checksum is the first of the sorted keys, which is where `sap_core.checksum` expects it.
            file.write(json.dumps(counts | header | {CHECKSUM_KEY: ZEROS}, sort_keys=True) + "\n")
            file.writelines(f"{job.to_json()}\n" for job in bundle.jobs)
            file.writelines(f"{json.dumps({'planned': asdict(row)}, sort_keys=True)}\n" for row in bundle.rows)
        # The format is that of a job file, whatever name the user chooses.
        seal(temporary, path, _FORMAT)


def is_bundle(path: Path) -> bool:
    """Whether a file begins like a bundle (and not like a store's jobs.jsonl); False if it cannot be read."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            # 64 characters, because a file that is no bundle may have a first line of any length.
            return _BEGINNING.match(file.readline(64)) is not None
    except OSError:
        return False


def read_bundle(path: Path) -> Bundle:
    """Read a bundle.

    Raises:
        UserError: the file does not exist, is not a bundle, has another format version, or is incomplete.
    """
    remedy = "write it again with sap-sweep experiment=NAME export=FILE"
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
        jobs = tuple(Job.from_plain(value) for value in values if "planned" not in value)
        rows = tuple(Planned(**value["planned"]) for value in values if "planned" in value)
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
    return bundle


def copy_bundle(path: Path, store: Path) -> None:
    """Copy a bundle to the store that it fills; the import reads the plan from there."""
    # Named by content: a store may be filled from several bundles, and from one bundle by several machines.
    text = path.read_text(encoding="utf-8")
    kept = store / FOLDER / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.jsonl"
    if not kept.exists():
        save_text(kept, text)


def stored_bundles(store: Path) -> Sequence[Bundle]:
    """The bundles of a store, ordered by file name.

    Raises:
        UserError: there is none, or one is damaged.
    """
    # Sorted, so that every import adds jobs in the same order.
    paths = sorted((store / FOLDER).glob("*.jsonl"))
    if not paths:
        raise UserError(
            f"{store} contains no {FOLDER}/*.jsonl, so its rows cannot be identified; give the --store of python -m sweeper.execute BUNDLE"
        )
    return [read_bundle(path) for path in paths]

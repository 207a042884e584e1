"""Job bundles: a sweep's jobs and its plan as one file, for machines that have neither Ray nor Hydra nor a network.

sap-sweep experiment=NAME export=FILE                        writes FILE: a header, then a line per job and a line per planned row
python -m sweeper.execute FILE --data DIR --store DIR        runs it (sweeper.execute), and keeps a copy in DIR/bundles
sap-sweep import DIR                                         takes rows and checkpoints into a store (sweeper.commands.import_bundle)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sap_core.errors import UserError
from sap_core.files import replacing, save_text
from sap_core.records import Planned
from sweeper.jobs.job import Job

VERSION = 2
"""Raised with the schema version of the stores."""
FOLDER = "bundles"
"""Where a store that was filled from bundles keeps them."""


@dataclass(frozen=True)
class Bundle:
    """What a bundle's file holds."""

    name: str  # of the experiment
    results: str  # the store that the sweep would have filled, from the checkout
    order: str  # of the jobs
    key: str  # of the whole plan (sweeper.plan.build); empty where `only` left some of it out
    config: str  # YAML
    commit: str
    jobs: tuple[Job, ...]
    rows: tuple[Planned, ...]


def write_bundle(path: Path, bundle: Bundle) -> None:
    """Whole or not at all.

    Raises:
        StorageError: the disk refused.
    """
    header = {name: value for name, value in vars(bundle).items() if name not in ("jobs", "rows")}
    counts = {"bundle": VERSION, "num_jobs": len(bundle.jobs), "num_rows": len(bundle.rows)}
    with replacing(path) as temporary, temporary.open("w") as file:
        file.write(json.dumps(counts | header, sort_keys=True) + "\n")
        file.writelines(f"{job.to_json()}\n" for job in bundle.jobs)
        file.writelines(f"{json.dumps({'planned': asdict(row)}, sort_keys=True)}\n" for row in bundle.rows)


def is_bundle(path: Path) -> bool:
    """Does the file begin as a bundle does (and not as a store's jobs.jsonl)? False for what cannot be read."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.readline(64).startswith('{"bundle":')
    except OSError:
        return False


def read_bundle(path: Path) -> Bundle:
    """What `write_bundle` wrote.

    Raises:
        UserError: there is no such file, it is no bundle, of another version, or not whole.
    """
    remedy = "write it again with sap-sweep experiment=NAME export=FILE"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the bundle {path} cannot be read ({error}); {remedy}") from error
    try:
        header: dict[str, Any] = json.loads(lines[0]) if lines else {}
        version, num_jobs, num_rows = (header.pop(name) for name in ("bundle", "num_jobs", "num_rows"))
        values = [json.loads(line) for line in lines[1:]]
        jobs = tuple(Job.from_plain(value) for value in values if "planned" not in value)
        rows = tuple(Planned(**value["planned"]) for value in values if "planned" in value)
        if version != VERSION:
            raise UserError(f"{path} is a bundle of version {version}, and this program reads version {VERSION}; {remedy}")
        bundle = Bundle(jobs=jobs, rows=rows, **header)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is no whole bundle ({' '.join(str(error).split())}); copy it again, or {remedy}") from error
    if (len(jobs), len(rows)) != (num_jobs, num_rows):
        raise UserError(
            f"{path} holds {len(jobs)} of its {num_jobs} jobs and {len(rows)} of its {num_rows} planned rows; copy it again, or {remedy}"
        )
    return bundle


def keep_bundle(path: Path, store: Path) -> None:
    """Puts a copy beside the rows that it leads to, from which they can be imported."""
    text = path.read_text(encoding="utf-8")
    kept = store / FOLDER / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.jsonl"
    if not kept.exists():
        save_text(kept, text)


def kept_bundles(store: Path) -> Sequence[Bundle]:
    """Those of a store, in a fixed order.

    Raises:
        UserError: it keeps none, or a damaged one.
    """
    paths = sorted((store / FOLDER).glob("*.jsonl"))
    if not paths:
        raise UserError(
            f"{store} holds no {FOLDER}/*.jsonl, so nobody knows what its rows are; give the --store of python -m sweeper.execute BUNDLE"
        )
    return [read_bundle(path) for path in paths]

"""plan.json: the key and the jobs of a store's plan, and the checksums of the files that belong to it. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sap_core.checksum import stored_digest
from sap_core.files import load_json, save_json

FILE = "plan.json"

_FILES = ("config.yaml", "jobs.jsonl", "plan.parquet")


def write_plan_index(root: Path, key: str, rows: int, jobs: Sequence[str]) -> None:
    """Write plan.json, after the files of the plan.

    Args:
        root: the store.
        key: a hash of everything that the plan depends on; empty if it is not known.
        rows: number of planned rows.
        jobs: ids of the planned jobs.

    Raises:
        StorageError: it cannot be written.
        OSError: a file of the plan cannot be read.
    """
    save_json(root / FILE, {"key": key, "rows": rows, "jobs": list(jobs), "files": {name: stored_digest(root / name) for name in _FILES}})


def read_plan_index(root: Path) -> dict[str, Any]:
    """The content of plan.json; see `sap_core.files.load_json`."""
    return load_json(root / FILE)


def exchanged_files(root: Path, index: Mapping[str, Any]) -> list[Path]:
    """The files of a plan that are not those that were written with plan.json: of another store, or of an earlier start.

    Missing files count; a plan.json of an earlier version does not list its files.
    """
    listed = index.get("files")
    return [root / name for name, digest in (listed if isinstance(listed, dict) else {}).items() if _digest(root / str(name)) != digest]


def _digest(path: Path) -> str | None:
    with suppress(OSError):
        return stored_digest(path)
    return "missing"

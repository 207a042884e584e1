"""What a store holds, from names of files and the plan alone: no row file is opened, but the footers of merged ones. No pandas.

A job's rows lie in rows/JOB.ok.parquet or JOB.failed.parquet, or, after `sap-sweep compact`, in a rows/merged-HASH.parquet whose footer
lists its jobs, all of them ok.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from sap_core.errors import UserError
from sap_core.records import SCHEMA_VERSION

MERGED = "merged-"
"""How the names of merged files begin."""

JOBS_KEY = b"sap_sweep_jobs"
"""In a merged file's footer: the ids of its jobs, a line each."""

_ENDINGS = {"ok.parquet": "ok", "failed.parquet": "failed"}


def check_version(store: Path) -> None:
    """Refuses a store of another schema version; one without a readable plan passes, because its readers report that.

    Raises:
        UserError: names the store, its version, and what to do.
    """
    version = _version(store / "plan.parquet")
    if version is not None and version != SCHEMA_VERSION:
        raise UserError(f"the store '{store}' {version_sentence(version)}")


def version_sentence(version: int) -> str:
    """What is wrong with a store or file of schema version `version`, and what to do."""
    known = f"has schema_version {version} and this program reads {SCHEMA_VERSION}"
    if version > SCHEMA_VERSION:
        return f"{known}; update sap-sweep to the version that wrote it"
    return f"{known}; run the sweep again into a new folder (paths.results=DIR), or read it with the version of sap-sweep that wrote it"


def _version(plan: Path) -> int | None:
    """The schema version of a plan: 1 where it has no such column, None where it cannot be read or is empty."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(plan) as file:
            if "schema_version" not in file.schema_arrow.names:
                return 1 if "run_id" in file.schema_arrow.names else None
            return max(file.read(columns=["schema_version"], use_threads=False)["schema_version"].to_pylist(), default=None)
    except (pa.ArrowException, OSError):
        return None


def statuses(store: Path) -> dict[str, str]:
    """Job id -> ok | failed; ok wins. A merged file that cannot be read says nothing."""
    found: dict[str, str] = {}
    for name in _names(store / "rows"):
        job_id, _, ending = name.partition(".")
        status = _ENDINGS.get(ending)
        if job_id and status and found.get(job_id) != "ok":
            found[job_id] = status
    return found | dict.fromkeys(merged(store / "rows"), "ok")


def merged(folder: Path) -> dict[str, Path]:
    """Job id -> the merged file of `folder` that holds it. Footers are read once per process; nothing is opened where nothing changed.

    A merged file that goes while we read was merged into another one, which was there before: the folder is listed again. A name that
    stays without a file (a broken link, a listing that a server remembers) is passed over.
    """
    before: list[Path] = []
    while True:
        try:
            changed = folder.stat().st_mtime_ns
        except OSError:
            return {}
        known = _KNOWN.get(folder)
        if known is not None and known[0] == changed:
            return known[1]
        paths = [folder / name for name in sorted(_names(folder)) if name.startswith(MERGED) and name.endswith(".parquet")]
        found = {path: jobs_in(path) for path in paths}
        gone = [path for path, jobs in found.items() if not jobs and not path.exists()]
        if not gone or gone == before:
            break
        before = gone
    where = {job: path for path, jobs in found.items() for job in jobs}
    if time.time_ns() - changed > _TICK_NS:  # else it may change once more under the same time
        _KNOWN[folder] = (changed, where)
    return where


_TICK_NS = 2_000_000_000

_KNOWN: dict[Path, tuple[int, dict[str, Path]]] = {}


def jobs_in(path: Path) -> tuple[str, ...]:
    """The jobs of a merged file; () where it cannot be read."""
    with suppress(OSError):
        stat = path.stat()
        return _footer(path, stat.st_ino, stat.st_size, stat.st_mtime_ns)
    return ()


@lru_cache(maxsize=4096)
def _footer(path: Path, *_: int) -> tuple[str, ...]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(path).metadata or {}
    except (pa.ArrowException, OSError):
        return ()
    return tuple(metadata.get(JOBS_KEY, b"").decode().split())


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if not entry.name.startswith(".")]
    except OSError:
        return []

"""Lists the jobs of a store and their statuses from file names, without opening row files.

The rows of a job are in rows/JOB.ok.parquet or rows/JOB.failed.parquet. `sap-sweep compact` merges ok files into rows/merged-HASH.parquet,
whose Parquet footer lists the ids of its jobs; only these footers are read.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from sap_core.checksum import MERGED, footer_is_intact, is_intact
from sap_core.errors import UserError
from sap_core.records import SCHEMA_VERSION

JOBS_KEY = b"sap_sweep_jobs"
"""Key of a merged file's footer metadata: the ids of its jobs, one per line."""

_ENDINGS = {"ok.parquet": "ok", "failed.parquet": "failed"}


def check_version(store: Path) -> None:
    """Raises if the store has another schema version. A store without a readable plan passes, because `load` reports that problem.

    Raises:
        UserError: the schema version of the plan is not `SCHEMA_VERSION`.
    """
    # Only the plan is looked at, because every store has one and reading all rows would take longer than most commands.
    version = _version(store / "plan.parquet")
    if version is not None and version != SCHEMA_VERSION:
        raise UserError(f"the store '{store}' {version_sentence(version)}")


def version_sentence(version: int) -> str:
    """The rest of a sentence that starts with the store or file: its version, the version expected, and the remedy."""
    known = f"has schema_version {version} and this program reads {SCHEMA_VERSION}"
    # Newer stores can only be read by newer programs; older ones can also be computed again.
    if version > SCHEMA_VERSION:
        return f"{known}; update sap-sweep to the version that wrote it"
    return f"{known}; run the sweep again into a new folder (paths.results=DIR), or read it with the version of sap-sweep that wrote it"


def _version(plan: Path) -> int | None:
    """The schema version of a plan: 1 without such a column (the first version had none), None if the plan is empty or unreadable."""
    # Here and in _footer, not at the top: commands that only list jobs start without pyarrow.
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Nothing is concluded from a damaged plan; whoever reads it reports the damage.
    if not is_intact(plan):
        return None
    try:
        with pq.ParquetFile(plan) as file:
            if "schema_version" not in file.schema_arrow.names:
                return 1 if "run_id" in file.schema_arrow.names else None
            found = file.read(columns=["schema_version"], use_threads=False)["schema_version"].to_pylist()
            return max((version for version in found if isinstance(version, int)), default=None)
    except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError):
        return None


def statuses(store: Path) -> dict[str, str]:
    """Maps job ids to ok or failed. A job with both files counts as ok: the failed one is from an earlier attempt."""
    found: dict[str, str] = {}
    for name in _names(store / "rows"):
        job_id, _, ending = name.partition(".")
        status = _ENDINGS.get(ending)
        # os.scandir lists in any order, so an ok file may come before or after the failed one.
        if job_id and status and found.get(job_id) != "ok":
            found[job_id] = status
    return found | dict.fromkeys(merged(store / "rows"), "ok")


def merged(folder: Path) -> dict[str, Path]:
    """Maps job ids to the merged file of `folder` that contains them.

    Each footer is read once per process, and the folder is listed only if its modification time has changed. Unreadable files are skipped.
    """
    # A merged file that disappears between listing and reading was merged into a larger one, which was written before the smaller one was
    # deleted, so a second listing finds its jobs. A name that stays without a file (a broken link, an entry in a stale NFS directory cache)
    # must not loop forever: the same names missing twice end the loop.
    before: list[Path] = []
    while True:
        try:
            changed = folder.stat().st_mtime_ns
        except OSError:
            return {}
        # Asked for every job of a plan, so the listing is kept while the folder does not change.
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
    # Modification times are coarse on some file systems: a folder changed just now may change once more under the same time.
    if time.time_ns() - changed > _MTIME_RESOLUTION_NS:
        _KNOWN[folder] = (changed, where)
    return where


_MTIME_RESOLUTION_NS = 2_000_000_000
"""Coarsest modification time of the file systems in use (FAT: two seconds)."""

_KNOWN: dict[Path, tuple[int, dict[str, Path]]] = {}
"""Folder -> its modification time when it was listed, and the result of `merged`."""


def jobs_in(path: Path) -> tuple[str, ...]:
    """The ids of the jobs in a merged file; () if it cannot be read."""
    with suppress(OSError):
        stat = path.stat()
        return _footer(path, stat.st_ino, stat.st_size, stat.st_mtime_ns)
    return ()


@lru_cache(maxsize=4096)
def _footer(path: Path, *_: int) -> tuple[str, ...]:  # inode, size and time are part of the cache key only
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # The rest of the file is verified when its rows are needed: a merged file may have millions of bytes.
        if not footer_is_intact(path):
            return ()
        metadata = pq.read_metadata(path).metadata or {}
        return tuple(metadata.get(JOBS_KEY, b"").decode().split())
    except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError):
        return ()


def _names(folder: Path) -> list[str]:
    try:
        # Names alone: a stat per file would be a network round trip each on NFS.
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if not entry.name.startswith(".")]
    except OSError:
        return []

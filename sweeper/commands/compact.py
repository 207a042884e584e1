"""`sap-sweep compact STORE`: merges many small files of rows, series and logs into few, while sweeps and readers continue.

A merged file is published and read back before the files that it replaces are deleted. A row is therefore never missing, but briefly
duplicated, and readers keep one row per run. After a kill, the next call deletes the replaced files that remain. Files of failed jobs are
not merged, because those jobs are retried. Merged files list their jobs in their footers, so no index can get lost when a store is copied.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analysis.store.index import jobs_in, merged
from analysis.store.parquet import SCORES, UNREADABLE, arrow_schema, read_file, write_table
from sap_core.checksum import MERGED, Checksum, checksum_of
from sap_core.errors import UserError
from sap_core.files import replacing, save_text
from sap_core.identity import content_id
from sap_core.records import Point, Row
from sweeper.commands.common import add_store, examples, store_folder
from sweeper.store.leases import acquire_or_owner, process_leases
from sweeper.store.store import Store

MAX_JOBS = 1000
"""Maximum number of jobs in a merged file."""

_SEPARATOR = "=== "
"""Prefix of the line with the job id that precedes each log in a merged file."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.epilog = examples("sap-sweep compact results/table1")


def run(options: argparse.Namespace) -> int:
    """Compacts the store and prints the number of files before and after; returns 0.

    Raises:
        UserError: the folder is not a store, or another process is compacting it.
    """
    root = store_folder(options.store)
    Store(root).check_version()
    before = _count(root)
    for problem in compact(Store(root)):
        print(problem, file=sys.stderr)
    print(f"{root}: merged {before} files of rows, series and logs into {_count(root)}")
    return 0


def compact(store: Store, max_jobs: int = MAX_JOBS) -> list[str]:
    """Merges the files of successful jobs; returns a message per file that was skipped because it cannot be read.

    Raises:
        UserError: another process is compacting the store, or a file was written by a newer version.
        StorageError: a file cannot be written; nothing is lost.
    """
    # Two compactions would merge and delete the same files. Sweeps need no lease: they only add files, under other names.
    lease = acquire_or_owner(process_leases(), store.leases / "compact", lambda line: print(line, file=sys.stderr))
    if isinstance(lease, str):
        raise UserError(f"{lease} is compacting {store.root}; wait until it has finished")
    with lease:
        problems: list[str] = []
        # The statuses are read once, under the lease; a job that ends later keeps its single file until the next call.
        done = {job_id for job_id, status in store.statuses().items() if status == "ok"}
        for folder, record, ending in ((store.rows, Row, ".ok.parquet"), (store.series, Point, ".parquet")):
            # Left by a killed process, because this one owns the lease.
            for stale in folder.glob(f".{MERGED}*.tmp"):
                stale.unlink()
            singles = {path.name.removesuffix(ending): path for path in folder.glob(f"[!.]*{ending}") if not path.name.startswith(MERGED)}
            _merge(folder, record, {job_id: path for job_id, path in singles.items() if job_id in done}, max_jobs, problems)
        _merge_logs(store.logs, done, max_jobs, problems)
        return problems


def _merge(folder: Path, record: type, singles: dict[str, Path], max_jobs: int, problems: list[str]) -> None:
    """Merges single files, and merged files that are not full, into files of at most `max_jobs` jobs each."""
    # Which merged file contains each job, from the footers.
    by_job = merged(folder)
    # Jobs that are stored twice, after a kill or a rerun of lost artifacts.
    duplicated = {by_job[job_id] for job_id in singles if job_id in by_job}
    sizes = {path: len(jobs_in(path)) for path in set(by_job.values())}
    # Full files are not rewritten, so the cost of a call depends on the number of new files.
    open_ones = sorted(path for path, size in sizes.items() if size < max_jobs or path in duplicated)
    # A single file gains nothing from being rewritten.
    if len(singles) + len(open_ones) < 2:
        return
    # A job may have several copies, from a single file and from a merged one.
    tables: dict[str, list[pa.Table]] = {}
    sources: dict[str, list[Path]] = {}
    broken: set[Path] = set()
    # Merged files first, so that a single file, which is newer, is the last copy of its job.
    for path in [*open_ones, *sorted(singles.values())]:
        try:
            parts = list(_by_job(read_file(path, record)))
        except UNREADABLE as error:
            broken.add(path)
            problems.append(f"{path} cannot be read and was skipped ({' '.join(str(error).split())[:200]})")
            continue
        for job_id, part in parts:
            tables.setdefault(job_id, []).append(part)
            sources.setdefault(job_id, []).append(path)
    # Readers use none of two contradictory results, so it is said that one is dropped here.
    for job_id in [job_id for job_id, parts in tables.items() if _contradict(parts)]:
        files = " and ".join(map(str, sources[job_id]))
        if _newest_is_last(tables[job_id]):
            problems.append(f"{files} contain different scores of the job {job_id}; the later ones, of {sources[job_id][-1]}, are kept")
        else:
            # The clock was set between the two, and decides nothing.
            problems.append(f"{files} contain different scores of the job {job_id} and were skipped: delete the wrong file")
            broken |= set(sources[job_id])
    # Sorted, so that the content of merged files does not depend on the order in which jobs ended.
    names = sorted(job_id for job_id in tables if not broken & set(sources[job_id]))
    # Which jobs each source contributes, to know when it may be deleted.
    used = {path: {job_id for job_id in tables if path in sources[job_id]} for path in {*open_ones, *singles.values()} - broken}
    published: set[str] = set()
    targets: set[Path] = set()
    for start in range(0, len(names), max_jobs):
        batch = names[start : start + max_jobs]
        # The name depends on the jobs alone, so a repeated call after a kill writes the same file.
        target = folder / f"{MERGED}{content_id({'jobs': batch})}.parquet"
        _publish(target, pa.concat_tables([_latest(tables[job_id]) for job_id in batch]), batch, record)
        published.update(batch)
        targets.add(target)
        # A source is deleted as soon as all its jobs are published, so that little additional disk space is needed.
        for path, jobs in used.items():
            if jobs <= published and path not in targets:
                with suppress(FileNotFoundError):
                    path.unlink()


def _by_job(table: pa.Table) -> Iterable[tuple[str, pa.Table]]:
    """(job id, its rows) for each job of a file. The rows of a job are contiguous in every file that the platform writes.

    Raises:
        ValueError: they are not.
    """
    names = table["job_id"].to_pylist()
    if sum(one != other for one, other in pairwise(names)) + 1 > max(1, len(set(names))):
        raise ValueError("the rows of a job are not contiguous")
    start = 0
    for end in range(1, len(names) + 1):
        if end == len(names) or names[end] != names[start]:
            yield names[start], table.slice(start, end - start)
            start = end


def _contradict(parts: list[pa.Table]) -> bool:
    """Whether copies of one job have rows of one run with different scores, of which readers use none."""
    if len(parts) == 1 or "status" not in parts[0].column_names:
        return False
    scores: dict[str, tuple[object, ...]] = {}
    for part in parts:
        ok = part.filter(pc.equal(part["status"], "ok")).select(["run_id", *SCORES])
        for run_id, *values in zip(*(column.to_pylist() for column in ok.columns), strict=True):
            if scores.setdefault(run_id, tuple(values)) != tuple(values):
                return True
    return False


def _newest_is_last(parts: list[pa.Table]) -> bool:
    """Whether the copy that was stored last was also started last."""
    *others, last = (max(part["started_at"].to_pylist()) for part in parts)
    return all(other < last for other in others)


def _latest(parts: list[pa.Table]) -> pa.Table:
    """The copy of a job's rows that readers keep among several: the one that was started last."""
    if len(parts) == 1 or "started_at" not in parts[0].column_names:
        return parts[-1]
    return max(parts, key=lambda part: max(part["started_at"].to_pylist()))


def _publish(target: Path, table: pa.Table, jobs: Sequence[str], record: type) -> None:
    """Writes a merged file and reads it back before it gets its final name.

    Raises:
        StorageError: the file cannot be written, or reads back differently.
    """
    with replacing(target) as temporary:
        # The footer lists the jobs, so that a resumed sweep opens one footer per 1,000 jobs in place of 1,000 files.
        write_table(table.cast(arrow_schema(record)), temporary, target, jobs)
        # The sources are deleted afterwards, so nothing is trusted that was not read back.
        if checksum_of(temporary.read_bytes(), target) is not Checksum.INTACT or not _same(pq.ParquetFile(temporary).read(), table):
            raise OSError(f"{target.name} does not read as it was written")


def _same(one: pa.Table, other: pa.Table) -> bool:
    """Whether two tables are equal; NaN equals NaN (the loss of a diverged training)."""
    if one.column_names != other.column_names or len(one) != len(other):
        return False
    for name in one.column_names:
        left, right = one[name].combine_chunks(), other[name].combine_chunks()
        if pa.types.is_floating(left.type):
            # To Arrow, as in IEEE 754, NaN is unequal to itself.
            left, right = (pc.if_else(pc.is_nan(column), None, column) for column in (left, right))
        if not left.equals(right):
            return False
    return True


def _merge_logs(folder: Path, done: set[str], max_jobs: int, problems: list[str]) -> None:
    """Concatenates the logs of successful jobs, each below a line with the job id."""
    singles = _readable_logs((path for path in sorted(folder.glob("[!.]*.log")) if path.stem in done), problems)
    if len(singles) < 2:
        return
    # A job's logs are kept in the order of its attempts.
    texts: dict[str, list[str]] = {}
    full = set()
    olds = set(_readable_logs(sorted(folder.glob(f"{MERGED}*.log")), problems))
    for path in sorted(olds):
        parts = path.read_text(errors="replace", encoding="utf-8").split(f"\n{_SEPARATOR}")
        if len(parts) - 1 >= max_jobs:
            full.add(path)
            continue
        for part in parts[1:]:
            name, _, text = part.partition("\n")
            texts.setdefault(name, []).append(text)
    olds -= full
    for path in singles:
        text = path.read_text(errors="replace", encoding="utf-8").strip("\n")
        # A log that an interrupted call has already merged is not appended twice.
        if text not in texts.setdefault(path.stem, []):
            texts[path.stem].append(text)
    names = sorted(texts)
    written = set()
    for start in range(0, len(names), max_jobs):
        batch = names[start : start + max_jobs]
        target = folder / f"{MERGED}{content_id({'jobs': batch})}.log"
        save_text(target, "".join(f"\n{_SEPARATOR}{name}\n{text}" for name in batch for text in texts[name]))
        # As with rows: the merged file exists before the single ones are deleted.
        written.add(target)
    # A merged file whose set of jobs has not changed has the same name and stays.
    for path in {*singles, *olds} - written:
        with suppress(FileNotFoundError):
            path.unlink()


def _readable_logs(paths: Iterable[Path], problems: list[str]) -> list[Path]:
    """The logs among the paths; what is a link, a pipe or a folder is named in `problems`, since a link's target is not the store's."""
    found = []
    for path in paths:
        if path.is_symlink() or not path.is_file():
            problems.append(f"{path} is a link or no regular file and was skipped")
        else:
            found.append(path)
    return found


def _count(root: Path) -> int:
    return sum(1 for name in ("rows", "series", "logs") for _ in (root / name).glob("[!.]*"))

"""`sap-sweep compact STORE`: many small files of rows, series and logs become few, while others read and sweeps go on.

A merged file is published first and read back; only then are its parts deleted. So there is no moment at which a row is in no file; for a
moment it is in two, and readers keep one per run. A kill in between leaves parts that the next call finds in the merged file and deletes.
Failed jobs' files stay as they are, because those jobs are tried again.
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

from analysis.store.index import JOBS_KEY, MERGED, jobs_in, merged
from analysis.store.parquet import arrow_schema, read_file
from sap_core.errors import UserError
from sap_core.files import replacing, save_text
from sap_core.identity import content_id
from sap_core.records import Point, Row
from sweeper.commands.common import examples, store_folder
from sweeper.store.leases import acquire_or_owner, process_leases
from sweeper.store.store import Store

MOST = 1000
"""Jobs of a merged file."""

_HEAD = "=== "
"""How a job's part of a merged log begins."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", metavar="STORE", help="the results folder of a sweep, such as results/table1")
    parser.epilog = examples("sap-sweep compact results/table1")


def run(options: argparse.Namespace) -> int:
    """Prints the number of files before and after.

    Raises:
        UserError: no store, or another process compacts it.
    """
    root = store_folder(options.store)
    Store(root).check_version()
    before = _count(root)
    for problem in compact(Store(root)):
        print(problem, file=sys.stderr)
    print(f"{root}: {before} files of rows, series and logs are {_count(root)}")
    return 0


def compact(store: Store, most: int = MOST) -> list[str]:
    """Merges what is done; sentences about files that were left alone because they cannot be read.

    Raises:
        UserError: another process is at it, or a file was written by a newer program.
        StorageError: the disk refused; nothing is lost.
    """
    lease = acquire_or_owner(process_leases(), store.leases / "compact", lambda line: print(line, file=sys.stderr))
    if isinstance(lease, str):
        raise UserError(f"{lease} is compacting {store.root}; wait for it")
    with lease:
        problems: list[str] = []
        done = {job_id for job_id, status in store.statuses().items() if status == "ok"}
        for folder, record, ending in ((store.rows, Row, ".ok.parquet"), (store.series, Point, ".parquet")):
            for left in folder.glob(f".{MERGED}*.tmp"):  # of a call that was killed: the lease is ours
                left.unlink()
            singles = {path.name.removesuffix(ending): path for path in folder.glob(f"[!.]*{ending}") if not path.name.startswith(MERGED)}
            _merge(folder, record, {job_id: path for job_id, path in singles.items() if job_id in done}, most, problems)
        _merge_logs(store.logs, done, most)
        return problems


def _merge(folder: Path, record: type, singles: dict[str, Path], most: int, problems: list[str]) -> None:
    """Merges single files, and merged ones that have room, into files of at most `most` jobs each."""
    there = merged(folder)
    again = {there[job_id] for job_id in singles if job_id in there}
    sizes = {path: len(jobs_in(path)) for path in set(there.values())}
    open_ones = sorted(path for path, size in sizes.items() if size < most or path in again)
    if len(singles) + len(open_ones) < 2:
        return
    tables: dict[str, list[pa.Table]] = {}
    sources: dict[str, list[Path]] = {}
    broken: set[Path] = set()
    for path in [*open_ones, *sorted(singles.values())]:
        try:
            parts = list(_by_job(read_file(path, record)))
        except (OSError, pa.ArrowException, ValueError) as error:
            broken.add(path)
            problems.append(f"{path} cannot be read and was left alone ({' '.join(str(error).split())[:200]})")
            continue
        for job_id, part in parts:
            tables.setdefault(job_id, []).append(part)
            sources.setdefault(job_id, []).append(path)
    names = sorted(tables)
    used = {path: {job_id for job_id in names if path in sources[job_id]} for path in {*open_ones, *singles.values()} - broken}
    published: set[str] = set()
    targets: set[Path] = set()
    for start in range(0, len(names), most):
        mine = names[start : start + most]
        target = folder / f"{MERGED}{content_id({'jobs': mine})}.parquet"
        _publish(target, pa.concat_tables([_latest(tables[job_id]) for job_id in mine]), mine, record)
        published.update(mine)
        targets.add(target)
        for path, jobs in used.items():
            if jobs <= published and path not in targets:
                with suppress(FileNotFoundError):
                    path.unlink()


def _by_job(table: pa.Table) -> Iterable[tuple[str, pa.Table]]:
    """The rows of each job; they stand together in every file that was written here.

    Raises:
        ValueError: they do not.
    """
    names = table["job_id"].to_pylist()
    if sum(one != other for one, other in pairwise(names)) + 1 > max(1, len(set(names))):
        raise ValueError("the rows of a job do not stand together")
    start = 0
    for place in range(1, len(names) + 1):
        if place == len(names) or names[place] != names[start]:
            yield names[start], table.slice(start, place - start)
            start = place


def _latest(parts: list[pa.Table]) -> pa.Table:
    """Of several copies of a job's rows the one that readers would keep: the one that began last."""
    if len(parts) == 1 or "started_at" not in parts[0].column_names:
        return parts[-1]
    return max(parts, key=lambda part: max(part["started_at"].to_pylist()))


def _publish(target: Path, table: pa.Table, jobs: Sequence[str], record: type) -> None:
    """Writes a merged file, and looks whether it can be read.

    Raises:
        StorageError: the disk refused.
    """
    schema = arrow_schema(record).with_metadata({JOBS_KEY: "\n".join(jobs).encode()})
    with replacing(target) as temporary:
        pq.write_table(table.cast(schema), temporary, compression="zstd")
        if not _same(pq.ParquetFile(temporary).read(), table):
            raise OSError(f"{target.name} does not read as it was written")


def _same(one: pa.Table, other: pa.Table) -> bool:
    """Equal values; NaN equals NaN (the loss of a training that diverged)."""
    if one.column_names != other.column_names or len(one) != len(other):
        return False
    for name in one.column_names:
        mine, theirs = one[name].combine_chunks(), other[name].combine_chunks()
        if pa.types.is_floating(mine.type):
            mine, theirs = (pc.if_else(pc.is_nan(column), None, column) for column in (mine, theirs))
        if not mine.equals(theirs):
            return False
    return True


def _merge_logs(folder: Path, done: set[str], most: int) -> None:
    """The logs of jobs that are done, one after the other under a line with the job's id."""
    singles = sorted(path for path in folder.glob("[!.]*.log") if path.stem in done)
    if len(singles) < 2:
        return
    texts: dict[str, list[str]] = {}
    full = set()
    for path in sorted(folder.glob(f"{MERGED}*.log")):
        parts = path.read_text(errors="replace").split(f"\n{_HEAD}")
        if len(parts) - 1 >= most:
            full.add(path)
            continue
        for part in parts[1:]:
            name, _, text = part.partition("\n")
            texts.setdefault(name, []).append(text)
    olds = set(folder.glob(f"{MERGED}*.log")) - full
    for path in singles:
        text = path.read_text(errors="replace").strip("\n")
        if text not in texts.setdefault(path.stem, []):
            texts[path.stem].append(text)
    names = sorted(texts)
    written = set()
    for start in range(0, len(names), most):
        mine = names[start : start + most]
        target = folder / f"{MERGED}{content_id({'jobs': mine})}.log"
        save_text(target, "".join(f"\n{_HEAD}{name}\n{text}" for name in mine for text in texts[name]))
        written.add(target)
    for path in {*singles, *olds} - written:
        with suppress(FileNotFoundError):
            path.unlink()


def _count(root: Path) -> int:
    return sum(1 for name in ("rows", "series", "logs") for _ in (root / name).glob("[!.]*"))

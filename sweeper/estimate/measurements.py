"""Reads the run times of jobs from the stores of earlier sweeps: a few jobs of each workload, so that large stores cost little."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sap_core.records import Planned, Row
from sweeper.estimate.duration import Workload

# Limits on what is read, so that a dry run over large stores stays fast: a median needs few jobs.
_MAX_FILES = 300
_MAX_STORES = 12
_MAX_MERGED_FILES = 20
_JOBS_PER_WORKLOAD = 12


@dataclass(frozen=True)
class Measurement:
    """The run time of one finished job, and its conditions."""

    workload: Workload
    flops: float | None  # forecast; None: unknown
    seconds: float  # sum of the rows' `tuning_seconds` and `report_seconds`
    on_cpu: bool
    alone: bool  # the job had its cores, or its GPU, to itself
    threads: int


def workloads_by_job(rows: Iterable[Planned | Mapping[str, Any]]) -> dict[str, tuple[Workload, float | None]]:
    """Job id -> its workload and forecast FLOPs (None: unknown), from the rows of a plan."""
    workloads: dict[str, Workload] = {}
    flops: dict[str, float | None] = {}
    for row in rows:
        values = vars(row) if isinstance(row, Planned) else row
        job_id = values["job_id"]
        # The first row of a job suffices: all rows of a job agree in these columns.
        if job_id not in workloads:
            workloads[job_id] = Workload.of(values["job_type"], values)
        before, amount = flops.get(job_id, 0.0), values["forecast_flops"]
        flops[job_id] = None if before is None or amount is None else before + amount
    return {job_id: (workload, flops[job_id]) for job_id, workload in workloads.items()}


# Parquet reads single columns, and these are a small part of a row.
_PLAN_COLUMNS = frozenset({"job_id", "job_type", "method", "search", "trainer", "network", "dataset", "forecast_flops"})
_ROW_COLUMNS = frozenset(
    {"job_id", "status", "error_type", "tuning_seconds", "report_seconds", "device", "device_share", "jobs_on_device", "cores", "threads"}
)


def read_measurements(stores: Iterable[Path]) -> Iterator[Measurement]:
    """Measurements from the most recently changed stores. Unreadable stores are skipped; commands that read them report why."""
    files_left = _MAX_FILES
    changed = {store: when for store in stores if (when := _changed(store)) is not None}
    # The most recent stores first, because they were most likely written by the present code on the present machine.
    for store in sorted(changed, key=lambda path: changed[path], reverse=True)[:_MAX_STORES]:
        if files_left > 0:
            # An estimate is never worth an error: a store that is being written, damaged or not ours to read gives no measurements.
            with suppress(Exception):
                found, files = _read_store(store, files_left)
                files_left -= files
                yield from found


def _changed(store: Path) -> float | None:
    """When the plan of a store was written; None where there is none, or it cannot be looked at."""
    with suppress(OSError):
        return (store / "plan.parquet").stat().st_mtime
    return None


def stores_in(folder: Path) -> list[Path]:
    """What may be a store in a folder of results; [] where the folder cannot be read."""
    with suppress(OSError):
        return [Path(entry.path) for entry in os.scandir(folder) if not entry.name.startswith(".")]
    return []


def _read_store(store: Path, max_files: int) -> tuple[list[Measurement], int]:
    """(measurements, number of files read)"""
    from analysis.store.parquet import read_file

    workloads = workloads_by_job(read_file(store / "plan.parquet", Planned, _PLAN_COLUMNS).to_pylist())
    jobs_read: dict[Workload, int] = defaultdict(int)
    # File names start with the job id, so a few jobs of each workload are chosen without opening files.
    names = sorted(path.name for path in (store / "rows").glob("[!.]*.parquet"))
    # Merged files are not named after a job. Each contains many jobs, so they are read first.
    chosen = [name for name in names if name.split(".")[0] not in workloads][:_MAX_MERGED_FILES]
    for name in names:
        workload, _ = workloads.get(name.split(".")[0], (None, 0.0))
        if workload and name.endswith(".ok.parquet") and jobs_read[workload] < _JOBS_PER_WORKLOAD and len(chosen) < max_files:
            jobs_read[workload] += 1
            chosen.append(name)
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name in chosen:
        for row in read_file(store / "rows" / name, Row, _ROW_COLUMNS).to_pylist():
            rows[row["job_id"]].append(row)
    found = [measurement_of(*workloads[job_id], job_rows) for job_id, job_rows in rows.items() if job_id in workloads]
    return [one for one in found if one is not None], len(chosen)


def measurement_of(workload: Workload, flops: float | None, rows: Sequence[Mapping[str, Any]]) -> Measurement | None:
    """The measurement of a job with these rows; None if a row failed other than by divergence, or has no seconds."""
    if any(row["tuning_seconds"] is None or (row["status"] == "failed" and row["error_type"] != "diverged") for row in rows):
        return None
    # The rows of a job divide its shared work among them, so their sum is the job's time.
    seconds = sum(row["tuning_seconds"] + (row["report_seconds"] or 0.0) for row in rows)
    first = rows[0]
    on_cpu, jobs, threads = first["device"] == "cpu", first["jobs_on_device"], first["threads"]
    # Missing values count as one job, and as one core.
    alone = (jobs or 1) * threads <= (first["cores"] or 1) if on_cpu else (jobs or 1) == 1 and first["device_share"] == 1.0
    return Measurement(workload, flops, seconds, on_cpu, alone, threads)

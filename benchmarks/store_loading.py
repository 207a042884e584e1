"""Loading a store: a million rows in a few large files, and in as many files as a sweep writes; some of their columns, and all.

`python -m benchmarks.store_loading [--rows 1000000] [--files 10] [--quick]`. A synthetic store is written to a temporary folder. CPU
seconds of all threads, and wall seconds; the plan has as many lines as there are rows.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.reports.status import COLUMNS, status
from analysis.store.load import arrow_schema, load
from sap_core.records import Planned, Row

SCORES = ("method", "space", "position", "seed", "baseline_id", "val_noisy_acc", "val_clean_acc", "test_acc", "tuning_seconds", "settings")
SETTINGS_PER_SEARCH = 675


def write_store(folder: Path, rows: int, files: int) -> None:
    """Writes `rows` rows in `files` files: searches of 675 settings with a baseline each; one row in a thousand is failed."""
    draw = np.random.default_rng(0)
    number = np.arange(rows)
    search = number // SETTINGS_PER_SEARCH
    failed = number % 1000 == 999
    columns: dict[str, pa.Array] = {
        "run_id": pa.array([f"{value:016x}" for value in draw.permutation(rows)]),
        "job_id": pa.array([f"{value:016x}" for value in number // 15]),
        "baseline_id": pa.array([f"{value:016x}" for value in search]),
        "cell": pa.array([f"cifar10/symmetric-0.25/resnet18/sgd-{value // 30}" for value in search]),
        "method": pa.array(np.array(["scrub", "sap", "ssd"])[search % 3]),
        "status": pa.array(np.where(failed, "failed", "ok")),
        "error": pa.array(np.where(failed, "ValueError: loss is NaN", None)),
        "error_type": pa.array(np.where(failed, "diverged", None)),
        "settings": pa.array([f'{{"alpha": {value / 7}, "epochs": 10, "learning_rate": 0.01}}' for value in number % SETTINGS_PER_SEARCH]),
        "position": pa.array(number % SETTINGS_PER_SEARCH),
        "seed": pa.array(search % 3),
    }
    texts = {"job_type": "tune", "space": "grid_a", "started_at": "2026-01-01T00:00:00+00:00", "parents": ""}
    (folder / "rows").mkdir(parents=True)
    for record, name in ((Planned, "plan"), (Row, "rows")):
        known = {item.name: item.default for item in fields(record)}
        made = [
            columns[field.name]
            if field.name in columns
            else pa.array([known[field.name] if field.name == "schema_version" else 1] * rows, field.type)
            if pa.types.is_integer(field.type)
            else pa.array(draw.random(rows), field.type)
            if pa.types.is_floating(field.type)
            else pa.array([True] * rows)
            if pa.types.is_boolean(field.type)
            else pa.array([None if field.name == "debug" else texts.get(field.name, f"some {field.name}")] * rows, field.type)
            for field in arrow_schema(record)
        ]
        table = pa.table(made, schema=arrow_schema(record))
        if name == "plan":
            pq.write_table(table, folder / "plan.parquet", compression="zstd")
            continue
        rows_per_file = -(-rows // files)
        for number in range(files):
            pq.write_table(
                table.slice(number * rows_per_file, rows_per_file), folder / "rows" / f"{number:016x}.ok.parquet", compression="zstd"
            )


def timed(name: str, call: Callable[[], object]) -> None:
    call()  # warm-up: file cache and imports
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    print(f"  {name:<28} {time.process_time() - cpu:6.2f} CPU s, {time.perf_counter() - wall:6.2f} s of wall time")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, nargs="*", default=[10, 10_000])
    parser.add_argument("--all-columns", action="store_true", help="also read all columns")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to check that it runs")
    options = parser.parse_args(arguments)
    rows, counts = (2_000, [2]) if options.quick else (options.rows, options.files)
    for files in counts:
        with tempfile.TemporaryDirectory() as folder:
            store = Path(folder) / "store"
            write_store(store, rows, files)
            size = sum(path.stat().st_size for path in (store / "rows").iterdir()) / 2**20
            print(f"{rows:,} rows in {files:,} files of {size:,.0f} MiB:")
            timed("status", lambda store=store: status(load([store], COLUMNS)))
            timed(f"{len(SCORES)} columns", lambda store=store: load([store], SCORES))
            if options.all_columns or options.quick:
                timed("all columns", lambda store=store: load([store]))


if __name__ == "__main__":
    main()

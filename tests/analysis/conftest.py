"""Builds small stores from records, written as Parquet in the layout of a sweep."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.store.load import arrow_schema
from sap_core.records import Planned, Point, Row, Timing

CELL = "digits/symmetric-0.25/small_cnn/sgd"


class StoreMaker:
    """Collects planned lines and rows; `write` writes them to the folder. Fields that are not given have arbitrary fixed values."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plan: list[Planned] = []
        self.rows: list[Row] = []

    def add(self, run_id, *, job_type, method, seed, baseline_id, space=None, position=0, settings=None, planned=True, run=True, **fields):
        """Adds one planned line (unless `planned` is false) and its row (unless `run` is false)."""
        settings_text = json.dumps(settings or {})
        job_id = job_of(fields.pop("job_id", f"job-{run_id}"))
        common = {
            "dataset": "digits", "noise": "symmetric", "noise_rate": 0.25, "network": "small_cnn", "trainer": "sgd", "method": method,
            "space": space, "space_hash": f"hash-{space}" if space else None, "position": position, "settings": settings_text, "seed": seed,
            "baseline_id": baseline_id, "run_id": run_id, "job_id": job_id, "job_type": job_type,
        }  # fmt: skip
        cell, computation_id = fields.pop("cell", CELL), fields.pop("computation_id", position)
        common |= {key: fields.pop(key) for key in list(fields) if key in ("dataset", "noise", "noise_rate", "network", "trainer")}
        if planned:
            self.plan.append(Planned(parents="", cell=cell, computation_id=computation_id, forecast_flops=None, **common))
        row = Row(
            experiment="demo", debug=None, status="ok", error=None, error_type=None, attempt=1, dataset_verified=True,
            noise_rate_measured=0.249, pruner=None, keep_fraction=None, information="none", num_trusted=None,
            num_retain=None, num_forget=None,
            num_train=1097, num_val=300, num_test=400, val_labels="noisy", commit="abc", started_at="2026-01-01T00:00:00",
            jobs_on_device=1, cores=2, **common,
        )  # fmt: skip
        if run:
            self.rows.append(replace(row, **fields))
        return row

    def baseline(self, seed, val, clean, test, **fields):
        """Adds an unmodified baseline; its run id is `base-SEED`."""
        run_id = fields.pop("run_id", f"base-{seed}")
        self.add(
            run_id, job_type="train", method="vanilla", seed=seed, baseline_id=run_id,
            **{
                "val_noisy_acc": val, "val_clean_acc": clean, "test_acc": test, "train_acc": 0.995, "train_seconds": 10.0,
                "tuning_seconds": 10.0, **fields,
            },
        )  # fmt: skip
        return run_id

    def search(self, method, space, seed, settings, scores, **fields):
        """Adds one row per setting; `scores` contains (val_noisy, val_clean, test), or None for a setting that diverged."""
        for position, (setting, score) in enumerate(zip(settings, scores, strict=True)):
            keys = ("val_noisy_acc", "val_clean_acc", "test_acc")
            outcome = (
                {"status": "failed", "error": "loss is NaN", "error_type": "diverged"}
                if score is None
                else dict(zip(keys, score, strict=True))
            )
            self.add(
                f"{method}-{space}-{seed}-{position}", job_type="tune", method=method, seed=seed, baseline_id=f"base-{seed}", space=space,
                position=position, settings=setting,
                **{"tuning_seconds": 1.0, "correct_seconds": 2.0, "evaluate_seconds": 0.5, **outcome, **fields},
            )  # fmt: skip

    def write(self) -> Path:
        (self.path / "rows").mkdir(parents=True, exist_ok=True)
        write_records(self.path / "plan.parquet", Planned, self.plan)
        jobs: dict[str, list[Row]] = {}
        for row in self.rows:
            jobs.setdefault(row.job_id, []).append(row)
        for job_id, rows in jobs.items():
            status = "failed" if any(row.status == "failed" for row in rows) else "ok"
            self.write_rows(f"{job_id}.{status}.parquet", rows)
        return self.path

    def measured_again(self, job_id, seconds, exclusive_seconds, phase="all") -> None:
        """Writes a file with the run time of a job on an exclusive device."""
        row = next(row for row in self.rows if row.job_id == job_id)
        (self.path / "timing").mkdir(parents=True, exist_ok=True)
        timing = Timing(
            job_id,
            row.job_type,
            row.method,
            row.space,
            row.seed,
            phase,
            seconds,
            exclusive_seconds,
            2,
            "cpu",
            1,
            "2026-01-02T00:00:00",
            "abc",
        )
        write_records(self.path / "timing" / f"{job_id}.parquet", Timing, [timing])

    def curve(self, run_id, points) -> None:
        """Writes a file of series; points are (name, step, value)."""
        (self.path / "series").mkdir(parents=True, exist_ok=True)
        job_id = job_of(f"job-{run_id}")
        write_records(self.path / "series" / f"{job_id}.parquet", Point, [Point(job_id, run_id, *point) for point in points])

    def write_rows(self, file_name: str, rows: list[Row]) -> None:
        """Writes one more file of rows in addition to those of `write`."""
        write_records(self.path / "rows" / file_name, Row, rows)


def job_of(name: str) -> str:
    """The name as a job's id, which contains no dot: the name of a file ends the id at the first one."""
    return name.replace(".", "p")


def write_records(path: Path, record: type, records: list) -> None:
    pq.write_table(pa.Table.from_pylist([asdict(one) for one in records], schema=arrow_schema(record)), path)


@pytest.fixture
def maker(tmp_path) -> StoreMaker:
    return StoreMaker(tmp_path / "store")


@pytest.fixture
def small(maker) -> StoreMaker:
    """See `fill`."""
    return fill(maker)


def fill(maker: StoreMaker) -> StoreMaker:
    """Two seeds; SAP with three alphas, SCRUB with two settings (one diverges), Retrain. The numbers are easy to verify by hand."""
    alphas = [{"alpha": 30000.0}, {"alpha": 10000.0}, {"alpha": 2000.0}]
    trusted = {"information": "scored", "num_trusted": 200, "trusted_label_precision": 0.95}
    verified = {"information": "oracle", "num_retain": 200, "num_forget": 40}
    for seed, shift in ((1, 0.0), (2, 0.02)):
        maker.baseline(seed, 0.60, 0.75, 0.74 + shift, mislabelled_given_acc=0.96, mislabelled_true_acc=0.02)
        fate = {"mislabelled_given_acc": 0.30, "mislabelled_true_acc": 0.60}
        maker.search(
            "sap", "alpha16", seed, alphas, [(0.62, 0.80, 0.78 + shift), (0.64, 0.82, 0.80 + shift), (0.64, 0.84, 0.82 + shift)],
            **trusted, **fate, select_seconds=0.5, prepare_seconds=1.0,
        )  # fmt: skip
        maker.search(
            "scrub", "grid_a", seed, [{"lr": 0.1, "gamma": 1}, {"lr": 0.01, "gamma": 1}], [None, (0.63, 0.76, 0.77)],
            **verified, tuning_seconds=3.0, **fate,
        )  # fmt: skip
        maker.search("retrain", None, seed, [{}], [(0.70, 0.92, 0.92 + shift)], information="oracle", num_retain=820, train_seconds=8.0)
    return maker

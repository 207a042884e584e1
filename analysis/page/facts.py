"""Collects the facts that the HTML page shows in addition to tables: progress, compute, search spaces and provenance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.reports.status import counts_of
from analysis.store.job_counts import Counts, total
from analysis.store.labels import MISSING, counted, method_label, plain, span
from analysis.store.load import Results
from sap_core.records import SCHEMA_VERSION, VANILLA


@dataclass(frozen=True)
class Space:
    """One planned search space: its size, its hash, and the range of each hyperparameter that varies."""

    label: str
    settings: int
    hashes: tuple[str, ...]
    ranges: tuple[str, ...]  # "alpha: 2000-300000 (16 values)"


@dataclass(frozen=True)
class Noise:
    """The label noise of one data set, as requested and as measured."""

    dataset: str
    noise: str
    requested: str
    measured: str


@dataclass(frozen=True)
class Facts:
    """The facts of one or several stores."""

    experiments: tuple[str, ...]
    counts: tuple[Counts, ...]  # of rows
    failures: tuple[tuple[int, str], ...]  # (number of rows, description)
    seeds: tuple[int, ...]
    methods: tuple[str, ...]  # "SAP (alpha16), version 1"
    datasets: tuple[str, ...]
    unverified: tuple[str, ...]  # data sets whose files did not match the published checksums
    networks: tuple[str, ...]
    trainers: tuple[str, ...]
    noises: tuple[Noise, ...]
    sizes: str  # "1097 training, 300 validation and 400 test samples"
    spaces: tuple[Space, ...]
    commits: tuple[str, ...]
    devices: tuple[str, ...]
    threads: tuple[int, ...]
    precisions: tuple[str, ...]
    peak_memory_bytes: float | None
    compute_seconds: float | None  # summed over all jobs
    exclusive: bool  # whether every job had exclusive cores or an exclusive GPU
    first: str | None  # start time (UTC) of the first stored row
    last: str | None  # start time (UTC) of the last stored row
    schema_version: int = SCHEMA_VERSION

    @property
    def planned(self) -> int:
        """The number of planned rows."""
        return total(self.counts).planned

    @property
    def ok(self) -> int:
        """The number of rows with status ok."""
        return total(self.counts).done

    @property
    def failed(self) -> int:
        """The number of rows with status failed."""
        return total(self.counts).failed

    @property
    def missing(self) -> int:
        """The number of planned rows that are not stored."""
        return total(self.counts).missing

    @property
    def clean(self) -> bool:
        """Whether every row was written by a known commit without uncommitted changes."""
        return bool(self.commits) and not any(commit.endswith("+") for commit in self.commits)


def facts(results: Results) -> Facts:
    """Collects the facts from the rows and the plan."""
    rows, plan = results.rows, results.plan
    # ISO 8601 in UTC sorts as text.
    started = rows.dropna(subset=["started_at"]).query("started_at != ''")
    # On a CPU a job needs cores of its own, on a GPU the whole card.
    own = (rows["jobs_on_device"] * rows["threads"] <= rows["cores"]) | ((rows["device"] != "cpu") & (rows["jobs_on_device"] == 1))
    peak = rows["peak_memory_bytes"].max()
    return Facts(
        experiments=_distinct(rows["experiment"]) or tuple(store.name for store in results.stores),
        counts=counts_of(results),
        failures=_failures(rows),
        seeds=tuple(sorted(int(seed) for seed in plan["seed"].unique())),
        methods=_methods(rows),
        datasets=_distinct(plan["dataset"]),
        unverified=_distinct(rows.loc[~rows["dataset_verified"].astype(bool), "dataset"]),
        networks=_distinct(plan["network"]),
        trainers=_distinct(plan["trainer"]),
        noises=_noises(rows),
        sizes=_sizes(rows),
        spaces=_spaces(plan),
        commits=_distinct(rows["commit"]),
        devices=_distinct(rows["device"]),
        threads=tuple(sorted(int(count) for count in rows["threads"].unique())),
        precisions=_distinct(rows["precision"]),
        peak_memory_bytes=None if pd.isna(peak) else float(peak),
        compute_seconds=_compute(rows),
        exclusive=bool(len(rows)) and bool(own.all()),
        first=None if started.empty else str(started["started_at"].min()),
        last=None if started.empty else str(started["started_at"].max()),
    )


def _failures(rows: pd.DataFrame) -> tuple[tuple[int, str], ...]:
    """Failed rows grouped by method, type of error and last line of the message, the most frequent first."""
    failed = rows[rows["status"] == "failed"]
    if failed.empty:
        return ()
    # Lines above the last may differ between jobs and would split the groups.
    last = failed["error"].fillna("").str.strip().str.rsplit("\n", n=1).str[-1]
    keys = [
        f"{_label(method, space)}, {kind}: {text or 'no message'}"
        for method, space, kind, text in zip(failed["method"], failed["space"], failed["error_type"].fillna("error"), last, strict=True)
    ]
    return tuple((int(count), str(text)) for text, count in pd.Series(keys).value_counts().items())


def _methods(rows: pd.DataFrame) -> tuple[str, ...]:
    pairs = rows[["method", "component_version"]].drop_duplicates().itertuples(index=False)
    return tuple(f"{_label(method, None)}, version {version}" for method, version in pairs)


def _noises(rows: pd.DataFrame) -> tuple[Noise, ...]:
    # Every row repeats the noise of its baseline, so baselines alone are counted.
    baselines = rows[(rows["job_type"] == "train") & (rows["status"] == "ok")]
    found = []
    for (dataset, noise, requested), lines in baselines.groupby(["dataset", "noise", "noise_rate"], sort=False, dropna=False):
        measured = lines["noise_rate_measured"].dropna()
        found.append(
            Noise(
                str(dataset),
                str(noise),
                MISSING if lines["noise_rate"].isna().all() else f"{float(str(requested)) * 100:g} %",
                MISSING if measured.empty else f"{span(measured * 100, 1)} %",
            )
        )
    return tuple(found)


def _sizes(rows: pd.DataFrame) -> str:
    if rows["num_train"].isna().all():
        return MISSING
    parts = [f"{span(rows[f'num_{split}'])} {word}" for split, word in (("train", "training"), ("val", "validation"), ("test", "test"))]
    return f"{parts[0]}, {parts[1]} and {parts[2]} samples"


def _spaces(plan: pd.DataFrame) -> tuple[Space, ...]:
    tuned = plan[(plan["job_type"].isin(["tune", "search"])) & (plan["method"] != VANILLA)]
    found = []
    for (method, space), lines in tuned.groupby(["method", "space"], sort=False, dropna=False):
        # One baseline: the others plan the same space.
        first = lines[lines["baseline_id"] == lines["baseline_id"].iloc[0]]
        settings = [json.loads(text) for text in first["settings"]]
        ranges = tuple(text for field in settings[0] if (text := _range(field, [setting.get(field) for setting in settings])))
        found.append(Space(_label(method, space), len(first), _distinct(lines["space_hash"]), ranges))
    return tuple(found)


def _range(field: str, values: Sequence[object]) -> str:
    """Describes the planned values of one hyperparameter; empty if it has a single value."""
    # As JSON, because values may be lists, which are not hashable.
    distinct = list(dict.fromkeys(json.dumps(value) for value in values))
    if len(distinct) < 2:
        return ""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) == len(values):
        return f"{field}: {plain(min(numbers))} to {plain(max(numbers))} ({counted(len(distinct), 'value')})"
    return f"{field}: {', '.join(text.strip(chr(34)) for text in distinct[:6])}{', ...' if len(distinct) > 6 else ''}"


def _compute(rows: pd.DataFrame) -> float | None:
    # What was spent in all: tuning and the scoring that only reports need.
    spent = rows[["tuning_seconds", "report_seconds"]].sum(min_count=1)
    # Unknown is not zero: stores without seconds show no number.
    return None if spent.isna().all() else float(spent.fillna(0).sum())


def _distinct(column: pd.Series) -> tuple[str, ...]:
    return tuple(str(value) for value in column.dropna().unique() if str(value))


def _label(method: object, space: object) -> str:
    return method_label(str(method), space if isinstance(space, str) else None)

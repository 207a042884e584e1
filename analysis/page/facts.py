"""What a page says of a store beside its tables: progress, what was spent, where the numbers come from. Numbers, no figures."""

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
    """One search space that was planned: its size, hash and what was tried of each number or word."""

    label: str
    settings: int
    hashes: tuple[str, ...]
    ranges: tuple[str, ...]  # "alpha: 2000-300000 (16 values)"


@dataclass(frozen=True)
class Noise:
    """The noise of one data set, asked and measured."""

    dataset: str
    noise: str
    asked: str
    measured: str


@dataclass(frozen=True)
class Facts:
    """A store in numbers and words."""

    experiments: tuple[str, ...]
    stages: tuple[Counts, ...]  # of rows
    failures: tuple[tuple[int, str], ...]  # how often, what
    seeds: tuple[int, ...]
    methods: tuple[str, ...]  # "SAP (alpha16), version 1"
    datasets: tuple[str, ...]
    unverified: tuple[str, ...]  # data sets whose files were not the published ones
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
    compute_seconds: float | None  # of all jobs, added up
    alone: bool  # whether every job had cores or a GPU of its own
    first: str | None  # UTC
    last: str | None
    schema_version: int = SCHEMA_VERSION

    @property
    def planned(self) -> int:
        return total(self.stages).planned

    @property
    def ok(self) -> int:
        return total(self.stages).done

    @property
    def failed(self) -> int:
        return total(self.stages).failed

    @property
    def missing(self) -> int:
        return total(self.stages).missing

    @property
    def clean(self) -> bool:
        """Whether every row was written by a commit without changes beside it."""
        return bool(self.commits) and not any(commit.endswith("+") for commit in self.commits)


def facts(results: Results) -> Facts:
    """What the rows and the plan of the stores say."""
    rows, plan = results.rows, results.plan
    there = rows.dropna(subset=["started_at"]).query("started_at != ''")
    own = (rows["jobs_on_device"] * rows["threads"] <= rows["cores"]) | ((rows["device"] != "cpu") & (rows["jobs_on_device"] == 1))
    peak = rows["peak_memory_bytes"].max()
    return Facts(
        experiments=_words(rows["experiment"]) or tuple(store.name for store in results.stores),
        stages=counts_of(results),
        failures=_failures(rows),
        seeds=tuple(sorted(int(seed) for seed in plan["seed"].unique())),
        methods=_methods(rows),
        datasets=_words(plan["dataset"]),
        unverified=_words(rows.loc[~rows["dataset_verified"].astype(bool), "dataset"]),
        networks=_words(plan["network"]),
        trainers=_words(plan["trainer"]),
        noises=_noises(rows),
        sizes=_sizes(rows),
        spaces=_spaces(plan),
        commits=_words(rows["commit"]),
        devices=_words(rows["device"]),
        threads=tuple(sorted(int(count) for count in rows["threads"].unique())),
        precisions=_words(rows["precision"]),
        peak_memory_bytes=None if pd.isna(peak) else float(peak),
        compute_seconds=_compute(rows),
        alone=bool(len(rows)) and bool(own.all()),
        first=None if there.empty else str(there["started_at"].min()),
        last=None if there.empty else str(there["started_at"].max()),
    )


def _failures(rows: pd.DataFrame) -> tuple[tuple[int, str], ...]:
    """By method, kind and last line of the error, the most frequent first."""
    failed = rows[rows["status"] == "failed"]
    if failed.empty:
        return ()
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
    baselines = rows[(rows["job_type"] == "train") & (rows["status"] == "ok")]
    found = []
    for (dataset, noise, asked), lines in baselines.groupby(["dataset", "noise", "noise_rate"], sort=False, dropna=False):
        measured = lines["noise_rate_measured"].dropna()
        found.append(
            Noise(
                str(dataset),
                str(noise),
                MISSING if lines["noise_rate"].isna().all() else f"{float(str(asked)) * 100:g} %",
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
        first = lines[lines["baseline_id"] == lines["baseline_id"].iloc[0]]
        settings = [json.loads(text) for text in first["settings"]]
        ranges = tuple(text for field in settings[0] if (text := _range(field, [setting.get(field) for setting in settings])))
        found.append(Space(_label(method, space), len(first), _words(lines["space_hash"]), ranges))
    return tuple(found)


def _range(field: str, values: Sequence[object]) -> str:
    """What was tried of one field, where there was a choice."""
    distinct = list(dict.fromkeys(json.dumps(value) for value in values))
    if len(distinct) < 2:
        return ""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) == len(values):
        return f"{field}: {plain(min(numbers))} to {plain(max(numbers))} ({counted(len(distinct), 'value')})"
    return f"{field}: {', '.join(text.strip(chr(34)) for text in distinct[:6])}{', ...' if len(distinct) > 6 else ''}"


def _compute(rows: pd.DataFrame) -> float | None:
    spent = rows[["tuning_seconds", "report_seconds"]].sum(min_count=1)
    return None if spent.isna().all() else float(spent.fillna(0).sum())


def _words(column: pd.Series) -> tuple[str, ...]:
    return tuple(str(value) for value in column.dropna().unique() if str(value))


def _label(method: object, space: object) -> str:
    return method_label(str(method), space if isinstance(space, str) else None)

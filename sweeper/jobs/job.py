"""A job: the unit that is scheduled, run and stored whole. Plain data, one JSON line each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sap_core.errors import UserError
from sap_core.files import replacing
from sap_core.records import Row


@dataclass(frozen=True)
class PlannedRun:
    """One row that a job will write."""

    run_id: str
    position: int
    settings: dict[str, Any]  # complete hyperparameters, for the row
    entry: dict[str, Any] | None = None  # what constructs the setting (tune jobs)


@dataclass(frozen=True)
class Job:
    """All that a machine needs to run one piece of the sweep."""

    job_id: str
    job_type: str  # train | select | tune | search
    spec: dict[str, Any]
    runs: tuple[PlannedRun, ...]
    labels: dict[str, Any]  # columns of Row that the plan knows
    parents: tuple[str, ...] = ()
    resources: dict[str, float] = field(default_factory=lambda: {"cpus": 1.0, "gpus": 0.0})
    timeout_seconds: float | None = None
    threads: int = 1
    forecast_flops: float = 0.0
    cells: tuple[int, ...] = ()  # numbers of the experiment's cells that need it: what the order of seeds is kept by

    def row(self, run: PlannedRun, **columns: Any) -> Row:
        """The row of `run` with what the plan knows and the given columns."""
        known = {"run_id": run.run_id, "job_id": self.job_id, "job_type": self.job_type, "position": run.position}
        values = {**_EMPTY, **self.labels, **known, "settings": json.dumps(run.settings, sort_keys=True), **columns}
        return Row(**values)

    def to_json(self) -> str:
        value = {**vars(self), "runs": [vars(run) for run in self.runs]}  # asdict would copy every spec, at ten times the price
        return json.dumps(value, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Job:
        return cls.from_plain(json.loads(text))

    @classmethod
    def from_plain(cls, value: Mapping[str, Any]) -> Job:
        """From what `to_json` wrote, parsed."""
        runs = tuple(PlannedRun(**run) for run in value["runs"])
        return cls(**{**value, "runs": runs, "parents": tuple(value["parents"]), "cells": tuple(value.get("cells", ()))})


MAKING = "making"
"""The name of the lease on an artifact, in its folder."""


def artifact(folder: Path, job_id: str) -> Path:
    """The file that a train or select job writes last: its artifact is there when this is."""
    return folder / job_id / "meta.json"


_EMPTY: dict[str, Any] = {
    "status": "ok", "error": None, "error_type": None, "attempt": 1, "noise_rate_measured": None,
    "num_trusted": None, "num_retain": None, "num_forget": None, "num_train": None, "num_val": None, "num_test": None,
}  # fmt: skip
"""Columns without a default in Row that execution fills in."""


_OTHER_LINES = ('{"bundle":', '{"planned":')
"""How a bundle's lines begin that hold no job."""


def write_jobs(path: Path, jobs: Iterable[Job]) -> None:
    """One JSON line per job, parents first."""
    with replacing(path) as temporary, temporary.open("w") as file:
        file.writelines(f"{job.to_json()}\n" for job in jobs)


def read_jobs(path: Path) -> Iterator[Job]:
    """The jobs of a file that `write_jobs` wrote, or of a bundle (sweeper.plan.bundle), whose other lines are passed over.

    Raises:
        UserError: there is no such file, or a line is no job.
    """
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                if line.startswith(_OTHER_LINES):
                    continue
                try:
                    yield Job.from_json(line)
                except (ValueError, TypeError, KeyError) as error:
                    raise UserError(
                        f"{path}, line {number}, is no job ({error}); sap-sweep writes such files as STORE/jobs.jsonl"
                    ) from error
    except OSError as error:
        raise UserError(
            f"the job file {path} cannot be read ({error.strerror}); sap-sweep writes such files as STORE/jobs.jsonl"
        ) from error


@dataclass(frozen=True)
class SweepPaths:
    """Where a job finds and leaves things."""

    data: Path
    store: Path
    artifacts: Path


@dataclass(frozen=True)
class Result:
    """What a backend and the progress display need to know of a job that ended."""

    job_id: str
    status: str
    """ok | failed | stopped | leased_elsewhere (another process has the job: nothing is known of it yet) | oom_on_shared_gpu (it ran out of memory on a
    shared GPU; nothing was stored)"""
    rows: int = 0
    failed: int = 0
    seconds: float = 0.0
    error: str | None = None
    error_type: str | None = None
    best: dict[str, float] = field(default_factory=dict)  # method -> best validation score on given labels
    train_acc: float | None = None

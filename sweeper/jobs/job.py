"""A job, the unit of scheduling, as plain data: one JSON line each. Also the folders of a sweep and the result of a job. Loads no torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sap_core.checksum import ENDS, ZEROS, Checksum, checksum, seal
from sap_core.errors import DamagedFile, UserError
from sap_core.files import CHECKSUM_KEY, DAMAGED, replacing
from sap_core.records import Row
from sweeper.config.packages import refuse_foreign_targets
from sweeper.jobs.forms import job_problem


@dataclass(frozen=True)
class SweepPaths:
    """The folders of a sweep: data sets, the store of its results, and the artifacts, which all sweeps share."""

    data: Path
    store: Path
    artifacts: Path

    def resolved(self) -> SweepPaths:
        """The same folders as absolute paths."""
        # Workers and Ray's actors start in other working directories, where a relative path would name another folder.
        return SweepPaths(self.data.resolve(), self.store.resolve(), self.artifacts.resolve())

    def arguments(self) -> list[str]:
        """The folders as arguments of `python -m sweeper.execute`, absolute."""
        paths = self.resolved()
        return ["--data", str(paths.data), "--store", str(paths.store), "--artifacts", str(paths.artifacts)]


@dataclass(frozen=True)
class PlannedRun:
    """A row that a job will write."""

    run_id: str
    position: int  # index of the setting in its space
    settings: dict[str, Any]  # complete hyperparameters, for the row
    entry: dict[str, Any] | None = None  # constructs the setting, in tune jobs


@dataclass(frozen=True)
class Job:
    """Everything that a machine needs to run one unit of the sweep."""

    job_id: str
    job_type: str  # train | select | tune | search
    spec: dict[str, Any]
    runs: tuple[PlannedRun, ...]
    labels: dict[str, Any]  # columns of Row that the plan determines
    parents: tuple[str, ...] = ()  # ids of the jobs whose artifacts it reads
    resources: dict[str, float] = field(default_factory=lambda: {"cpus": 1.0, "gpus": 0.0})
    timeout_seconds: float | None = None
    threads: int = 1
    reproducible: bool = False  # computed with the instruction sets of `sap_core.instruction_sets.REPRODUCIBLE`
    forecast_flops: float | None = 0.0  # None: unknown, as the network's passes could not be counted
    cells: tuple[int, ...] = ()  # indices of the experiment's cells that need it, for the order of seeds

    def row(self, run: PlannedRun, **columns: Any) -> Row:
        """The row of `run`, from the columns that the plan determines and the given ones."""
        # Later entries win: what a running job found out overrides the plan's labels, and those the initial values.
        known = {"run_id": run.run_id, "job_id": self.job_id, "job_type": self.job_type, "position": run.position}
        values = {**_EMPTY, **self.labels, **known, "settings": json.dumps(run.settings, sort_keys=True), **columns}
        return Row(**values)

    def to_json(self) -> str:
        """The job as one line of JSON."""
        # Not dataclasses.asdict: it copies every spec and takes ten times as long.
        value = {**vars(self), "runs": [vars(run) for run in self.runs]}
        return json.dumps(value, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The job that `to_json` wrote.

        Raises:
            ValueError, TypeError, KeyError: the text is not a job.
        """
        return cls.from_plain(json.loads(text))

    @classmethod
    def from_plain(cls, value: Mapping[str, Any]) -> Job:
        """The job from the parsed JSON of `to_json`."""
        # JSON has no tuples; without the conversion a job that was read would differ from the one that was written.
        runs = tuple(PlannedRun(**run) for run in value["runs"])
        return cls(**{**value, "runs": runs, "parents": tuple(value["parents"]), "cells": tuple(value.get("cells", ()))})


ARTIFACT_LEASE = "making"
"""Name of the lease on an artifact, in the artifact's folder."""


def artifact(folder: Path, job_id: str) -> Path:
    """The file that a train or select job writes last: its presence means that the artifact is complete."""
    return folder / job_id / "meta.json"


_EMPTY: dict[str, Any] = {
    "status": "ok", "error": None, "error_type": None, "attempt": 1, "noise_rate_measured": None,
    "num_trusted": None, "num_retain": None, "num_forget": None, "num_train": None, "num_val": None, "num_test": None,
}  # fmt: skip
"""Initial values of columns without a default in Row that are filled in while a job runs."""


_PLANNED_LINE = '{"planned":'

# Recognised by their beginning, so that no line is parsed only to be skipped.
_OTHER_LINES = ('{"blake2b":', '{"bundle":', _PLANNED_LINE)
"""Beginnings of the lines that are not jobs: the checksum, and those of a bundle."""


def write_jobs(path: Path, jobs: Iterable[Job]) -> None:
    """Write a line with the file's checksum (`sap_core.checksum`), then one JSON line per job, parents first."""
    with replacing(path) as temporary:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(json.dumps({CHECKSUM_KEY: ZEROS}) + "\n")
            # A generator: the text of all jobs is never in memory at once.
            file.writelines(f"{job.to_json()}\n" for job in jobs)
            file.write(ENDS[".jsonl"].decode())
        seal(temporary, path, ".jsonl")


def checked_job(value: Any, plugins: Sequence[str] | None, where: str) -> Job:
    """The job from the parsed JSON of `to_json`, in a file that may come from elsewhere.

    Args:
        value: the parsed JSON.
        plugins: packages whose classes the job may name, besides this project's; None: it is not going to run, and may name any.
        where: the place of the job, for messages.

    Raises:
        ValueError, TypeError, KeyError: the value is not a job.
        UserError: the job names a class of another package.
    """
    if problem := job_problem(value):
        raise ValueError(problem)
    job = Job.from_plain(value)
    if plugins is not None:
        # Before anything is imported: importing alone runs code.
        refuse_foreign_targets(job.spec, plugins, where)
        refuse_foreign_targets([run.entry for run in job.runs], plugins, where)
    return job


def read_jobs(path: Path, plugins: Sequence[str] | None) -> Iterator[Job]:
    """The jobs of a file that `write_jobs` wrote, or of a bundle (sweeper.plan.bundle), whose other lines are skipped.

    Args:
        path: the file.
        plugins: see `checked_job`.

    Raises:
        UserError: the file cannot be read, or a line is not a job or names a class that it may not name.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"the job file {path} is no regular file; give a STORE/jobs.jsonl that sap-sweep wrote, or a bundle")
    try:
        # Before the first job is started: a flipped bit may be another learning rate.
        if checksum(path, ".jsonl") is Checksum.DAMAGED and path.stat().st_size:
            raise DamagedFile(
                f"the job file {path} cannot be read ({DAMAGED}); start the sweep again, which writes it anew, or copy the file once more"
            )
        # Undecodable bytes are replaced, so that a binary file is reported as an invalid line and not as a UnicodeDecodeError.
        with path.open(encoding="utf-8", errors="replace") as file:
            bundle = False
            for number, line in enumerate(file, 1):
                bundle = bundle or (number == 1 and '"bundle":' in line)
                # A bundle contains the plan's rows behind the jobs; a worker needs only the jobs.
                if line.startswith(_OTHER_LINES):
                    if line.startswith(_PLANNED_LINE) and not bundle:
                        raise DamagedFile(f"the job file {path} is a bundle without its first lines; copy the bundle once more")
                    continue
                try:
                    yield checked_job(json.loads(line), plugins, f"{path}, line {number},")
                except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                    why = " ".join(str(error).split())[:200]
                    raise UserError(
                        f"{path}, line {number}, is not a job ({why}); give a STORE/jobs.jsonl that sap-sweep wrote, or a bundle"
                    ) from error
    except OSError as error:
        raise UserError(
            f"the job file {path} cannot be read ({error.strerror}); give a STORE/jobs.jsonl that sap-sweep wrote, or a bundle"
        ) from error


@dataclass(frozen=True)
class Result:
    """How a job ended, for backends and the progress display."""

    job_id: str
    status: str
    """ok | failed | stopped | leased_elsewhere | oom_on_shared_gpu

    leased_elsewhere: another process runs the job, and its result is not known yet. oom_on_shared_gpu: the job ran out of memory next to
    other jobs, and nothing was stored.
    """
    rows: int = 0
    failed: int = 0  # number of failed rows, diverged ones included
    seconds: float = 0.0
    error: str | None = None
    error_type: str | None = None
    best: dict[str, float] = field(default_factory=dict)  # method -> best validation score on the given labels
    train_acc: float | None = None
    note: str | None = None  # a sentence for the user about a job that is ok

"""Compares the forecast run times of jobs with their actual run times.

The actual seconds of a job are the sum of the tuning and report seconds of its rows; its forecast is the sum over its planned rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.store.labels import counted, method_label
from analysis.store.load import Results
from analysis.tables.render import Column, FormattedCell, Table

COLUMNS = (
    "error_type", "tuning_seconds", "report_seconds", "forecast_seconds", "forecast_low_seconds", "forecast_high_seconds", "forecast_basis",
)  # fmt: skip
"""Columns of rows and plan that are read in addition to those that are always read."""

INTERVAL = 0.8
"""Nominal coverage of the forecast intervals."""


@dataclass(frozen=True)
class Accuracy:
    """The accuracy of the forecasts of some jobs."""

    jobs: int
    forecast: float  # total seconds
    actual: float  # total seconds
    error: float  # median over jobs of |forecast - actual| / actual
    covered: float  # share of the jobs whose actual seconds lie in their interval

    @property
    def ratio(self) -> float:
        """Total actual seconds divided by total forecast seconds."""
        return self.actual / self.forecast


def compared_jobs(results: Results) -> pd.DataFrame:
    """One line per job with a forecast that has ended: job_type, method, space, basis, forecast, low, high, actual (seconds).

    Jobs with a row that failed for any reason but divergence are left out, because they ended early.
    """
    # Jobs without a forecast are counted in a note.
    plan = results.plan[results.plan["forecast_seconds"].notna()]
    planned = plan.groupby("job_id", sort=False).agg(
        job_type=("job_type", "first"), method=("method", "first"), space=("space", "first"), basis=("forecast_basis", "first"),
        forecast=("forecast_seconds", "sum"), low=("forecast_low_seconds", "sum"), high=("forecast_high_seconds", "sum"),
        rows=("run_id", "size"),
    )  # fmt: skip
    rows = results.rows
    # A diverged setting took the time that was forecast; an error ended its job early.
    bad = rows["tuning_seconds"].isna() | ((rows["status"] == "failed") & (rows["error_type"] != "diverged"))
    sound = rows[~rows["job_id"].isin(rows.loc[bad, "job_id"])]
    seconds = sound["tuning_seconds"] + sound["report_seconds"].fillna(0.0)
    actual = sound.assign(actual=seconds).groupby("job_id").agg(actual=("actual", "sum"), stored=("actual", "size"))
    # Jobs that have not finished have no actual time.
    joined = planned.join(actual, how="inner")
    # A job with some rows only has not spent what was forecast for all.
    complete = (joined["stored"] == joined["rows"]) & (joined["forecast"] > 0) & (joined["actual"] > 0)
    return joined[complete].drop(columns=["rows", "stored"]).reset_index()


def accuracy(jobs: pd.DataFrame) -> Accuracy:
    """The accuracy over some lines of `compared_jobs`."""
    # Relative to what happened, so that an error of ten seconds counts more for a short job.
    error = (jobs["forecast"] - jobs["actual"]).abs() / jobs["actual"]
    inside = (jobs["low"] <= jobs["actual"]) & (jobs["actual"] <= jobs["high"])
    # The median, because a few short jobs have large relative errors.
    return Accuracy(len(jobs), float(jobs["forecast"].sum()), float(jobs["actual"].sum()), float(np.median(error)), float(inside.mean()))


def forecast(results: Results) -> tuple[Table, ...]:
    """The table of forecast and actual run times by job type and search; no table if no finished job had a forecast."""
    jobs = compared_jobs(results)
    if jobs.empty:
        return ()
    groups = jobs.groupby(["job_type", "method", "space"], sort=False, dropna=False)
    lines = [(str(job_type), str(method), space if isinstance(space, str) else None, lines) for (job_type, method, space), lines in groups]
    rows = [_row(job_type, method_label(method, space), accuracy(group)) for job_type, method, space, group in lines]
    rows.append(_row("all", "", accuracy(jobs)))
    # A forecast from a measurement is better than one from an assumed speed, so a reader must know how many of each there are.
    bases = ", ".join(f"{basis} {count}" for basis, count in jobs["basis"].value_counts().items())
    without = results.plan["job_id"].nunique() - len(jobs)
    notes = [
        "Compute seconds, over the finished jobs that had a forecast. Error: the median over jobs of |forecast - actual| / actual. "
        f"Covered: jobs whose actual seconds are inside their {INTERVAL:.0%} interval.",
        f"Basis of the forecasts (jobs): {bases}.",
    ]
    if without:
        notes.append(f"{counted(without, 'job')} of the plan had no forecast, failed or have not finished.")
    return (
        Table(name="forecast", cell="", caption="Forecast and actual run times.", columns=_COLUMNS, rows=tuple(rows), notes=tuple(notes)),
    )


_COLUMNS = (
    Column("job_type", "Job type", numeric=False),
    Column("method", "Method", numeric=False),
    Column("jobs", "Jobs"),
    Column("forecast", "Forecast (s)"),
    Column("actual", "Actual (s)"),
    Column("ratio", "Actual / forecast"),
    Column("error", "Error (%)"),
    Column("covered", "Covered (%)"),
)


def _row(job_type: str, method: str, found: Accuracy) -> tuple[FormattedCell, ...]:
    numbers = (found.forecast, found.actual, found.ratio)
    shares = (100 * found.error, 100 * found.covered)
    return (
        FormattedCell(job_type),
        FormattedCell(method),
        FormattedCell(str(found.jobs), found.jobs),
        *(FormattedCell(f"{value:.3g}", value) for value in numbers),
        *(FormattedCell(f"{value:.0f}", value) for value in shares),
    )

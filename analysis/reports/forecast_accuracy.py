"""Forecast against actual: how long jobs were said to take before they ran, and how long they took.

A job's actual seconds are those that its rows book, tuning and report, added up; its forecast is the sum of its planned rows' parts.
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
"""Columns of rows and plan that are needed."""

INTERVAL = 0.8


@dataclass(frozen=True)
class Compared:
    """Some jobs that had a forecast and have ended."""

    jobs: int
    forecast: float  # seconds in all
    actual: float
    error: float  # median over jobs of |forecast - actual| / actual
    covered: float  # share of the jobs whose actual seconds lie in their interval

    @property
    def ratio(self) -> float:
        """Actual over forecast seconds, of the sums."""
        return self.actual / self.forecast


def jobs_of(results: Results) -> pd.DataFrame:
    """One line per job with a forecast that has ended: job_type, method, space, basis, forecast, low, high, actual (seconds).

    Jobs with a row that failed otherwise than by divergence took another time than they would have, and are left out.
    """
    plan = results.plan[results.plan["forecast_seconds"].notna()]
    planned = plan.groupby("job_id", sort=False).agg(
        job_type=("job_type", "first"), method=("method", "first"), space=("space", "first"), basis=("forecast_basis", "first"),
        forecast=("forecast_seconds", "sum"), low=("forecast_low_seconds", "sum"), high=("forecast_high_seconds", "sum"),
        rows=("run_id", "size"),
    )  # fmt: skip
    rows = results.rows
    bad = rows["tuning_seconds"].isna() | ((rows["status"] == "failed") & (rows["error_type"] != "diverged"))
    sound = rows[~rows["job_id"].isin(rows.loc[bad, "job_id"])]
    seconds = sound["tuning_seconds"] + sound["report_seconds"].fillna(0.0)
    actual = sound.assign(actual=seconds).groupby("job_id").agg(actual=("actual", "sum"), there=("actual", "size"))
    joined = planned.join(actual, how="inner")
    whole = (joined["there"] == joined["rows"]) & (joined["forecast"] > 0) & (joined["actual"] > 0)
    return joined[whole].drop(columns=["rows", "there"]).reset_index()


def compared(jobs: pd.DataFrame) -> Compared:
    """The numbers of some lines of `jobs_of`."""
    error = (jobs["forecast"] - jobs["actual"]).abs() / jobs["actual"]
    inside = (jobs["low"] <= jobs["actual"]) & (jobs["actual"] <= jobs["high"])
    return Compared(len(jobs), float(jobs["forecast"].sum()), float(jobs["actual"].sum()), float(np.median(error)), float(inside.mean()))


def forecast(results: Results) -> tuple[Table, ...]:
    """Forecast against actual by kind of job and search; no table where no job of the store had a forecast."""
    jobs = jobs_of(results)
    if jobs.empty:
        return ()
    groups = jobs.groupby(["job_type", "method", "space"], sort=False, dropna=False)
    lines = [(str(job_type), str(method), space if isinstance(space, str) else None, lines) for (job_type, method, space), lines in groups]
    rows = [_row(job_type, method_label(method, space), compared(mine)) for job_type, method, space, mine in lines]
    rows.append(_row("all", "", compared(jobs)))
    bases = ", ".join(f"{basis} {count}" for basis, count in jobs["basis"].value_counts().items())
    without = results.plan["job_id"].nunique() - len(jobs)
    notes = [
        "Seconds of workers, over the jobs that had a forecast and have ended. Error: the median over jobs of |forecast - actual| / "
        f"actual. Inside: jobs whose seconds lie in their {INTERVAL:.0%} interval.",
        f"Made from: {bases} (jobs).",
    ]
    if without:
        notes.append(f"{counted(without, 'job')} of the plan had no forecast, or ended otherwise or not yet.")
    return (Table(name="forecast", cell="", caption="Forecast against actual.", columns=_COLUMNS, rows=tuple(rows), notes=tuple(notes)),)


_COLUMNS = (
    Column("job_type", "Job type", numeric=False),
    Column("method", "Method", numeric=False),
    Column("jobs", "Jobs"),
    Column("forecast", "Forecast (s)"),
    Column("actual", "Actual (s)"),
    Column("ratio", "Actual / forecast"),
    Column("error", "Error (%)"),
    Column("covered", "Inside (%)"),
)


def _row(job_type: str, method: str, found: Compared) -> tuple[FormattedCell, ...]:
    numbers = (found.forecast, found.actual, found.ratio)
    shares = (100 * found.error, 100 * found.covered)
    return (
        FormattedCell(job_type),
        FormattedCell(method),
        FormattedCell(str(found.jobs), found.jobs),
        *(FormattedCell(f"{value:.3g}", value) for value in numbers),
        *(FormattedCell(f"{value:.0f}", value) for value in shares),
    )

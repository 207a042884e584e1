"""The progress of a sweep in rows: counts by type, failures grouped by their last line, missing rows, rows that no plan names."""

from __future__ import annotations

import pandas as pd

from analysis.store.job_counts import Counts, count, total
from analysis.store.labels import counted, method_label
from analysis.store.load import Results
from analysis.tables.render import Column, FormattedCell, Table, terminal

COLUMNS = ("error", "error_type")
"""What it reads beside the columns that are always read."""

_SHOWN = 20
"""So many groups of failures, and of gaps, are shown; the others are counted."""

_COLUMNS = (
    Column("job_type", "Job type", numeric=False),
    Column("planned", "Planned"),
    Column("ok", "Ok"),
    Column("failed", "Failed"),
    Column("missing", "Missing"),
)


def status(results: Results) -> str:
    """The whole text. Serves smoke runs too, under a banner."""
    by_kind = counts_of(results)
    whole = total(by_kind)
    failed = f", {counted(whole.failed, 'failed row')}" if whole.failed else ""
    name = ", ".join(str(store) for store in results.stores)
    table = Table(
        name="status",
        cell="",
        caption=f"{name}: {whole.done} of {counted(whole.planned, 'planned row')} done{failed}.",
        columns=_COLUMNS,
        rows=tuple(_row(one) for one in by_kind),
        notes=(*_failures(results.rows), *_gaps(results), *results.problems),
    )
    return smoke_banner(results) + terminal(table)


def smoke_banner(results: Results) -> str:
    """A loud line for stores of smoke runs; empty for others."""
    if not results.debug:
        return ""
    return f"*** SMOKE RUN (debug={', '.join(results.debug)}): its numbers mean nothing; no table or plot accepts its rows. ***\n\n"


def counts_of(results: Results) -> tuple[Counts, ...]:
    """The planned rows by state, per type of job."""
    return count(results.plan["job_type"], zip(results.rows["job_type"], results.rows["status"], strict=True))


def _row(one: Counts) -> tuple[FormattedCell, ...]:
    return (FormattedCell(one.name), *(FormattedCell(str(number), number) for number in (one.planned, one.done, one.failed, one.missing)))


def _failures(rows: pd.DataFrame) -> list[str]:
    """One line per method, kind of error and last line of its text, the most frequent first, with one job whose log says more."""
    failed = rows[rows["status"] == "failed"]
    if failed.empty:
        return []
    last = failed["error"].fillna("").str.strip().str.rsplit("\n", n=1).str[-1].replace("", "no message")
    keyed = failed.assign(last=last, error_type=failed["error_type"].fillna("error"))
    groups = keyed.groupby(["method", "space", "error_type", "last"], sort=False, dropna=False)["job_id"].agg(["size", "first"])
    said = [
        f"Failed: {size} x {_label(method, space)}, {kind}: {text} (logs/{job_id}.log)"
        for (method, space, kind, text), size, job_id in groups.sort_values("size", ascending=False, kind="stable").itertuples()
    ]
    return _cut(said, "Failed: {} more kinds of failures.")


def _gaps(results: Results) -> list[str]:
    groups = results.missing.groupby(["cell", "method", "space"], sort=False, dropna=False).size().reset_index(name="rows")
    said = [
        f"Missing: {counted(count, 'row')} of {_label(method, space)} on {cell}."
        for cell, method, space, count in groups.itertuples(index=False)
    ]
    return _cut(said, "Missing: rows of {} more searches.")


def _cut(said: list[str], more: str) -> list[str]:
    return said if len(said) <= _SHOWN else [*said[:_SHOWN], more.format(len(said) - _SHOWN)]


def _label(method: object, space: object) -> str:
    return method_label(str(method), space if isinstance(space, str) else None)

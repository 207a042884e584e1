"""The progress of a sweep in rows: counts by job type, failures grouped by message, missing rows and problems of the store."""

from __future__ import annotations

import pandas as pd

from analysis.store.job_counts import Counts, count, total
from analysis.store.labels import counted, method_label
from analysis.store.load import Results
from analysis.tables.render import Column, FormattedCell, Table, terminal
from sap_core.text import one_line

COLUMNS = ("error", "error_type")
"""Columns that are read in addition to those that are always read."""

_MAX_GROUPS = 20
"""Largest number of groups of failures, and of missing rows, that are printed; the others are counted."""

_COLUMNS = (
    Column("job_type", "Job type", numeric=False),
    Column("planned", "Planned"),
    Column("ok", "Ok"),
    Column("failed", "Failed"),
    Column("missing", "Missing"),
)


def status(results: Results) -> str:
    """The status as text; that of a smoke run starts with a banner."""
    by_kind = counts_of(results)
    all_counts = total(by_kind)
    failed = f", {counted(all_counts.failed, 'failed row')}" if all_counts.failed else ""
    name = ", ".join(str(store) for store in results.stores)
    table = Table(
        name="status",
        cell="",
        caption=f"{name}: {all_counts.done} of {counted(all_counts.planned, 'planned row')} done{failed}.",
        columns=_COLUMNS,
        rows=tuple(_row(one) for one in by_kind),
        notes=(*_failures(results.rows), *_missing_rows(results), *results.problems),
    )
    return smoke_banner(results) + terminal(table)


def smoke_banner(results: Results) -> str:
    """A banner for stores of smoke runs; empty for others."""
    if not results.debug:
        return ""
    return f"*** SMOKE RUN (debug={', '.join(results.debug)}): its numbers are meaningless; no table or plot accepts its rows. ***\n\n"


def counts_of(results: Results) -> tuple[Counts, ...]:
    """Counts the planned rows by job type and state."""
    return count(results.plan["job_type"], zip(results.rows["job_type"], results.rows["status"], strict=True))


def _row(one: Counts) -> tuple[FormattedCell, ...]:
    return (FormattedCell(one.name), *(FormattedCell(str(number), number) for number in (one.planned, one.done, one.failed, one.missing)))


def _failures(rows: pd.DataFrame) -> list[str]:
    """One sentence per method, type of error and last line of the message, the most frequent first, with the log of one such job."""
    failed = rows[rows["status"] == "failed"]
    if failed.empty:
        return []
    # Lines above the last may differ between jobs and would split the groups.
    last = failed["error"].fillna("").str.strip().str.rsplit("\n", n=1).str[-1].replace("", "no message")
    keyed = failed.assign(last=last, error_type=failed["error_type"].fillna("error"))
    # One log per group: its jobs failed in the same way.
    groups = keyed.groupby(["method", "space", "error_type", "last"], sort=False, dropna=False)["job_id"].agg(["size", "first"])
    found = [
        f"Failed: {size} x {_label(method, space)}, {kind}: {one_line(text)} (logs/{job_id}.log)"
        for (method, space, kind, text), size, job_id in groups.sort_values("size", ascending=False, kind="stable").itertuples()
    ]
    return _cut(found, "Failed: {} more kinds of failures.")


def _missing_rows(results: Results) -> list[str]:
    groups = results.missing.groupby(["cell", "method", "space"], sort=False, dropna=False).size().reset_index(name="rows")
    found = [
        f"Missing: {counted(count, 'row')} of {_label(method, space)} on {cell}."
        for cell, method, space, count in groups.itertuples(index=False)
    ]
    return _cut(found, "Missing: rows of {} more searches.")


def _cut(found: list[str], more: str) -> list[str]:
    # A sweep that is missing its data fails in every job; twenty groups are enough to see why.
    return found if len(found) <= _MAX_GROUPS else [*found[:_MAX_GROUPS], more.format(len(found) - _MAX_GROUPS)]


def _label(method: object, space: object) -> str:
    return method_label(str(method), space if isinstance(space, str) else None)

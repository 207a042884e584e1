"""How far a sweep is: done and total by kind, failures grouped by their last line, gaps, rows that no plan names."""

from __future__ import annotations

import pandas as pd

from analysis.labels import counted, method_label
from analysis.load import Results
from analysis.render import Cell, Column, Table, terminal

COLUMNS = ("error", "error_kind")
"""What it reads beside the columns that are always read."""

_SHOWN = 20
"""So many groups of failures, and of gaps, are shown; the others are counted."""

_COLUMNS = (
    Column("kind", "Kind", numeric=False),
    Column("planned", "Planned"),
    Column("ok", "Ok"),
    Column("failed", "Failed"),
    Column("missing", "Missing"),
)


def status(results: Results) -> str:
    """The whole text. Serves smoke runs too, under a banner."""
    planned, there = len(results.plan), len(results.rows)
    name = ", ".join(str(store) for store in results.stores)
    table = Table(
        name="status",
        cell="",
        caption=f"{name}: {there} of {counted(planned, 'planned row')} done.",
        columns=_COLUMNS,
        rows=tuple(_row(results, str(kind)) for kind in results.plan["kind"].unique()),
        notes=(*_failures(results.rows), *_gaps(results), *results.problems),
    )
    return smoke_banner(results) + terminal(table)


def smoke_banner(results: Results) -> str:
    """A loud line for stores of smoke runs; empty for others."""
    if not results.debug:
        return ""
    return f"*** SMOKE RUN (debug={', '.join(results.debug)}): its numbers mean nothing; no table or plot accepts its rows. ***\n\n"


def _row(results: Results, kind: str) -> tuple[Cell, ...]:
    rows = results.rows[results.rows["kind"] == kind]
    planned = int((results.plan["kind"] == kind).sum())
    failed = int((rows["status"] == "failed").sum())
    return (Cell(kind), *(Cell(str(count), count) for count in (planned, len(rows) - failed, failed, planned - len(rows))))


def _failures(rows: pd.DataFrame) -> list[str]:
    """One line per method, kind of error and last line of its text, the most frequent first, with one job whose log says more."""
    failed = rows[rows["status"] == "failed"]
    if failed.empty:
        return []
    last = failed["error"].fillna("").str.strip().str.rsplit("\n", n=1).str[-1].replace("", "no message")
    keyed = failed.assign(last=last, error_kind=failed["error_kind"].fillna("error"))
    groups = keyed.groupby(["method", "space", "error_kind", "last"], sort=False, dropna=False)["job_id"].agg(["size", "first"])
    said = [
        f"Failed: {size} x {_label(method, space)}, {kind}: {text} (logs/{job_id}.log)"
        for (method, space, kind, text), size, job_id in groups.sort_values("size", ascending=False, kind="stable").itertuples()
    ]
    return _cut(said, "Failed: {} more kinds of failures.")


def _gaps(results: Results) -> list[str]:
    groups = results.gaps.groupby(["cell", "method", "space"], sort=False, dropna=False).size().reset_index(name="rows")
    said = [
        f"Missing: {counted(count, 'row')} of {_label(method, space)} on {cell}."
        for cell, method, space, count in groups.itertuples(index=False)
    ]
    return _cut(said, "Missing: rows of {} more searches.")


def _cut(said: list[str], more: str) -> list[str]:
    return said if len(said) <= _SHOWN else [*said[:_SHOWN], more.format(len(said) - _SHOWN)]


def _label(method: object, space: object) -> str:
    return method_label(str(method), space if isinstance(space, str) else None)

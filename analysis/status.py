"""How far a sweep is: done and total by kind, failures grouped by their last line, gaps, rows that no plan names."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from analysis.labels import counted, method_label
from analysis.load import Results
from analysis.render import Cell, Column, Table, terminal

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
    """One line per method, kind of error and last line of its text, the most frequent first."""
    failed = rows[rows["status"] == "failed"]
    if failed.empty:
        return []
    last = [(str(text).strip().splitlines() or ["no message"])[-1] for text in failed["error"].fillna("")]
    groups = Counter(zip(_labels(failed), failed["error_kind"].fillna("error"), last, strict=True))
    return [f"Failed: {count} x {method}, {kind}: {text}" for (method, kind, text), count in groups.most_common()]


def _gaps(results: Results) -> list[str]:
    groups = Counter(zip(_labels(results.gaps), results.gaps["cell"], strict=True))
    return [f"Missing: {counted(count, 'row')} of {method} on {cell}." for (method, cell), count in groups.items()]


def _labels(lines: pd.DataFrame) -> list[str]:
    pairs = zip(lines["method"], lines["space"], strict=True)
    return [method_label(str(method), None if pd.isna(space) else str(space)) for method, space in pairs]

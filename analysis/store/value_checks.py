"""Refuses rows with values that no run can have had: accuracies outside 0 to 1, and negative or infinite costs."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

_SHARES = ("_acc", "_precision", "_rate", "_rate_measured")
"""Ends of the names of columns with shares."""

_AMOUNTS = ("_seconds", "flops", "_forwards", "_backwards", "_bytes")
"""Ends of the names of columns with amounts."""

_COUNTS = ("num_", "val_newly_")
"""Beginnings of the names of columns with counts."""

_ROUNDING = 1e-9

_MAX_NAMED = 5
"""Number of damaged rows that are named in a message of their own; the others are counted."""


def without_damaged(rows: pa.Table, damage: list[str]) -> pa.Table:
    """Drops the rows with impossible values and names them in `damage`. A missing value (null or NaN) of a score is not damage.

    Scores are checked in rows with status ok only, because a failed run has none that count.
    """
    found: dict[int, tuple[str, str]] = {}
    is_ok = pc.equal(rows["status"], "ok")
    for name in rows.column_names:
        column = rows[name]
        if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
            continue
        for index in _impossible(name, column, is_ok):
            found.setdefault(index, (name, _allowed(name)))
    if not found:
        return rows
    damage += _sentences(rows, found)
    kept = pa.array([index not in found for index in range(len(rows))])
    return rows.filter(kept)


def _impossible(name: str, column: pa.ChunkedArray, is_ok: pa.ChunkedArray) -> list[int]:
    """The indices of the rows whose value in a column is impossible."""
    if name.endswith(_SHARES):
        # Comparisons with NaN are false, so NaN counts as missing.
        bad = pc.and_(is_ok, pc.or_(pc.less(column, -_ROUNDING), pc.greater(column, 1 + _ROUNDING)))
    elif name.endswith("_r2"):
        bad = pc.and_(is_ok, pc.or_(pc.greater(column, 1 + _ROUNDING), pc.is_inf(column)))
    elif name.endswith(_AMOUNTS) or name.startswith(_COUNTS):
        bad = pc.less(column, 0)
        if pa.types.is_floating(column.type):
            bad = pc.or_(bad, pc.invert(pc.is_finite(column)))
    else:
        return []
    # The common case, without converting a mask of a million rows.
    if not pc.any(bad).as_py():
        return []
    return [int(index) for index in pc.indices_nonzero(pc.fill_null(bad, False)).to_pylist()]


def _allowed(name: str) -> str:
    return "between 0 and 1" if name.endswith(_SHARES) else "at most 1" if name.endswith("_r2") else "a number that is not negative"


def _sentences(rows: pa.Table, found: dict[int, tuple[str, str]]) -> list[str]:
    """One sentence for each damaged row; after the first few only their number."""
    sentences = []
    for index, (name, allowed) in sorted(found.items())[:_MAX_NAMED]:
        method, space, seed, run_id, job_id = (rows[column][index].as_py() for column in ("method", "space", "seed", "run_id", "job_id"))
        label = f"{method}{'' if space is None else f', {space}'}, seed {seed}"
        sentences.append(
            f"The row of run {run_id} ({label}) is damaged: {name} is {rows[name][index].as_py():g} and must be {allowed}. It is left out "
            f"and counts as missing: delete the file of job {job_id} in the store's folder rows and start the sweep again, which repeats "
            "the job."
        )
    more = len(found) - _MAX_NAMED
    return [*sentences, *([f"{more} more rows have impossible values and are left out."] if more > 0 else [])]

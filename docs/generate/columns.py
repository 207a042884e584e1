"""The page of the columns: every field of the record classes of a store, with its type and the text below it."""

from __future__ import annotations

import ast
import inspect
import re

from docs.generate.text import escaped, page, table
from sap_core import records
from sap_core.records import Planned, Point, Row, Timing, column_types

_TABLES = {
    "Rows": (Row, "`rows/*.parquet`: one setting on one baseline, or the baseline itself (`method` is `vanilla`)."),
    "Plan": (Planned, "`plan.parquet`: one planned row. A planned row without a row is a gap."),
    "Series": (Point, "`series/*.parquet`: one value of a curve. The names of the curves: [series](../store.md#series)."),
    "Timing": (Timing, "`timing/*.parquet`: one phase of a job that was measured again ([timing](../store.md#timing))."),
}
_INTRO = (
    "From `sap_core/records.py`, from which every Parquet schema is derived. Accuracies are fractions in [0, 1]; null means not evaluated, "
    "unknown or not applicable. How to read the files: [the store](../store.md)."
)


def columns_page() -> str:
    """The page."""
    rows = texts(Row)
    parts = []
    for title, (record, about) in _TABLES.items():
        own = texts(record)
        lines = [
            (f"`{name}`", f"{kind.__name__}{' | null' if nullable else ''}", escaped(own.get(name) or f"{rows[name]} (as in rows)"))
            for name, kind, nullable in column_types(record)
        ]
        parts += [f"## {title}", about, table(("column", "type", "meaning"), lines)]
    return page("Columns", _INTRO, *parts)


def texts(record: type) -> dict[str, str]:
    """Field -> the text below it, in one line."""
    body = ast.parse(inspect.getsource(records)).body
    (found,) = [node for node in body if isinstance(node, ast.ClassDef) and node.name == record.__name__]
    return {
        field.target.id: re.sub(r"\s+", " ", text.value.value)
        for field, text in zip(found.body, found.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }  # fmt: skip

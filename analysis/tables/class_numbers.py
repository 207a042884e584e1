"""The note of a table that names the classes of a cell's data set by the number of the network's output."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from analysis.store.load import Results
from analysis.store.results import CellResult
from analysis.tables.render import Table
from sap_core.files import load_json

FILE = "classes.json"
"""File in a store: data set -> names of its classes, by number."""

_SHOWN = 10


def with_class_note(table: Table, results: Results, cell: CellResult) -> Table:
    """Return the table with a note of the classes' numbers, if a store contains their names."""
    names = () if cell.rows.empty else class_names(results.stores, str(cell.rows.iloc[0]["dataset"]))
    if not names:
        return table
    first = ", ".join(f"{number} = {name}" for number, name in enumerate(names[:_SHOWN]))
    rest = f", ... ({len(names)} classes, all in {FILE})" if len(names) > _SHOWN else ""
    return replace(table, notes=(*table.notes, f"Outputs of both models: {first}{rest}."))


def class_names(stores: Iterable[Path], dataset: str) -> tuple[str, ...]:
    """Return the names of the classes of a data set by number; () if no store contains them."""
    for store in stores:
        # A store of data whose files name no classes has no such file, and reports read what is intact of a damaged store.
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            names = load_json(store / FILE)[dataset]
            # Bytes that are not UTF-8 cannot be printed as they are.
            return tuple(str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for name in names)
    return ()

"""`sap-report STORE export`: writes all rows of the stores to one CSV or Parquet file."""

from __future__ import annotations

import argparse
import csv
from typing import Any, Literal

import pandas as pd

from analysis.commands.common import add_output_file, output_file, report_folder
from analysis.store.labels import counted
from analysis.store.load import Results
from sap_core.command_line import examples
from sap_core.errors import UserError
from sap_core.files import replacing
from sap_core.text import inert_cell

FILE_FORMATS = ("csv", "parquet")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_output_file(parser, "a name that ends in .csv or .parquet (default: report/rows.csv in the first store)")
    parser.epilog = examples(
        "sap-report results/demo export --output rows.csv", "sap-report results/demo export --ok --output rows.parquet"
    )  # fmt: skip
    parser.add_argument(
        "--raw", action="store_true", help="CSV: leave texts that a spreadsheet would run as they are (=, @, + or - before no number)"
    )
    parser.add_argument("--ok", action="store_true", help="leave out failed rows")
    parser.add_argument("--planned", action="store_true", help="leave out rows that are in no plan")


def run(results: Results, options: argparse.Namespace) -> str:
    """Writes the file; returns its path and size.

    Raises:
        UserError: the name of the file ends neither in .csv nor in .parquet.
    """
    path = output_file(options) or report_folder(results.stores[0]) / "rows.csv"
    form = path.suffix.removeprefix(".").lower()
    if form not in FILE_FORMATS:
        raise UserError(f"'{path}' ends neither in .csv nor in .parquet; the ending selects the format, as in rows.parquet")
    rows = tidy(results, ok=options.ok, planned=options.planned)
    # Renamed when complete, so that a program that reads the file never sees half of it.
    with replacing(path) as temporary:
        if form == "csv":
            # Python's writer leaves a carriage return unquoted, which readers take for the end of a line.
            texts = rows.select_dtypes(exclude=["number", "bool"])
            if not options.raw:
                # A cell that begins with an apostrophe is a text to every spreadsheet.
                inert = {str(name): texts[name].map(inert_cell, na_action="ignore") for name in texts if _has_texts(texts[name])}
                rows = rows.assign(**inert)
                texts = rows.select_dtypes(exclude=["number", "bool"])
            broken = any(texts[name].astype(str).str.contains("\r", regex=False).any() for name in texts)
            quoting: Literal[0, 2] = csv.QUOTE_NONNUMERIC if broken else csv.QUOTE_MINIMAL
            rows.to_csv(temporary, index=False, lineterminator="\n", quoting=quoting)
        else:
            rows.to_parquet(temporary, index=False, compression="zstd")
    # A file without them looks complete.
    gaps = f"; {counted(len(results.missing), 'planned row')} not stored" if len(results.missing) else ""
    return f"{path}: {counted(len(rows), 'row')} of {len(rows.columns)} columns{gaps}"


def _has_texts(column: pd.Series[Any]) -> bool:
    return bool(column.map(lambda value: isinstance(value, str)).any())


def tidy(results: Results, ok: bool = False, planned: bool = False) -> pd.DataFrame:
    """One line per row, columns as in docs/store.md, with the plan's `cell` and `computation_id` (null for rows outside the plan)."""
    # Rows outside the plan are exported by default: they are results, and only tables cannot place them.
    rows = results.rows if planned or results.unplanned.empty else pd.concat([results.rows, results.unplanned], ignore_index=True)
    return rows[rows["status"] == "ok"] if ok else rows

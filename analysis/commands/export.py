"""`sap-report STORE export`: every row of the stores as one tidy file, CSV or Parquet."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from analysis.store.labels import counted
from analysis.store.load import Results
from sap_core.errors import UserError
from sap_core.files import replacing

FORMS = ("csv", "parquet")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", type=Path, nargs="?", metavar="FILE", help="such as rows.csv or rows.parquet; STORE/report/rows.csv unless given"
    )
    parser.add_argument("--ok", action="store_true", help="rows that failed are left out")
    parser.add_argument("--planned", action="store_true", help="rows that no plan names are left out")


def run(results: Results, options: argparse.Namespace) -> str:
    """Writes the file and says what is in it.

    Raises:
        UserError: the file's ending is neither .csv nor .parquet.
    """
    path = options.file or results.stores[0] / "report" / "rows.csv"
    form = path.suffix.removeprefix(".").lower()
    if form not in FORMS:
        raise UserError(f"'{path}' ends neither in .csv nor in .parquet; name the file by what it shall be, as in rows.parquet")
    rows = tidy(results, ok=options.ok, planned=options.planned)
    with replacing(path) as temporary:
        if form == "csv":
            rows.to_csv(temporary, index=False, lineterminator="\n")
        else:
            rows.to_parquet(temporary, index=False, compression="zstd")
    return f"{path}: {counted(len(rows), 'row')} of {len(rows.columns)} columns"


def tidy(results: Results, ok: bool = False, planned: bool = False) -> pd.DataFrame:
    """One line per row, columns as in docs/store.md, with the plan's `cell` and `computation_id` (null for rows outside the plan)."""
    rows = results.rows if planned or results.unplanned.empty else pd.concat([results.rows, results.unplanned], ignore_index=True)
    return rows[rows["status"] == "ok"] if ok else rows

"""Reports images that occur more than once in the user's data sets, when a sweep is planned: printed, and all of them in the store."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from sap_core.data.csv_files import csv_bytes
from sap_core.data.duplicates import COLUMNS, Duplicates
from sap_core.errors import StorageError
from sap_core.files import replacing
from sap_core.text import inert_cell

FILE = "duplicates.csv"
"""Name of the file in the store: one row per copy, with the columns `sap_core.data.duplicates.COLUMNS`."""


def report_duplicates(found: Mapping[str, Duplicates], store: Path, dry_run: bool = False) -> tuple[str, ...]:
    """Print what was found, and write all of it to the store.

    Args:
        found: name of a data set -> its images that occur more than once.
        store: the results folder.
        dry_run: leave the store as it is if nothing was found.

    Returns:
        The printed lines.

    Raises:
        UserError: a data set with such images is to be refused, or the file cannot be written.
    """
    file = store / FILE
    known = {name: copies for name, copies in found.items() if copies.groups}
    if not known:
        # A list of an earlier start is out of date.
        if not dry_run:
            # A folder that cannot be written is reported by the store, which is opened next.
            with suppress(OSError):
                file.unlink(missing_ok=True)
        return ()
    where: object = file
    try:
        with replacing(file) as temporary:
            temporary.write_bytes(
                csv_bytes(COLUMNS, [[*map(inert_cell, row)] for name, copies in known.items() for row in copies.rows(name)])
            )
    except StorageError as error:
        if not dry_run:
            raise
        where = f"not written ({error.__cause__})"
    lines = [line for name, copies in known.items() for line in copies.lines(name, where)]
    refused = [(name, copies) for name, copies in known.items() if copies.policy == "refuse"]
    for line in lines if not refused else ():
        print(line if line.startswith(" ") else f"warning: {line}", file=sys.stderr)
    for name, copies in refused:
        raise copies.refusal(name, file)
    return tuple(lines)

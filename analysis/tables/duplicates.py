"""Table `duplicates`: images that occur more than once in the data sets of a sweep, as they were found when it was planned."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from analysis.store.load import Results
from analysis.tables.render import Column, FormattedCell, Table
from sap_core.data.csv_files import read_csv
from sap_core.data.names import printable
from sap_core.errors import UserError
from sap_core.regular_files import read_regular
from sap_core.text import one_line

FILE = "duplicates.csv"
"""Name of the list in the store, which the sweeper writes."""

_COLUMNS = (
    Column("data_set", "Data set", numeric=False),
    Column("kind", "Kind", numeric=False),
    Column("contents", "Contents"),
    Column("images", "Images"),
    Column("dropped", "Dropped"),
)
_NOTES = (
    "leak: images of training or validation that are also in the test set. contradiction: equal images with different labels. copy: equal "
    "images with one label. Images are equal if their decoded pixels are.",
    "Images that were not dropped count in the scores; dataset.duplicates=drop removes them.",
)


def duplicates(results: Results) -> tuple[Table, ...]:
    """Counts the images that occur more than once, by data set and kind; no table if none were found.

    A list that cannot be read is named in `results.damage`.
    """
    rows = [row for store in results.stores for row in _counts(store, results.damage)]
    if not rows:
        return ()
    files = ", ".join(str(store / FILE) for store in results.stores if (store / FILE).exists())
    caption = "Images that occur more than once in the data."
    return (Table("duplicates", "all", caption, _COLUMNS, tuple(rows), (*_NOTES, f"All of them: {files}.")),)


def _counts(store: Path, damage: list[str]) -> list[tuple[FormattedCell, ...]]:
    images: Counter[tuple[str, str]] = Counter()
    dropped: Counter[tuple[str, str]] = Counter()
    contents: dict[tuple[str, str], set[str]] = {}
    try:
        cells = read_csv(read_regular(store / FILE), ("data_set", "kind", "group", "dropped")).cells
        for name, kind, group, gone in zip(cells["data_set"], cells["kind"], cells["group"], cells["dropped"], strict=True):
            images[name, kind] += 1
            dropped[name, kind] += gone == "yes"
            contents.setdefault((name, kind), set()).add(group)
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, UserError) as error:
        sentence = f"{store / FILE} cannot be read ({one_line(str(error))}): images that occur more than once are not reported"
        if sentence not in damage:
            damage.append(sentence)
        return []
    return [
        (
            FormattedCell(printable(key[0])),
            FormattedCell(key[1]),
            *(FormattedCell(str(value), value) for value in (len(contents[key]), images[key], dropped[key])),
        )
        for key in sorted(images)
    ]

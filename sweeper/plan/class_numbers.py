"""Numbers of the classes of a sweep's data sets: read from the files before a run, printed, and stored as `STORE/classes.json`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sap_core.data.class_names import ClassNames, shown
from sap_core.data.source import NamesClasses
from sap_core.files import save_json
from sweeper.config.component import Component

FILE = "classes.json"
"""Name of the file in the store: data set -> names of its classes, by number."""

_SHOWN = 6


def read_class_names(datasets: Iterable[Component], data: Path) -> dict[str, ClassNames | None]:
    """Return the classes of each data set whose files name them, by the data set's name; None if its files do not exist (yet).

    Raises:
        UserError: the files do not determine the classes.
    """
    # Cells share data sets, and names are unique in a sweep.
    sets: dict[str, Any] = {each.name: each.instance for each in datasets}
    return {name: each.class_names(data) for name, each in sets.items() if isinstance(each, NamesClasses)}


def describe_classes(found: Mapping[str, ClassNames | None], everything: str) -> list[str]:
    """Return one line per data set with the first classes.

    Args:
        found: what `read_class_names` returned.
        everything: where all classes can be read, for data sets with more classes than are shown.
    """
    lines = []
    for name, classes in found.items():
        if classes is None:
            lines.append(f"classes of {name}: unknown until its files exist")
            continue
        first = ", ".join(f"{number} = {shown(each)}" for number, each in enumerate(classes.names[:_SHOWN]))
        rest = f", ... ({len(classes.names)} classes; {everything})" if len(classes.names) > _SHOWN else ""
        lines.append(f"classes of {name}: {first}{rest}")
    return lines


def printable_name(name: str) -> str:
    """Return a name that any stream can print on one line; names of folders may be of any encoding."""
    plain = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return plain if plain.isprintable() else shown(name)


def warn_of_classes(found: Mapping[str, ClassNames | None]) -> None:
    """Print what the user should know about the numbering on standard error."""
    for classes in found.values():
        for note in classes.notes if classes else ():
            print(f"warning: {note}", file=sys.stderr)


def write_classes(store: Path, found: Mapping[str, ClassNames | None]) -> None:
    """Write the names of the classes of every data set that names them; no file if none does."""
    known = {name: list(classes.names) for name, classes in found.items() if classes}
    if known:
        save_json(store / FILE, known)

"""Writes the outputs of a report that have changed, and remembers in a manifest what they were made from.

An output is made again if the content of the stores, the options or the code have changed, or if one of its files was edited or deleted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from analysis.reports.side_by_side import side_by_side
from analysis.store.load import Results, load
from sap_core.files import load_json, save_json
from sap_core.location import CODE

MANIFEST = ".sap-report.json"
"""Name of the manifest in the folder of the report."""

_LIBRARIES = ("jinja2", "matplotlib", "numpy", "pandas", "scipy")
_TABLES = ("rows", "series", "timing")
_TEXTS = ("plan.parquet", "config.yaml", "classes.json")


@dataclass(frozen=True)
class Output:
    """A table or figure in all its formats, or a page."""

    name: str
    make: Callable[[Results, Path], Sequence[Path]]  # writes the files into a folder; none if the store has no numbers for it
    # A page draws its figures side by side itself.
    alone: bool = False


@dataclass
class Written:
    """The files of a report, by how they came about."""

    made: list[Path] = field(default_factory=list)
    unchanged: list[Path] = field(default_factory=list)
    removed: list[Path] = field(default_factory=list)  # written earlier, and without numbers in the store now


def write_outputs(results: Results, folder: Path, outputs: Sequence[Output], options: object, force: bool = False) -> Written:
    """Writes the outputs that are not up to date.

    Args:
        results: the loaded stores; read again before anything is made from them.
        folder: of the report.
        outputs: the longest first.
        options: everything else that determines the files, as JSON data.
        force: make every output again.
    """
    key = content_key(results.stores, options)
    known = read_manifest(folder)
    current = known.get("key") == key and not force
    # What earlier starts wrote and nobody has changed since: only that is replaced or removed without being asked.
    before: dict[str, dict[str, str]] = known.get("outputs", {})
    fresh = {name: files for name, files in before.items() if current and _intact(folder, files)}
    written = Written(unchanged=[folder / file for output in outputs for file in fresh.get(output.name, {})])
    if fresh and current:
        results.damage.extend(sentence for sentence in known.get("damage", []) if sentence not in results.damage)
    stale = [output for output in outputs if output.name not in fresh]
    # The stores were read before the key was computed, and a sweep may have written since.
    current_results = load(results.stores) if stale else results
    found = {name: files for name, files in before.items() if name in fresh}
    for output, paths in _made(current_results, folder, stale):
        written.made += paths
        found[output.name] = {path.name: _digest(path) for path in paths}
    results.damage.extend(sentence for sentence in current_results.damage if sentence not in results.damage)
    written.removed = [*_remove_outdated(folder, before, found)] if stale else []
    # A sweep that runs may have written rows that some outputs contain and others do not: these are made again at the next start.
    if stale and content_key(results.stores, options) == key:
        save_json(folder / MANIFEST, {"key": key, "outputs": found, "damage": results.damage})
    elif stale:
        (folder / MANIFEST).unlink(missing_ok=True)
    return written


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a report; empty if there is none, or it is damaged."""
    with suppress(OSError, ValueError):
        found = load_json(folder / MANIFEST)
        files = found["outputs"].values() if isinstance(found.get("outputs"), dict) else [None]
        # A name with a folder in it would lead out of the report.
        if all(isinstance(each, dict) and all(Path(name).name == name for name in each) for each in files):
            return found
    return {}


def content_key(stores: Sequence[Path], options: object) -> str:
    """A hash of the content of stores, of options, and of the code and libraries that make reports."""
    digest = hashlib.sha256()
    digest.update(json.dumps([[str(store) for store in stores], options, [*map(_version, _LIBRARIES)]], sort_keys=True).encode())
    sources = sorted(
        path for package in ("analysis", "sap_core") for path in (CODE / package).rglob("*") if path.suffix not in (".pyc", "")
    )
    contents = [path for store in stores for path in _store_files(store)]
    for path in (*sources, *contents):
        # A file that vanishes was merged into another one, which changes the hash as well.
        with suppress(OSError):
            digest.update(f"\0{path}\0{_digest(path)}".encode())
    return digest.hexdigest()


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "unknown"


def _store_files(store: Path) -> Iterator[Path]:
    yield from (store / name for name in _TEXTS)
    for name in _TABLES:
        yield from sorted((store / name).glob("[!.]*.parquet"))


def _made(results: Results, folder: Path, outputs: Sequence[Output]) -> Iterator[tuple[Output, Sequence[Path]]]:
    parallel = [output for output in outputs if not output.alone]
    makes = side_by_side(results, _Write(folder), [output.make for output in parallel])
    yield from zip(parallel, makes, strict=True)
    for output in outputs:
        if output.alone:
            yield output, output.make(results, folder)


@dataclass(frozen=True)
class _Write:
    """Writes one output in a worker process."""

    folder: Path

    def __call__(self, results: Results, make: Callable[[Results, Path], Sequence[Path]]) -> Sequence[Path]:
        return make(results, self.folder)


def _remove_outdated(folder: Path, before: Mapping[str, Mapping[str, str]], found: Mapping[str, Mapping[str, str]]) -> Iterator[Path]:
    """Removes files of an earlier report that this one does not have, if nobody has changed them."""
    current = {name for files in found.values() for name in files}
    for files in before.values():
        for name, digest in files.items():
            path = folder / name
            if name not in current and _intact(folder, {name: digest}):
                path.unlink(missing_ok=True)
                yield path


def _intact(folder: Path, files: Mapping[str, str]) -> bool:
    """Whether files are those that were written."""
    try:
        return all(_digest(folder / name) == digest for name, digest in files.items())
    except OSError:
        return False


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

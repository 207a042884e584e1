"""Is everything there that an experiment reads? Verifies data sets, folder layouts and weights; builds and downloads where that is allowed.

`sap-sweep prepare` verifies as the sweep itself does, and notes sizes and times of the verified files below `paths.artifacts`. `missing`,
which `sap-slurm submit` calls before it queues anything, then need not read a million images again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sap_core.api import ReadsWeights
from sap_core.construct import build_network
from sap_core.data.prepare import SETS
from sap_core.data.prepare import prepare as build_layout
from sap_core.data.source import DataNoise, DataSet, Downloads, ListsFiles, NoiseKind
from sap_core.errors import UserError
from sap_core.files import save_json
from sap_core.identity import content_id
from sap_core.models.pretrained import load_whole, weights_file
from sweeper.config.component import Component, parse_component
from sweeper.config.compose import Composed
from sweeper.config.target import resolve_class
from sweeper.plan.build import sweep_paths
from sweeper.plan.flops import flops_of
from sweeper.store.provenance import HOME

NOTES = "prepared"
"""Folder of the notes on what was verified, below paths.artifacts."""

_MOST_ENTRIES = 2000
"""A folder with more entries is known by its own time of change alone."""

_HASHED = re.compile(r"-([0-9a-f]{8})\.pth$")
"""torchvision's names of weights carry the beginning of their SHA-256."""


@dataclass(frozen=True)
class Prerequisite:
    """One thing that the experiment needs, and what became of it."""

    name: str
    state: str  # ok | made | missing
    says: str  # what was found, or the cure

    @property
    def line(self) -> str:
        return f"{self.state:<8} {self.name}: {self.says}"


def missing(composed: Composed) -> list[str]:
    """One sentence per thing that the experiment needs and that is not there, with the cure; [] when it can run.

    Never downloads or writes. What `prepare` has verified, and what has not changed since, is not read again; the rest is.
    """
    paths = sweep_paths(composed.config)
    data, artifacts = paths.data, paths.artifacts
    found = [*_data_sets(composed, data, artifacts, False, writes=False), *_weights(composed, False, deep=False)]
    return [f"{thing.name}: {thing.says}" for thing in found if thing.state == "missing"]


def prepared(composed: Composed, download: bool = False, releases: Mapping[str, Path] | None = None) -> Iterator[Prerequisite]:
    """Fetches, builds and verifies, thing by thing. `releases`: extracted releases by the data set whose folders are made of them."""
    paths = sweep_paths(composed.config)
    data, artifacts = paths.data, paths.artifacts
    for name, source in (releases or {}).items():
        yield _built(name, source, data)
    yield from _data_sets(composed, data, artifacts, download, writes=True)
    yield from _weights(composed, download, deep=True)
    for label, folder in (("results folder", paths.store.parent), ("artifacts folder", artifacts)):
        yield _folder(label, folder)


def _data_sets(composed: Composed, data: Path, artifacts: Path, download: bool, writes: bool) -> Iterator[Prerequisite]:
    """Each data set, and each kind of noise that reads files, once."""
    seen: set[str] = set()
    for cell in composed.cells:
        dataset = parse_component(cell["dataset"], "dataset", DataSet, composed.config.plugins)
        noise = parse_component(cell["noise"], "noise", NoiseKind, composed.config.plugins)
        key = content_id({"dataset": dataset.entry})
        if key not in seen:
            seen.add(key)
            yield _data_set(dataset, data, artifacts / NOTES / f"{key}.json", download, writes)
        pair = content_id({"dataset": dataset.target, "noise": noise.entry})
        if isinstance(noise.instance, DataNoise) and pair not in seen:
            seen.add(pair)
            yield _checked(f"noise {noise.name} of {dataset.name}", lambda noise=noise, dataset=dataset: _noise(noise, dataset, data))


def _noise(noise: Component, dataset: Component, data: Path) -> str:
    noise.instance.inspect(dataset.instance, data)
    return "what it reads is sound"


def _checked(name: str, check: Any) -> Prerequisite:
    try:
        return Prerequisite(name, "ok", check())
    except UserError as error:
        return Prerequisite(name, "missing", str(error))


def _data_set(dataset: Component, data: Path, note: Path, download: bool, writes: bool) -> Prerequisite:
    """Verified as the sweep does it, unless a note says so of these very files."""
    name, files = f"data set {dataset.name}", _files_of(dataset.instance, data)
    if not writes and files and _noted(note) == state_of(files):
        return Prerequisite(name, "ok", "unchanged since it was verified")
    own = offline = dataset.instance
    online = None
    if isinstance(own, Downloads):
        offline = own.downloading(False)
        online = own.downloading(True) if writes and (download or own.download) else None
    try:
        try:
            found, made = offline.inspect(data), False
        except UserError:
            if online is None:
                raise
            found, made = online.inspect(data), True
    except UserError as error:
        layout = next((known for known, (kind, _) in SETS.items() if isinstance(dataset.instance, kind)), None)
        cure = f"; or build the folders of an extracted release: sap-sweep prepare ... --from {layout}=DIR" if layout else ""
        return Prerequisite(name, "missing", f"{error}{cure}")
    if writes and files:
        with suppress(UserError):  # a folder that cannot be written has a line of its own
            save_json(note, {"files": state_of(files)})
    says = (
        "its checksums are the published ones" if found.verified else f"read; not compared with published checksums ({found.digest[:12]})"
    )
    return Prerequisite(name, "made" if made else "ok", says)


def _files_of(dataset: DataSet, data: Path) -> list[Path]:
    """The files and folders that a data set says it reads; [] where it says nothing (small sets, which are read every time)."""
    return [data / name for name in dataset.files_read()] if isinstance(dataset, ListsFiles) else []


def state_of(files: Sequence[Path]) -> str:
    """A hash of names, sizes and times of change of files, and of what lies in folders, two levels deep."""
    return content_id({"files": [_state(path, depth=2) for path in files]})


def _state(path: Path, depth: int) -> list[Any]:
    try:
        stat = path.stat()
        if not path.is_dir():
            return [path.name, stat.st_size, stat.st_mtime_ns]
        inside = sorted(entry.name for entry in path.iterdir()) if depth else []
    except OSError:
        return [path.name, None]
    known = inside if len(inside) <= _MOST_ENTRIES else []
    return [path.name, len(inside), stat.st_mtime_ns, [_state(path / name, depth - 1) for name in known]]


def _noted(note: Path) -> str | None:
    with suppress(OSError, ValueError, KeyError, TypeError):
        noted: str = json.loads(note.read_text())["files"]
        return noted
    return None


def _weights(composed: Composed, download: bool, deep: bool) -> Iterator[Prerequisite]:
    """Every file of weights that networks and trainers name; `deep`: its checksum, and whether it fits its network."""
    seen: set[str] = set()
    for cell in composed.cells:
        for group in ("model", "trainer", "_warmup"):
            entry = cell.get(group) or {}
            where = "trainer" if group == "_warmup" else group
            offers = nn.Module if group == "model" else None
            cls = resolve_class(entry.get("_target_"), where, composed.config.plugins, offers) if entry else None
            names: tuple[str, ...] = cls.file_fields if isinstance(cls, ReadsWeights) else ()
            for key in names:
                path = entry.get(key)
                told = content_id({"path": path, "model": cell["model"], "dataset": cell["dataset"]})
                if path and told not in seen:
                    seen.add(told)
                    yield _weight_file(composed, cell, where, key, str(path), download, deep)


def _weight_file(composed: Composed, cell: Mapping[str, Any], where: str, key: str, path: str, download: bool, deep: bool) -> Prerequisite:
    name, made = f"weights {path} ({where}.{key})", False
    try:
        try:
            file = weights_file(path, f"{where}.{key}")
        except UserError as error:
            if not download:
                raise UserError(f"{error}, or let `sap-sweep prepare ... --download` fetch what torchvision publishes") from error
            file, made = _fetched(HOME / Path(path).expanduser(), cell[where].get("network") or cell[where].get("name")), True
        if deep:
            _sum_of_name(file)
            _fits(composed, cell, where, path)
    except UserError as error:
        return Prerequisite(name, "missing", str(error))
    return Prerequisite(name, "made" if made else "ok", "they fit the network" if deep else "there")


def _sum_of_name(file: Path) -> None:
    hashed = _HASHED.search(file.name)
    if hashed:
        with file.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
        if not found.startswith(hashed[1]):
            raise UserError(
                f"file '{file}' is damaged: its SHA-256 begins with {found[:8]}, not with {hashed[1]} as its name says; fetch it again"
            )


def _fetched(file: Path, network: Any) -> Path:
    """A file of weights that torchvision publishes under this name.

    Raises:
        UserError: it publishes no such file, or the download fails.
    """
    from torchvision import models

    published = [weight for name in models.list_models() for weight in models.get_model_weights(name)]
    url = next((weight.url for weight in published if weight.url.rsplit("/", 1)[-1] == file.name), None)
    if url is None:
        raise UserError(f"'{file}' does not exist, and torchvision publishes no weights of that name (for {network}); put the file there")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.load_state_dict_from_url(url, model_dir=str(file.parent), map_location="cpu", progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"the download of '{file.name}' failed ({reason}); copy it to '{file.parent}' from a machine with network"
        ) from error
    return file


def _fits(composed: Composed, cell: Mapping[str, Any], where: str, path: str) -> None:
    """Refuses weights of another network. On the meta device, where nothing is filled."""
    plugins = composed.config.plugins
    dataset, model = (
        parse_component(cell["dataset"], "dataset", DataSet, plugins),
        parse_component(cell["model"], "model", nn.Module, plugins),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flops_of(model, dataset)  # builds it, with its weights
        if where == "trainer":
            with torch.device("meta"):
                network = build_network(model.entry, dataset.instance.classes.num, dataset.instance.shape)
            load_whole(network, path, "trainer.checkpoint")


def _built(name: str, source: Path, data: Path) -> Prerequisite:
    """A data set's folders, made of an extracted release."""
    label = f"folders of {name}"
    try:
        counts = build_layout(name, source, data)
    except UserError as error:
        return Prerequisite(label, "missing", str(error))
    published = SETS[name][1]
    told = [f"{part} {count}" + ("" if count == published[part] else f" (published: {published[part]})") for part, count in counts.items()]
    return Prerequisite(label, "made", f"images: {', '.join(told)}")


def _folder(label: str, folder: Path) -> Prerequisite:
    """Made, if it does not exist; can a file be written there and renamed?"""
    made = not folder.is_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.{os.getpid()}"
        probe.write_text("")
        probe.replace(probe.with_suffix(".renamed"))
        probe.with_suffix(".renamed").unlink()
    except OSError as error:
        return Prerequisite(
            label, "missing", f"'{folder}' cannot be written ({error.strerror}); mend that, or set paths.results and paths.artifacts"
        )
    return Prerequisite(label, "made" if made else "ok", "can be written")

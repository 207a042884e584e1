"""Checks the prerequisites of an experiment (data sets, weights, folders), and downloads or builds missing ones where that is allowed.

`sap-sweep prepare` verifies data as the sweep itself does, and records names, sizes and modification times of the verified files below
`paths.artifacts`. `find_missing`, which `sap-slurm submit` calls before it queues anything, compares these records instead of reading a
million images again.
"""

from __future__ import annotations

import hashlib
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
from sap_core.command_line import home_expanded
from sap_core.data.names import located
from sap_core.data.prepare import SETS
from sap_core.data.prepare import prepare as build_layout
from sap_core.data.source import DataNoise, DataSet, Downloads, ListsFiles, NoiseKind
from sap_core.errors import UserError
from sap_core.files import load_json, save_json
from sap_core.identity import content_id
from sap_core.models.pretrained import load_state_strictly, weights_file
from sweeper.config.component import Component, parse_component
from sweeper.config.compose import Composed
from sweeper.config.target import resolve_class
from sweeper.plan.build import sweep_paths
from sweeper.plan.probe import new_network, probe
from sweeper.store.provenance import HOME

VERIFIED_FOLDER = "prepared"
"""Folder of the records of verified files, below paths.artifacts."""

_MAX_ENTRIES = 2000
"""Of a folder with more entries only the modification time is compared: listing them all would take too long."""

_SHA256_IN_NAME = re.compile(r"-([0-9a-f]{8})\.pth$")
"""torchvision's weights files have the first digits of their SHA-256 in their name."""


@dataclass(frozen=True)
class Prerequisite:
    """One prerequisite of an experiment and the result of its check."""

    name: str
    state: str  # ok | created | missing
    detail: str  # what was found, or the remedy

    @property
    def line(self) -> str:
        return f"{self.state:<8} {self.name}: {self.detail}"


def find_missing(composed: Composed) -> list[str]:
    """One sentence with the remedy for each missing prerequisite; [] if the experiment can run.

    Downloads and writes nothing. Files that `sap-sweep prepare` has verified and that have not changed since are not read again.
    """
    paths = sweep_paths(composed.config)
    data, artifacts = paths.data, paths.artifacts
    found = [*_check_data_sets(composed, data, artifacts, False, writes=False), *_check_all_weights(composed, False, deep=False)]
    return [f"{each.name}: {each.detail}" for each in found if each.state == "missing"]


def prepare_all(composed: Composed, download: bool = False, releases: Mapping[str, Path] | None = None) -> Iterator[Prerequisite]:
    """Download (if allowed), build and verify all prerequisites, one by one.

    Args:
        composed: the experiment.
        download: whether missing data and weights may be downloaded.
        releases: data set -> folder of its extracted release, from which its folders are built.
    """
    paths = sweep_paths(composed.config)
    data, artifacts = paths.data, paths.artifacts
    for name, source in (releases or {}).items():
        yield _build_folders(name, source, data)
    yield from _check_data_sets(composed, data, artifacts, download, writes=True)
    yield from _check_all_weights(composed, download, deep=True)
    for label, folder in (("results folder", paths.store.parent), ("artifacts folder", artifacts)):
        yield _check_folder(label, folder)


def _check_data_sets(composed: Composed, data: Path, artifacts: Path, download: bool, writes: bool) -> Iterator[Prerequisite]:
    """Check each data set, and each noise that reads files, once."""
    seen: set[str] = set()
    for cell in composed.cells:
        dataset = parse_component(cell["dataset"], "dataset", DataSet, composed.config.plugins)
        noise = parse_component(cell["noise"], "noise", NoiseKind, composed.config.plugins)
        key = content_id({"dataset": dataset.entry})
        if key not in seen:
            seen.add(key)
            yield _check_data_set(dataset, data, artifacts / VERIFIED_FOLDER / f"{key}.json", download, writes)
        # Options of the data set do not matter to the noise's files, its class does.
        pair = content_id({"dataset": dataset.target, "noise": noise.entry})
        if isinstance(noise.instance, DataNoise) and pair not in seen:
            seen.add(pair)
            yield _checked(f"noise {noise.name} of {dataset.name}", lambda noise=noise, dataset=dataset: _noise(noise, dataset, data))


def _noise(noise: Component, dataset: Component, data: Path) -> str:
    noise.instance.inspect(dataset.instance, data)
    return "its files are valid"


def _checked(name: str, check: Any) -> Prerequisite:
    try:
        return Prerequisite(name, "ok", check())
    except UserError as error:
        return Prerequisite(name, "missing", str(error))


def _check_data_set(dataset: Component, data: Path, record: Path, download: bool, writes: bool) -> Prerequisite:
    """Verify a data set as the sweep does, unless it is unchanged since then. Downloads and records only with `writes`."""
    name, files = f"data set {dataset.name}", _listed_files(dataset.instance, data)
    # Only the quick check trusts the record; `prepare` reads everything.
    if not writes and files and _recorded_state(record) == state_of(files):
        return Prerequisite(name, "ok", "unchanged since it was verified")
    own = offline = dataset.instance
    online = None
    if isinstance(own, Downloads):
        # First without downloading, so that data which are present are reported as such and not as created.
        offline = own.downloading(False)
        online = own.downloading(True) if writes and (download or own.download) else None
    try:
        try:
            found, created = offline.inspect(data), False
        except UserError:
            if online is None:
                raise
            # `inspect` downloads, verifies and unpacks, as it does in a sweep with dataset.download=true.
            found, created = online.inspect(data), True
    except UserError as error:
        # Data sets that are stored as folders of images can be built from the release that the authors publish.
        layout = next((known for known, (kind, _) in SETS.items() if isinstance(dataset.instance, kind)), None)
        remedy = f"; or build the folders of an extracted release: sap-sweep prepare ... --from {layout}=DIR" if layout else ""
        return Prerequisite(name, "missing", f"{error}{remedy}")
    if found.duplicates is not None and found.duplicates.groups and found.duplicates.policy == "refuse":
        return Prerequisite(name, "missing", str(found.duplicates.refusal(dataset.name)))
    # Recorded after the verification, so that a record never vouches for files that were not read.
    if writes and files:
        # `_check_folder` reports a folder that cannot be written.
        with suppress(UserError):
            save_json(record, {"files": state_of(files)})
    detail = (
        "its checksums are the published ones" if found.verified else f"read; not compared with published checksums ({found.digest[:12]})"
    )
    copies = [found.duplicates.summary] if found.duplicates is not None and found.duplicates.groups else []
    return Prerequisite(name, "created" if created else "ok", "; ".join([detail, *copies, *found.notes]))


def _listed_files(dataset: DataSet, data: Path) -> list[Path]:
    """The files and folders that a data set declares; [] for small data sets, which declare none and are always read."""
    return [located(data, name) for name in dataset.files_read()] if isinstance(dataset, ListsFiles) else []


def state_of(files: Sequence[Path]) -> str:
    """A hash of the names, sizes and modification times of files and of the content of folders, two levels deep."""
    return content_id({"files": [_state(path, depth=2) for path in files]})


def _state(path: Path, depth: int) -> list[Any]:
    try:
        # The content of a file is not hashed: that is what the record saves.
        stat = path.stat()
        if not path.is_dir():
            return [path.name, stat.st_size, stat.st_mtime_ns]
        # Sorted, because the order of a directory listing depends on the file system.
        inside = sorted(entry.name for entry in path.iterdir()) if depth else []
    except OSError:
        return [path.name, None]
    # Number of entries and the folder's time are still compared: adding or removing a file changes both.
    known = inside if len(inside) <= _MAX_ENTRIES else []
    return [path.name, len(inside), stat.st_mtime_ns, [_state(path / name, depth - 1) for name in known]]


def _recorded_state(record: Path) -> str | None:
    with suppress(OSError, ValueError, KeyError, TypeError):
        state: str = load_json(record)["files"]
        return state
    return None


def _check_all_weights(composed: Composed, download: bool, deep: bool) -> Iterator[Prerequisite]:
    """Check each weights file that networks and trainers name; with `deep` also its checksum and that it fits its network."""
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
                # A file may serve two networks, and must fit each of them.
                checked = content_id({"path": path, "model": cell["model"], "dataset": cell["dataset"]})
                if path and checked not in seen:
                    seen.add(checked)
                    yield _check_weights(composed, cell, where, key, str(path), download, deep)


def _check_weights(
    composed: Composed, cell: Mapping[str, Any], where: str, key: str, path: str, download: bool, deep: bool
) -> Prerequisite:
    name, created = f"weights {path} ({where}.{key})", False
    try:
        try:
            file = weights_file(path, f"{where}.{key}")
        except UserError as error:
            if not download:
                # Weights are large, so they are downloaded only on request, and never by a sweep: compute nodes often have no network.
                raise UserError(f"{error}, or let `sap-sweep prepare ... --download` fetch what torchvision publishes") from error
            file, created = _download_weights(HOME / home_expanded(path), cell[where].get("network") or cell[where].get("name")), True
        if deep:
            _check_name_hash(file)
            _check_network(composed, cell, where, path)
    except UserError as error:
        return Prerequisite(name, "missing", str(error))
    return Prerequisite(name, "created" if created else "ok", "they fit the network" if deep else "exist")


def _check_name_hash(file: Path) -> None:
    # Files of other origin have no hash in their name and are only compared with their network.
    hashed = _SHA256_IN_NAME.search(file.name)
    if hashed:
        with file.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
        if not found.startswith(hashed[1]):
            raise UserError(
                f"file '{file}' is damaged: its SHA-256 begins with {found[:8]}, not with {hashed[1]} as in its name; download it again"
            )


def _download_weights(file: Path, network: Any) -> Path:
    """Download the weights that torchvision publishes under this file name.

    Raises:
        UserError: torchvision publishes no such file, or the download fails.
    """
    # Only downloads need it.
    from torchvision import models

    # By file name, because that is all that the configuration states.
    published = [weight for name in models.list_models() for weight in models.get_model_weights(name)]
    url = next((weight.url for weight in published if weight.url.rsplit("/", 1)[-1] == file.name), None)
    if url is None:
        raise UserError(f"'{file}' does not exist, and torchvision publishes no weights of that name (for {network}); put the file there")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # check_hash compares the digits in the file's name.
        torch.hub.load_state_dict_from_url(url, model_dir=str(file.parent), map_location="cpu", progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"the download of '{file.name}' failed ({reason}); copy it to '{file.parent}' from a machine with network"
        ) from error
    return file


def _check_network(composed: Composed, cell: Mapping[str, Any], where: str, path: str) -> None:
    """Refuse weights of another network. Compares names and shapes, where possible on the meta device, which allocates no memory."""
    plugins = composed.config.plugins
    dataset, model = (
        parse_component(cell["dataset"], "dataset", DataSet, plugins),
        parse_component(cell["model"], "model", nn.Module, plugins),
    )
    with warnings.catch_warnings():
        # torch warns when weights are copied to meta parameters; only names and shapes are of interest.
        warnings.simplefilter("ignore")
        # Builds the network with its weights, and so compares them.
        probe(model, dataset)
        if where == "trainer":
            load_state_strictly(new_network(model, dataset), path, "trainer.checkpoint", cell["trainer"].get("key"))


def _build_folders(name: str, source: Path, data: Path) -> Prerequisite:
    """Build a data set's folders from an extracted release."""
    label = f"folders of {name}"
    try:
        counts = build_layout(name, source, data)
    except UserError as error:
        return Prerequisite(label, "missing", str(error))
    # A release may lack images of the published set; the numbers are stated, not refused.
    published = SETS[name][1]
    numbers = [
        f"{part} {count}" + ("" if count == published[part] else f" (published: {published[part]})") for part, count in counts.items()
    ]
    return Prerequisite(label, "created", f"images: {', '.join(numbers)}")


def _check_folder(label: str, folder: Path) -> Prerequisite:
    """Create a folder if it does not exist, and check that files can be written and renamed there, as stores require."""
    created = not folder.is_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Stores rename temporary files, which some network file systems refuse although they can be written.
        probe = folder / f".probe.{os.getpid()}"
        probe.write_text("", encoding="utf-8")
        probe.replace(probe.with_suffix(".renamed"))
        probe.with_suffix(".renamed").unlink()
    except OSError as error:
        return Prerequisite(
            label, "missing", f"'{folder}' cannot be written ({error.strerror}); make it writable, or set paths.results and paths.artifacts"
        )
    return Prerequisite(label, "created" if created else "ok", "can be written")

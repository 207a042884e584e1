"""Images in one tensor file of the user: safetensors or .npz with `images`, `labels` and optionally `split`.

Shapes: N images of C channels, H x W pixels.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sap_core.api import TaskType
from sap_core.data.duplicates import Duplicates, Policy, describe, find_copies, pixel_digest
from sap_core.data.file_facts import FileFacts, Reading
from sap_core.data.names import located
from sap_core.data.samples import TensorPixels
from sap_core.data.source import Classes, Fingerprint, Source
from sap_core.data.splits import validation_count
from sap_core.errors import UserError

TRAIN, TEST, VAL = 0, 1, 2
"""Values of `split`; without it all images are used both for training and for testing."""


@dataclass(frozen=True)
class Tensors:
    """A tensor file below `paths.data`: images (N, C, H, W), uint8 in [0, 255] or float32, and labels (N,), integers from 0.

    `split` (N,) is 0 for training, 1 for testing, 2 for validation; without a 2, validation images are drawn from those with 0. Without
    `split` there is no separate test set, and the test scores of the rows are those of all images: use only the validation scores. The
    counts are options, which `read_options` reads from the file; a wrong one is refused with a message that contains the right one. Images
    that occur more than once are treated as `duplicates` says (see `sap_core.data.duplicates`); if copies are dropped, the counts are those
    of the images that remain.
    """

    name: ClassVar[str] = "tensors"
    version: ClassVar[int] = 1
    kind: ClassVar[TaskType] = "classification"

    file: str
    num_classes: int
    num_train: int
    num_test: int
    shape: tuple[int, ...]
    mean: tuple[float, ...] = ()  # empty: no normalisation (uint8 is divided by 255)
    std: tuple[float, ...] = ()
    truth_known: bool = False
    digest: str = ""
    verify: bool = False
    validation: float | int = 0.1
    split_seed: int | None = None
    duplicates: Policy = "warn"

    def __post_init__(self) -> None:
        # Options that contradict each other are refused before the file is looked at.
        validation_count(self.num_train, self.validation)
        if self.num_classes < 2 or self.num_test < 1 or len(self.shape) < 1:
            raise UserError(
                "dataset=tensors needs dataset.num_classes of at least 2, dataset.num_test of at least 1 and dataset.shape, "
                "such as [3,32,32]"
            )
        if len(self.mean) not in (0, self.shape[0]) or len(self.std) != len(self.mean):
            raise UserError(f"dataset.mean and dataset.std must have {self.shape[0]} values each, one per channel, or be empty")
        if self.verify and not self.digest:
            raise UserError(
                "dataset.verify=true needs dataset.digest, the digest to compare this file with; set it, or use dataset.verify=false"
            )

    @property
    def classes(self) -> Classes:
        return Classes(self.num_classes)

    def files_read(self) -> tuple[str, ...]:
        return (self.file,)

    def inspect(self, root: Path) -> Fingerprint:
        """See `DataSet.inspect`. Reads the file: the digest is that of its bytes, and options that do not match its content are refused."""
        # Loading is the check: shapes, labels and counts are compared with the options.
        _, copies, dropped = self._loaded(root, compare=True)
        with self._path(root).open("rb") as file:
            # Of the bytes, not of the tensors: it is what `sha256sum` prints for the file.
            found = hashlib.file_digest(file, "sha256").hexdigest()
        # Without some of its images it is another data set.
        if dropped:
            found = hashlib.sha256(f"{found} without {sorted(dropped)}".encode()).hexdigest()
        if self.verify and found != self.digest:
            raise UserError(
                f"file '{self._path(root)}' has the digest {found}, but dataset.digest={self.digest}; "
                f"set the new digest, or accept this file with dataset.verify=false, which is recorded in every row"
            )
        return Fingerprint(found == self.digest, found, duplicates=copies)

    def load(self, root: Path) -> Source:
        """See `DataSet.load`."""
        return self._loaded(root, compare=self.duplicates == "drop")[0]

    def _path(self, root: Path) -> Path:
        return located(root, self.file)

    def _loaded(self, root: Path, compare: bool) -> tuple[Source, Duplicates | None, frozenset[int]]:
        """Return the images that are used, what occurs more than once if it is to be found, and the dropped positions in the file."""
        path = self._path(root)
        tensors = _read(path)
        images, labels = tensors["images"], tensors["labels"].long()
        # uint8 stays as it is (a quarter of the memory) and is rescaled per batch; floats are taken to be scaled already.
        images = images if images.dtype == torch.uint8 else images.to(torch.float32)
        if tuple(images.shape[1:]) != tuple(self.shape):
            raise UserError(
                f"'{path}' contains images of shape {tuple(images.shape[1:])}, but dataset.shape={list(self.shape)}; "
                f"set dataset.shape={_compact(images.shape[1:])}"
            )
        if len(labels) == 0 or int(labels.min()) < 0 or int(labels.max()) >= self.num_classes:
            raise UserError(
                f"'{path}' contains labels outside 0 to {self.num_classes - 1}, the range for dataset.num_classes={self.num_classes}; "
                f"set dataset.num_classes={int(labels.max()) + 1 if len(labels) else 2} or fix the labels"
            )
        split = tensors.get("split")
        parts = _parts(split, len(labels), path)
        copies, dropped = None, frozenset[int]()
        if compare:
            copies, dropped = _copies(self.duplicates, images, labels, parts, split is not None)
        left = f" after dataset.duplicates=drop removed {len(dropped)} copies" if dropped else ""
        train, val, test = (_without(part, dropped) for part in parts)
        # Validation images at the end, where `own_validation` expects them.
        universe = torch.cat([train, val])
        # The plan was made from the options, so the file must agree with them.
        for name, what, count, expected in (
            ("num_train", "train", len(universe), self.num_train),
            ("num_test", "test", len(test), self.num_test),
            ("validation", "validation", len(val), self.validation if len(val) else 0),
        ):
            if count != expected:
                raise UserError(f"'{path}' contains {count} {what} images{left}, but dataset.{name}={expected}; set dataset.{name}={count}")
        source = Source(
            TensorPixels(images[universe]), labels[universe], TensorPixels(images[test]), labels[test], own_validation=len(val)
        )  # fmt: skip
        return source, copies, dropped

    @classmethod
    def read_options(cls, settings: Mapping[str, Any], root: Path) -> FileFacts:
        """See `ReadsOptions`. Reads the file."""
        path = located(root, str(settings["file"]))
        tensors = _read(path)
        labels, split = tensors["labels"], tensors.get("split")
        parts = _parts(split, len(labels), path)
        dropped = frozenset[int]()
        if settings.get("duplicates") == "drop":
            _, dropped = _copies("drop", tensors["images"], labels, parts, split is not None)
        train, val, test = (len(_without(part, dropped)) for part in parts)
        classes = int(labels.max()) + 1 if len(labels) else 0
        whole = "images" if split is None else "images with split"
        options = {
            "num_classes": Reading(classes, f"labels up to {classes - 1}"),
            "num_train": Reading(train + val, whole + ("" if split is None else " 0 and 2" if val else " 0")),
            "num_test": Reading(test, whole + ("" if split is None else " 1")),
            "shape": Reading(list(tensors["images"].shape[1:]), "the tensor images"),
        }
        if val:
            options["validation"] = Reading(val, "images with split 2")
        return FileFacts(options, more_classes=True, validation_part="split 2" if val else "")


def _read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file. Pickled content is refused, so that no code of the file can run.

    Raises:
        UserError: the file is missing or of another format, or lacks images or labels.
    """
    try:
        if _is_zip(path):
            # Pickled arrays could run code; safetensors cannot contain any.
            with np.load(path, allow_pickle=False) as arrays:
                tensors = {name: torch.from_numpy(arrays[name]) for name in ("images", "labels", "split") if name in arrays}
        else:
            tensors = load_file(path)
    except (OSError, ValueError, TypeError, zipfile.BadZipFile, SafetensorError) as error:
        raise UserError(
            f"'{path}' cannot be read as a file of tensors ({str(error).splitlines()[0]}); "
            f"set dataset.file to a .safetensors or .npz file below paths.data"
        ) from error
    # Checked before any use, because tensors of different lengths would pair images with the labels of others.
    lengths = {len(tensors[name]) for name in ("images", "labels", "split") if name in tensors}
    if not {"images", "labels"} <= tensors.keys() or len(lengths) != 1 or tensors["labels"].ndim != 1:
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise UserError(f"'{path}' must contain images (N, ...), labels (N,) and at most split (N,), but it contains {shapes or 'nothing'}")
    return tensors


def _is_zip(path: Path) -> bool:
    """Return whether a file is a zip archive, which `.npz` files are; its first bytes decide, not its suffix."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _copies(
    policy: Policy, images: Tensor, labels: Tensor, parts: tuple[Tensor, Tensor, Tensor], tested: bool
) -> tuple[Duplicates, frozenset[int]]:  # fmt: skip
    """Return what occurs more than once, and the positions in the file that the policy drops.

    Args:
        policy: what is done with copies.
        images: (N, ...) images of the file.
        labels: (N,) labels.
        parts: positions of the training, validation and test images.
        tested: whether there is a test part; without one all images are both, which is no finding.
    """
    places = torch.cat(parts if tested else parts[:2]).tolist()
    given: list[int] = labels.tolist()
    # One array and no tensor per image, which would take ten times as long.
    array = images.contiguous().numpy()
    contents = [pixel_digest(array.shape[1:], array[place].tobytes()) for place in places]
    train, val, test = map(len, parts)
    found = find_copies(contents, [given[place] for place in places], train + val)
    report = describe(policy, found, (train, val, test), lambda at: (f"images[{places[at]}]", str(given[places[at]])))
    if not tested:
        report = replace(report, remaining=(report.remaining[0], report.remaining[1], report.remaining[0]))
    return report, frozenset(places[at] for at in found.dropped) if policy == "drop" else frozenset()


def _without(part: Tensor, dropped: frozenset[int]) -> Tensor:
    return torch.tensor([place for place in part.tolist() if place not in dropped], dtype=torch.int64) if dropped else part


def _parts(split: Tensor | None, count: int, path: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Return the positions of the training, validation and test images.

    Raises:
        UserError: `split` has another value.
    """
    # Without `split` every image is in both parts, so the test scores contain training images (see the class).
    if split is None:
        return torch.arange(count), torch.arange(0), torch.arange(count)
    wrong = ~torch.isin(split, torch.tensor((TRAIN, TEST, VAL), dtype=split.dtype))
    if wrong.any():
        first = int(torch.nonzero(wrong)[0])
        raise UserError(
            f"'{path}' has {int(wrong.sum())} values of split other than 0 (training), 1 (testing) and 2 (validation); the first is "
            f"{split[first].item():g} at index {first}"
        )
    train, test, val = (torch.nonzero(split == value).flatten() for value in (TRAIN, TEST, VAL))
    return train, val, test


def _compact(shape: torch.Size) -> str:
    return str(list(shape)).replace(" ", "")

"""Images in one tensor file of the user: safetensors or .npz with `images`, `labels` and optionally `split`.

Shapes: N images of C channels, H x W pixels.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from sap_core.api import TaskType
from sap_core.crafted_files import check_expansion
from sap_core.data.constants import check_constants
from sap_core.data.duplicates import Duplicates, Policy
from sap_core.data.file_facts import FileFacts, Reading
from sap_core.data.names import located
from sap_core.data.samples import TensorPixels
from sap_core.data.source import Classes, Fingerprint, Source
from sap_core.data.splits import validation_count
from sap_core.data.tensor_checks import (
    NAMES,
    channels_last,
    check_arrays,
    check_every_class,
    check_shape,
    checked_images,
    checked_labels,
    checked_split,
    numbered_labels,
    refuse_channels_last,
)
from sap_core.data.tensor_parts import TEST, TRAIN, VAL, copies_among, parts_of, without
from sap_core.errors import UserError


@dataclass(frozen=True)
class Tensors:
    """A tensor file below `paths.data`: images (N, C, H, W), uint8 in [0, 255] or floats, and labels (N,), whole numbers from 0.

    Floats are converted to float32 and are not rescaled; with `mean` they must be in [0, 1]. Other types, values that are not finite, and
    classes without a training image are refused.

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
        if channels_last(self.shape):
            channels_first = str([self.shape[-1], *self.shape[:-1]]).replace(" ", "")
            raise UserError(
                f"dataset.shape={list(self.shape)} has the channels last; save numpy.moveaxis(images, -1, 1) and set "
                f"dataset.shape={channels_first}"
            )
        check_constants(self.mean, self.std, "dataset", self.shape[0])
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
        source = self._load(root, compare=True)
        with self._path(root).open("rb") as file:
            # Of the bytes, not of the tensors: it is what `sha256sum` prints for the file.
            found = hashlib.file_digest(file, "sha256").hexdigest()
        # Without some of its images it is another data set.
        if source.dropped:
            found = hashlib.sha256(f"{found} without {sorted(source.dropped)}".encode()).hexdigest()
        if self.verify and found != self.digest:
            raise UserError(
                f"file '{self._path(root)}' has the digest {found}, but dataset.digest={self.digest}; "
                f"set the new digest, or accept this file with dataset.verify=false, which is recorded in every row"
            )
        return Fingerprint(found == self.digest, found, source.notes, source.copies)

    def load(self, root: Path) -> Source:
        """See `DataSet.load`."""
        return self._load(root, compare=self.duplicates == "drop").source

    @classmethod
    def read_options(cls, settings: Mapping[str, Any], root: Path) -> FileFacts:
        """See `ReadsOptions`. Reads the file."""
        path = located(root, str(settings["file"]))
        tensors = _read(path)
        split = checked_split(tensors["split"], (TRAIN, TEST, VAL), path) if "split" in tensors else None
        # Before options are compared with the checkpoint, which would blame channels or classes that are none.
        refuse_channels_last(tensors["images"].shape[1:], path)
        images, _ = checked_images(tensors["images"], (), path)
        labels, classes = numbered_labels(tensors["labels"], path)
        parts = _filled_parts(split, len(labels), path)
        check_every_class(labels[parts[0]], classes, path)
        if settings.get("duplicates") == "drop":
            dropped = copies_among("drop", images, labels, parts, split is not None)[1]
            parts = without(parts, dropped)
        train, val, test = map(len, parts)
        whole = "images" if split is None else "images with split"
        options = {
            "num_classes": Reading(classes, f"labels up to {classes - 1}"),
            "num_train": Reading(train + val, whole + ("" if split is None else " 0 and 2" if val else " 0")),
            "num_test": Reading(test, whole + ("" if split is None else " 1")),
            "shape": Reading(list(tensors["images"].shape[1:]), "the tensor images"),
        }
        if val:
            options["validation"] = Reading(val, "images with split 2")
        value_range = (float(images.min()), float(images.max())) if images.is_floating_point() else None
        return FileFacts(options, validation_part="split 2" if val else "", value_range=value_range)

    def _path(self, root: Path) -> Path:
        return located(root, self.file)

    def _load(self, root: Path, compare: bool) -> _Loaded:
        """Read and check the file; `compare` looks for images that occur more than once."""
        path = self._path(root)
        tensors = _read(path)
        check_shape(tensors["images"].shape[1:], self.shape, path)
        # uint8 stays as it is (a quarter of the memory) and is rescaled per batch; floats are taken to be scaled already.
        images, notes = checked_images(tensors["images"], self.mean, path)
        labels = checked_labels(tensors["labels"], self.num_classes, path)
        split = checked_split(tensors["split"], (TRAIN, TEST, VAL), path) if "split" in tensors else None
        parts, copies, dropped = _filled_parts(split, len(labels), path), None, frozenset[int]()
        if compare:
            copies, dropped = copies_among(self.duplicates, images, labels, parts, split is not None)
        left = f" after dataset.duplicates=drop removed {len(dropped)} copies" if dropped else ""
        train, val, test = without(parts, dropped)
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
        check_every_class(labels[train], self.num_classes, path)
        source = Source(
            TensorPixels(images[universe]), labels[universe], TensorPixels(images[test]), labels[test], own_validation=len(val)
        )  # fmt: skip
        return _Loaded(source, notes, copies, dropped)


class _Loaded(NamedTuple):
    source: Source
    notes: tuple[str, ...]  # sentences that the user should know
    copies: Duplicates | None  # None: not looked for
    dropped: frozenset[int]  # positions in the file


def _filled_parts(split: Tensor | None, count: int, path: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Return the positions of the training, validation and test images; there must be training and test images."""
    parts = parts_of(split, count)
    for name, part, value in (("train", parts[0], TRAIN), ("test", parts[2], TEST)):
        if len(part) == 0:
            raise UserError(f"'{path}' contains no {name} image, since no value of split is {value}; fix the split")
    return parts


def _read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file. Pickled content is refused, so that no code of the file can run.

    Raises:
        UserError: the file is missing or of another format, or lacks images or labels.
    """
    try:
        if _is_zip(path):
            tensors = _read_npz(path)
        else:
            tensors = load_file(path)
    except UserError:
        raise
    except Exception as error:  # readers may raise anything on arbitrary bytes
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"'{path}' cannot be read as a file of tensors ({reason}); set dataset.file to a .safetensors or .npz file below paths.data"
        ) from error
    # Checked before any use, because tensors of different lengths would pair images with the labels of others.
    check_arrays(tensors, path)
    return tensors


def _is_zip(path: Path) -> bool:
    """Return whether a file is a zip archive, which `.npz` files are; its first bytes decide, not its suffix."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _read_npz(path: Path) -> dict[str, Tensor]:
    # Pickled arrays could run code; safetensors cannot contain any.
    with zipfile.ZipFile(path) as archive:
        check_expansion(archive, path.stat().st_size)
    with np.load(path, allow_pickle=False) as arrays:
        tensors: dict[str, Tensor] = {}
        # torch.save writes zip archives, too, whose members are bytes.
        if "images" not in arrays.files and any(name.endswith("data.pkl") for name in arrays.files):
            raise ValueError("torch.save wrote it; save the tensors with safetensors.torch.save_file(tensors, path)")
        for name in arrays.files:
            # Arrays of other names may be of any type; their names say what the file contains instead.
            try:
                array = arrays[name]
                if isinstance(array, np.ndarray):
                    tensors[name] = _tensor(array)
            except (ValueError, TypeError) as error:
                if name in NAMES:
                    raise _not_numbers(path, name, error) from error
        return tensors


def _not_numbers(path: Path, name: str, error: Exception) -> UserError:
    # An array of texts is read by numpy and refused by torch; one of Python objects would need pickle.
    remedies = {
        "images": "numpy.stack(list(images)) if they have one shape, as uint8 or float32",
        "labels": "numpy.unique(labels, return_inverse=True)[1], which numbers the classes in sorted order",
        "split": "numpy.where(split == 'test', 1, 0)",
    }
    return UserError(
        f"array '{name}' of '{path}' is not an array of numbers ({str(error).splitlines()[0]}); save {remedies[name]}"
    )  # fmt: skip


def _tensor(array: np.ndarray) -> Tensor:
    # torch knows the machine's byte order only.
    return torch.from_numpy(array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("=")))

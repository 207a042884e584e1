"""Applies label noise to a data set, and refuses noise that is not defined for it before any job runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from sap_core.data.samples import Pixels, Preprocess, SampleView, TensorPixels
from sap_core.data.source import AffectsSubset, Classes, DataNoise, DataSet, ForecastsRate, InputNoise, Noise, NoiseKind, Source
from sap_core.errors import UserError
from sap_core.seeding import Stream, stream


def check_noise(noise: NoiseKind, name: str, dataset: DataSet, dataset_name: str) -> None:
    """Check that a kind of noise can be applied to a data set, without reading files.

    Raises:
        UserError: it cannot.
    """
    if not dataset.truth_known:
        # `noise=none` is right for real noise. Anything else would add noise to labels of which nobody knows which are wrong.
        if expected_rate(noise, dataset.classes):
            raise UserError(f"noise={name} cannot be added to {dataset_name}: its true labels are unknown; use noise=none")
        return
    if isinstance(noise, DataNoise | InputNoise):
        noise.check(dataset)
    elif isinstance(noise, Noise):
        # A trial run on one label per class: such noise reads nothing but classes, so it raises here if they do not suffice.
        labels = torch.arange(dataset.classes.num, dtype=torch.int64 if dataset.kind == "classification" else torch.float32)
        noise.corrupt(labels, dataset.classes, stream(0, "noise"))
    else:
        raise UserError(
            f"noise={name} has none of the methods corrupt, corrupt_data and corrupt_inputs (see docs/adding.md); change its _target_"
        )


def expected_rate(noise: NoiseKind, classes: Classes) -> float:
    """Return the expected fraction of wrong labels, for forecasts; rows contain the measured one."""
    return noise.expected_rate(classes) if isinstance(noise, ForecastsRate) else noise.rate or 0.0


@dataclass(frozen=True, eq=False)
class Corrupted:
    """Result of applying noise to the universe.

    Attributes:
        labels: (N,) given labels.
        changed: (M,) positions of the samples whose inputs are changed, if any.
    """

    labels: Tensor
    changed: Tensor | None = None


def corrupt(noise: NoiseKind, dataset: DataSet, source: Source, root: Path, rng: Stream) -> Corrupted:
    """Apply noise to the training and validation samples of a data set."""
    # The order decides for a class that offers several of the methods: the kind that changes most goes first.
    if isinstance(noise, InputNoise):
        return Corrupted(*noise.corrupt_inputs(source.train_labels, dataset.classes, rng))
    if isinstance(noise, DataNoise):
        # The whole universe: noise is applied before the split, so that validation labels are as noisy as training labels.
        everything = torch.arange(len(source.train_labels))
        # Normalised by the data set's own constants and never augmented, so that labels do not depend on an experiment's preprocessing.
        preprocess = Preprocess(tuple(dataset.mean), tuple(dataset.std))
        samples = SampleView(source.train, everything, source.train_labels, preprocess, torch.device("cpu"))
        return Corrupted(noise.corrupt_data(samples, dataset, root, rng))
    assert isinstance(noise, Noise)
    return Corrupted(noise.corrupt(source.train_labels, dataset.classes, rng))


@dataclass(frozen=True, eq=False)
class ChangedPixels:
    """Inputs on disk, some of which the noise changes when they are read."""

    inner: Pixels
    paint: Callable[[Tensor], Tensor] = field(repr=False)
    hit: Tensor = field(repr=False)  # (universe,) bool

    def __len__(self) -> int:
        return len(self.inner)

    def fetch(self, index: Tensor) -> Tensor:
        inputs = self.inner.fetch(index)
        hit = self.hit[index].to(inputs.device).view(-1, *(1,) * (inputs.ndim - 1))
        # Painting does not depend on the rest of the batch, so the whole batch is painted and the others are taken from the original.
        return torch.where(hit, self.paint(inputs), inputs)


def with_changed_inputs(pixels: Pixels, which: Tensor, noise: NoiseKind) -> Pixels:
    """Return `pixels` with changed inputs at positions `which`.

    Inputs in memory are copied, so that the result does not reveal which of them are changed.
    """
    assert isinstance(noise, InputNoise)
    if isinstance(pixels, TensorPixels):
        # The source is cached and shared with tasks of other noise.
        copied = pixels.tensor.clone()
        positions = which.to(copied.device)
        copied[positions] = noise.paint(copied[positions])
        return TensorPixels(copied)
    hit = torch.zeros(len(pixels), dtype=torch.bool)
    hit[which] = True
    return ChangedPixels(pixels, noise.paint, hit)


@dataclass(frozen=True, eq=False)
class Affected:
    """The test samples that the noise affects, and the others.

    Attributes:
        inside: (n,) positions of the affected samples in the test set.
        rest: (m,) positions of the others; all positions if the noise changes inputs.
        samples: affected samples with changed inputs; None if the noise changes labels only.
    """

    inside: Tensor
    rest: Tensor
    samples: SampleView | None


def affected_samples(noise: NoiseKind, test: SampleView) -> Affected | None:
    """Return the test samples with separate scores, or None if the noise distinguishes none."""
    if not isinstance(noise, AffectsSubset):
        return None
    mask = noise.affected(test.labels)
    inside = torch.nonzero(mask).flatten()
    # Noise on labels only: the two groups partition the test set.
    if not isinstance(noise, InputNoise):
        return Affected(inside, torch.nonzero(~mask).flatten(), None)
    # Painted test images are scored beside the clean ones, which remain the whole test set.
    concerned = test.subset(inside)
    changed = replace(concerned, pixels=with_changed_inputs(test.pixels, concerned.index, noise))
    return Affected(inside, torch.arange(len(test)), changed)

"""Adds noise to a data set, and refuses what does not go together before anything runs."""

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
    """Checks one noise kind against one data set, without files.

    Raises:
        UserError: they do not go together.
    """
    if not dataset.truth_known:
        if expected_rate(noise, dataset.classes):
            raise UserError(f"noise={name} cannot be added to {dataset_name}: its true labels are unknown; use noise=none")
        return
    if isinstance(noise, DataNoise | InputNoise):
        noise.check(dataset)
    elif isinstance(noise, Noise):
        labels = torch.arange(dataset.classes.num, dtype=torch.int64 if dataset.kind == "classification" else torch.float32)
        noise.corrupt(labels, dataset.classes, stream(0, "noise"))  # refuses classes that lack what this noise needs
    else:
        raise UserError(
            f"noise={name} has none of corrupt, corrupt_data and corrupt_inputs (docs/adding.md); name another class in its _target_"
        )


def expected_rate(noise: NoiseKind, classes: Classes) -> float:
    """The share of wrong labels to expect: for forecasts; rows hold the measured one."""
    return noise.expected_rate(classes) if isinstance(noise, ForecastsRate) else noise.rate or 0.0


@dataclass(frozen=True, eq=False)
class Corrupted:
    """What noise made of the whole training set."""

    labels: Tensor  # (N,) given
    painted: Tensor | None = None  # (M,) positions of the samples whose inputs are changed, too


def corrupt(noise: NoiseKind, dataset: DataSet, source: Source, root: Path, rng: Stream) -> Corrupted:
    """Given labels, and whose inputs are to be painted."""
    if isinstance(noise, InputNoise):
        return Corrupted(*noise.corrupt_inputs(source.train_labels, dataset.classes, rng))
    if isinstance(noise, DataNoise):
        everything = torch.arange(len(source.train_labels))
        preprocess = Preprocess(tuple(dataset.mean), tuple(dataset.std))
        samples = SampleView(source.train, everything, source.train_labels, preprocess, torch.device("cpu"))
        return Corrupted(noise.corrupt_data(samples, dataset, root, rng))
    assert isinstance(noise, Noise)
    return Corrupted(noise.corrupt(source.train_labels, dataset.classes, rng))


@dataclass(frozen=True, eq=False)
class PaintedPixels:
    """Inputs that do not fit memory, some of them painted when they are fetched."""

    inner: Pixels
    paint: Callable[[Tensor], Tensor] = field(repr=False)
    hit: Tensor = field(repr=False)  # (universe,) bool

    def __len__(self) -> int:
        return len(self.inner)

    def fetch(self, index: Tensor) -> Tensor:
        inputs = self.inner.fetch(index)
        hit = self.hit[index].to(inputs.device).view(-1, *(1,) * (inputs.ndim - 1))
        return torch.where(hit, self.paint(inputs), inputs)


def painted(pixels: Pixels, which: Tensor, noise: NoiseKind) -> Pixels:
    """`pixels` with the noise's changes at positions `which`; a set in memory is copied, and the copy tells nobody where."""
    assert isinstance(noise, InputNoise)
    if isinstance(pixels, TensorPixels):
        copied = pixels.tensor.clone()
        place = which.to(copied.device)
        copied[place] = noise.paint(copied[place])
        return TensorPixels(copied)
    hit = torch.zeros(len(pixels), dtype=torch.bool)
    hit[which] = True
    return PaintedPixels(pixels, noise.paint, hit)


@dataclass(frozen=True, eq=False)
class Affected:
    """The part of the test set that the noise concerns, and the rest."""

    inside: Tensor  # (n,) positions in the test set
    rest: Tensor  # (m,) likewise: the others; where inputs are changed, all
    samples: SampleView | None  # those of `inside` painted; None: as they are in the test set


def affected_part(noise: NoiseKind, test: SampleView) -> Affected | None:
    """What is scored apart; None for noise that says nothing of a part."""
    if not isinstance(noise, AffectsSubset):
        return None
    mask = noise.affected(test.labels)
    inside = torch.nonzero(mask).flatten()
    if not isinstance(noise, InputNoise):
        return Affected(inside, torch.nonzero(~mask).flatten(), None)
    concerned = test.subset(inside)
    changed = replace(concerned, pixels=painted(test.pixels, concerned.index, noise))
    return Affected(inside, torch.arange(len(test)), changed)

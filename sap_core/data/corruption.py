"""Adds label noise to a data set, and refuses what does not go together before anything runs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from sap_core.data.samples import Preprocess, SampleView
from sap_core.data.source import DataNoise, DataSet, Noise, NoiseKind, Source
from sap_core.errors import UserError
from sap_core.seeding import Stream, stream


def check_noise(noise: NoiseKind, name: str, dataset: DataSet, dataset_name: str) -> None:
    """Checks one noise kind against one data set, without files.

    Raises:
        UserError: they do not go together.
    """
    if not dataset.truth_known:
        if expected_rate(noise):
            raise UserError(f"noise={name} cannot be added to {dataset_name}: its true labels are unknown; use noise=none")
        return
    if isinstance(noise, DataNoise):
        noise.check(dataset)
    elif isinstance(noise, Noise):
        labels = torch.arange(dataset.classes.num, dtype=torch.int64 if dataset.kind == "classification" else torch.float32)
        noise.corrupt(labels, dataset.classes, stream(0, "noise"))  # refuses classes that lack what this noise needs
    else:
        raise UserError(f"noise={name} has neither corrupt nor corrupt_data (docs/adding.md); name another class in its _target_")


def expected_rate(noise: NoiseKind) -> float:
    """The share of wrong labels to expect: for forecasts; rows hold the measured one."""
    expected: float | None = getattr(noise, "expected", noise.rate)
    return expected or 0.0


def corrupt(noise: NoiseKind, dataset: DataSet, source: Source, root: Path, rng: Stream) -> Tensor:
    """(N,) given labels of the whole training set."""
    if isinstance(noise, DataNoise):
        everything = torch.arange(len(source.train_labels))
        preprocess = Preprocess(tuple(dataset.mean), tuple(dataset.std))
        samples = SampleView(source.train, everything, source.train_labels, preprocess, torch.device("cpu"))
        return noise.corrupt_data(samples, dataset, root, rng)
    assert isinstance(noise, Noise)
    return noise.corrupt(source.train_labels, dataset.classes, rng)

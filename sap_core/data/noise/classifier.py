"""Classifier noise: a few images were labelled by hand, a small network labelled the rest.

Shapes: N samples, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from sap_core.data.noise.common import batch_for, check_rate
from sap_core.data.samples import SampleView
from sap_core.data.source import DataSet
from sap_core.errors import UserError
from sap_core.seeding import Stream

SIDE = 16  # images are averaged down until they are at most so many pixels wide
HIDDEN = 128
BATCH, EPOCHS, FEWEST_STEPS, MOST_STEPS = 64, 20, 200, 2000
LEARNING_RATE = 1.0e-3


@dataclass(frozen=True)
class Classifier:
    """The labels of a small network that saw k true labels; those k samples keep theirs. Exactly int(rate * N) labels are wrong.

    k is chosen for the asked rate. Along one random order of the samples, networks are trained on the first C/4, C/2, C, 2C, ... true
    labels, as long as more than the asked number of labels would be wrong. The last of them labels all samples but the first k, k being the
    smallest number that leaves exactly the asked count wrong (less than twice what the network was trained on). So wrong labels are
    plausible ones, dense where the classes are hard to tell apart, and a lower rate means a better annotator, not a thinned-out bad one.
    A kind of this project's own; it has no paper.

    The network: one hidden layer of 128 ReLU units on the image averaged down to at most 16 x 16 pixels; Adam, rate 1.0e-3, batches of 64,
    20 epochs but 200 to 2,000 steps. It runs in float64 on one CPU thread, so that every job of a sweep, on whatever device, gets the same
    labels. Cost on one core: digits 1 s, Fashion-MNIST 15 s, CIFAR-10 70 s at most (rates 0.1 to 0.4); the features of all samples are held
    in memory (at most 768 numbers each). It is part of making the data, as decoding is, and booked to no method.
    """

    name: ClassVar[str] = "classifier"
    version: ClassVar[int] = 1
    rate: float

    def __post_init__(self) -> None:
        check_rate(self.rate)

    def check(self, dataset: DataSet) -> None:
        if dataset.kind != "classification":
            raise UserError("noise=classifier needs class labels, and this data set has none; use noise=none")

    def inspect(self, dataset: DataSet, root: Path) -> None:
        """Needs no files of its own."""

    def corrupt_data(self, samples: SampleView, dataset: DataSet, root: Path, rng: Stream) -> Tensor:
        labels, classes = samples.labels, dataset.classes.num
        wanted = int(self.rate * len(labels))
        if wanted == 0:
            return labels.clone()
        order = rng.child("which").permutation(len(labels))
        best: tuple[Tensor, Tensor] | None = None
        with _one_thread():
            features_ND = _features(samples, batch_for(dataset.shape))
            for seen in _sizes(classes, len(labels)):
                answers = _answers(_trained(features_ND, labels, order[:seen], classes, rng.child("train", seen)), features_ND)
                left = _wrong_from(answers[order] != labels[order])
                if left[seen] < wanted:
                    break
                best = answers, left
        if best is None:
            raise UserError(
                f"noise=classifier cannot make noise.rate={self.rate:g} here: even a network that saw {seen} labels is wrong on no "
                f"more than {int(left[seen]) / len(labels):.2f} of the samples; ask for less, or use noise=symmetric"
            )
        answers, left = best
        by_hand = order[: int((left > wanted).sum())]
        given = answers.clone()
        given[by_hand] = labels[by_hand]
        return given


def _sizes(classes: int, num: int) -> list[int]:
    """How many labels the networks see: at first one for every fourth class, then twice as many each time."""
    sizes = [min(max(2, classes // 4), num)]
    while 2 * sizes[-1] < num:
        sizes.append(2 * sizes[-1])
    return sizes


def _wrong_from(wrong_N: Tensor) -> Tensor:
    """(N + 1,) at k: how many of the samples from position k on are wrong."""
    return torch.cat([wrong_N.flip(0).cumsum(0).flip(0), torch.zeros(1, dtype=torch.int64)])


def _features(samples: SampleView, size: int) -> Tensor:
    """(N, D) float32: normalised inputs, images averaged down."""
    rows = []
    for batch in samples.batches(size):
        inputs = batch.inputs
        if inputs.ndim == 4 and max(inputs.shape[2:]) > SIDE:
            height, width = (min(SIDE, side) for side in inputs.shape[2:])
            inputs = functional.adaptive_avg_pool2d(inputs, (height, width))
        rows.append(inputs.flatten(1))
    return torch.cat(rows)


def _trained(features_ND: Tensor, labels: Tensor, seen: Tensor, classes: int, rng: Stream) -> nn.Module:
    """The network after training on the samples at positions `seen`."""
    with rng.child("init").scope():
        network = nn.Sequential(nn.Linear(features_ND.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, classes)).double()
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    steps = min(max(EPOCHS * len(seen) // BATCH, FEWEST_STEPS), MOST_STEPS)
    generator = rng.child("order").generator()
    for _ in range(steps):
        which = seen[torch.randint(len(seen), (BATCH,), generator=generator)]
        loss = functional.cross_entropy(network(features_ND[which].double()), labels[which])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network


def _answers(network: nn.Module, features_ND: Tensor) -> Tensor:
    """(N,) the network's labels."""
    with torch.inference_mode():
        return torch.cat([network(rows.double()).argmax(1) for rows in features_ND.split(4096)]).clone()


@contextmanager
def _one_thread() -> Iterator[None]:
    """The number of threads changes last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

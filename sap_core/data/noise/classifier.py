"""Classifier noise: a small network, trained on a few true labels, labels all other samples.

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

# Maximum side of the images after average pooling: at most 768 features per sample, so that those of a large set fit in memory.
SIDE = 16
HIDDEN = 128
BATCH, EPOCHS, FEWEST_STEPS, MOST_STEPS = 64, 20, 200, 2000
LEARNING_RATE = 1.0e-3


@dataclass(frozen=True)
class Classifier:
    """Labels predicted by a small network that was trained on k true labels; exactly int(rate * N) labels are wrong.

    k depends on the rate. In one random order of the samples, networks are trained on the first C/4, C/2, C, 2C, ... true labels, as long
    as more than the requested number of labels would be wrong. The last network labels all samples except the first k, which keep their
    true labels; k is the smallest number for which exactly the requested number is wrong (less than twice the number of training labels).
    So the wrong labels are plausible and frequent where classes are similar, and a lower rate means a better annotator, not fewer errors of
    a bad one. This kind of noise is specific to this project; it has no paper.

    The network has one hidden layer of 128 ReLU units and reads images that are average-pooled to at most 16 x 16 pixels. It is trained by
    Adam with learning rate 1.0e-3 and batches of 64 for 20 epochs, but 200 to 2,000 steps, in float64 on one CPU thread, so that all jobs
    of a sweep get the same labels on every device. Time on one core for rates 0.1 to 0.4: digits 1 s, Fashion-MNIST 15 s, CIFAR-10 at most
    70 s; the features of all samples are in memory (at most 768 numbers each). Like decoding, it is not part of the cost of any method.
    """

    name: ClassVar[str] = "classifier"
    version: ClassVar[int] = 1
    rate: float

    def __post_init__(self) -> None:
        check_rate(self.rate)

    def check(self, dataset: DataSet) -> None:
        if dataset.kind != "classification":
            raise UserError("noise=classifier needs class labels, but this is a regression task; use noise=none")

    def inspect(self, dataset: DataSet, root: Path) -> None:
        """See `DataNoise.inspect`; this noise reads no files."""

    def corrupt_data(self, samples: SampleView, dataset: DataSet, root: Path, rng: Stream) -> Tensor:
        labels, classes = samples.labels, dataset.classes.num
        wanted = int(self.rate * len(labels))
        # A rate of zero is a valid end of a sweep over rates and needs no network.
        if wanted == 0:
            return labels.clone()
        # One order for all sizes, so that each network's labels are a prefix of the next one's.
        order = rng.child("which").permutation(len(labels))
        best: tuple[Tensor, Tensor] | None = None
        with _one_thread():
            features_ND = _features(samples, batch_for(dataset.shape))
            # Doubling: a network that saw more labels errs less; the last one that errs often enough is the annotator.
            for seen in _sizes(classes, len(labels)):
                # Each size has an initialisation and an order of its own, keyed by the size.
                predicted = _predictions(_trained(features_ND, labels, order[:seen], classes, rng.child("train", seen)), features_ND)
                # Wrong labels that are left if the first k samples keep their true labels, for every k at once.
                remaining = _wrong_from(predicted[order] != labels[order])
                # This network leaves too few wrong labels; the one before it is the annotator.
                if remaining[seen] < wanted:
                    break
                best = predicted, remaining
        if best is None:
            raise UserError(
                f"noise=classifier cannot make noise.rate={self.rate:g} here: a network trained on {seen} labels is wrong on "
                f"only {int(remaining[seen]) / len(labels):.2f} of the samples; set a lower rate, or use noise=symmetric"
            )
        predicted, remaining = best
        # `remaining` falls by at most one per sample, so some k leaves exactly the wanted number.
        labelled_by_hand = order[: int((remaining > wanted).sum())]
        given = predicted.clone()
        given[labelled_by_hand] = labels[labelled_by_hand]
        return given


def _sizes(classes: int, num: int) -> list[int]:
    """Return the numbers of training labels: one for every fourth class, then doubled each time."""
    # The first network has seen at most a quarter of the classes, so that high rates are within reach.
    sizes = [min(max(2, classes // 4), num)]
    while 2 * sizes[-1] < num:
        sizes.append(2 * sizes[-1])
    return sizes


def _wrong_from(wrong_N: Tensor) -> Tensor:
    """(N + 1,) number of wrong samples at positions k and later, for each k."""
    return torch.cat([wrong_N.flip(0).cumsum(0).flip(0), torch.zeros(1, dtype=torch.int64)])


def _features(samples: SampleView, size: int) -> Tensor:
    """(N, D) float32 normalised inputs, images average-pooled."""
    rows = []
    for batch in samples.batches(size):
        inputs = batch.inputs
        if inputs.ndim == 4 and max(inputs.shape[2:]) > SIDE:
            height, width = (min(SIDE, side) for side in inputs.shape[2:])
            inputs = functional.adaptive_avg_pool2d(inputs, (height, width))
        rows.append(inputs.flatten(1))
    return torch.cat(rows)


def _trained(features_ND: Tensor, labels: Tensor, seen: Tensor, classes: int, rng: Stream) -> nn.Module:
    """Return the network trained on the samples at positions `seen`."""
    with rng.child("init").scope():
        # float64, so that all devices give the same labels.
        network = nn.Sequential(nn.Linear(features_ND.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, classes)).double()
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    # Bounded below, or a network of a few labels would hardly train; bounded above, to bound the time.
    steps = min(max(EPOCHS * len(seen) // BATCH, FEWEST_STEPS), MOST_STEPS)
    generator = rng.child("order").generator()
    for _ in range(steps):
        # With replacement, so that every batch is full even if there are fewer labels than a batch holds.
        which = seen[torch.randint(len(seen), (BATCH,), generator=generator)]
        loss = functional.cross_entropy(network(features_ND[which].double()), labels[which])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network


def _predictions(network: nn.Module, features_ND: Tensor) -> Tensor:
    """(N,) predicted labels."""
    with torch.inference_mode():
        return torch.cat([network(rows.double()).argmax(1) for rows in features_ND.split(4096)]).clone()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run a block with one torch thread, because the number of threads changes the last bits of sums."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

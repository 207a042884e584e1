"""What watches a training from epoch to epoch: a rate that falls on a plateau, and early stopping on the validation loss.

The state of a watcher is a few tensors, changed in place, which go into the loop's `Parts.tables` and so into every checkpoint.
Validation labels are the given, noisy ones: nothing here knows a true label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from sap_core.api import Samples
from trainers.losses import Loss

EVALUATION_BATCH = 256

THRESHOLD = 1.0e-4
"""The share by which a training loss must fall below the lowest one to count as lower (torch's default)."""


@dataclass(frozen=True, eq=False)
class Plateau:
    """The rate is multiplied by `factor` once the loss has not fallen for more than `patience` epochs.

    torch's ReduceLROnPlateau in mode "min" with its defaults, but for two corners: it leaves a rate alone whose change is below 1e-8,
    and where a loss is negative its relative threshold counts a slightly higher loss as lower.
    """

    factor: float
    patience: int
    memory: Tensor  # (3,) float64: rate, lowest loss, epochs without a lower one

    @classmethod
    def start(cls, base: float, factor: float, patience: int) -> Self:
        """At rate `base`, before any loss."""
        return cls(factor, patience, torch.tensor([base, torch.inf, 0.0], dtype=torch.float64))

    @property
    def tables(self) -> dict[str, Tensor]:
        return {"plateau": self.memory}

    def rate(self) -> float:
        """The rate of the next epoch."""
        return float(self.memory[0])

    def see(self, loss: float) -> None:
        """Takes note of an epoch's mean training loss."""
        rate, lowest, bad = self.memory.tolist()
        margin = THRESHOLD * abs(lowest) if lowest < torch.inf else 0.0
        lowest, bad = (loss, 0.0) if loss < lowest - margin else (lowest, bad + 1)
        if bad > self.patience:
            rate, bad = rate * self.factor, 0.0
        self.memory.copy_(torch.tensor([rate, lowest, bad], dtype=torch.float64))


@dataclass(frozen=True, eq=False)
class Validation:
    """Early stopping on the mean validation loss, and the weights of the best epoch.

    Stop rule (SAP's released script): a loss below the lowest so far sets the counter to zero; one above the lowest plus `delta` adds
    one to it; at `patience` training ends. A loss that is not a number counts as one above.
    Best-checkpoint rule: the epoch with the lowest loss, the first of several. (The released script means to do so, but never updates
    its lowest loss and so keeps the last epoch.)
    """

    model: nn.Module
    samples: Samples
    loss_of: Loss
    patience: int | None  # None: never stops
    delta: float
    counts: Tensor  # (2,) float64: lowest loss, counter
    best: Mapping[str, Tensor]  # weights and buffers at the lowest loss; empty: not kept

    @classmethod
    def start(cls, model: nn.Module, samples: Samples, loss_of: Loss, patience: int | None, delta: float, keep_best: bool) -> Self:
        """Before the first epoch."""
        best = {name: value.detach().clone() for name, value in model.state_dict().items()} if keep_best else {}
        return cls(model, samples, loss_of, patience, delta, torch.tensor([torch.inf, 0.0], dtype=torch.float64), best)

    @property
    def tables(self) -> dict[str, Tensor]:
        return {"validation": self.counts, **{f"best.{name}": value for name, value in self.best.items()}}

    def see(self) -> tuple[bool, float]:
        """Looks at the network after an epoch: (is it time to stop?, its validation loss)."""
        loss = given_loss(self.model, self.samples, self.loss_of)
        lowest, counter = self.counts.tolist()
        if loss < lowest:
            lowest, counter = loss, 0
            now = self.model.state_dict()
            for name, value in self.best.items():
                value.copy_(now[name])
        elif not loss <= lowest + self.delta:
            counter += 1
        self.counts.copy_(torch.tensor([lowest, counter], dtype=torch.float64))
        return self.patience is not None and counter >= self.patience, loss

    def restore(self) -> None:
        """Gives the network the weights of its best epoch, if they are kept and any epoch had a finite loss."""
        if self.best and self.counts[0] < torch.inf:
            self.model.load_state_dict(dict(self.best))


@torch.no_grad()
def given_loss(model: nn.Module, samples: Samples, loss_of: Loss) -> float:
    """The mean loss of `model`, put into eval mode, on plain views and given labels."""
    model.eval()
    total = torch.zeros((), dtype=torch.float64)
    for batch in samples.batches(EVALUATION_BATCH):
        total += loss_of(model(batch.inputs), batch.labels).double().cpu() * len(batch.labels)
    return float(total) / len(samples)


@torch.no_grad()
def given_accuracy(model: nn.Module, samples: Samples) -> float:
    """The share of given labels that `model`, put into eval mode, predicts from plain views."""
    model.eval()
    right = torch.zeros((), dtype=torch.int64)
    for batch in samples.batches(EVALUATION_BATCH):
        predicted_B: Tensor = model(batch.inputs).argmax(1)
        right = right + (predicted_B == batch.labels).sum().cpu()
    return int(right) / len(samples)

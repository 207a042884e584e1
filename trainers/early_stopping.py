"""Learning rate reduction on a plateau of the training loss, and early stopping on the validation loss.

Their state is kept in tensors that are changed in place and belong to `TrainingState.tables`, hence to every checkpoint. Validation labels
are the given, possibly wrong ones: true labels are not available to training.
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
"""Relative decrease below the lowest training loss that counts as an improvement (torch's default)."""


@dataclass(frozen=True, eq=False)
class ReduceOnPlateau:
    """Multiplies the learning rate by `factor` once the loss has not improved for more than `patience` epochs.

    Equals torch's ReduceLROnPlateau in mode "min" with its defaults, except that torch ignores changes of the rate below 1e-8, and that
    with a negative loss torch's relative threshold accepts a slightly higher loss as an improvement.
    """

    factor: float
    patience: int
    state: Tensor  # (3,) float64: rate, lowest loss, epochs without improvement

    @classmethod
    def start(cls, base: float, factor: float, patience: int) -> Self:
        """The state before the first epoch, at rate `base`."""
        return cls(factor, patience, torch.tensor([base, torch.inf, 0.0], dtype=torch.float64))

    @property
    def tables(self) -> dict[str, Tensor]:
        """Entries of `TrainingState.tables`."""
        return {"plateau": self.state}

    def rate(self) -> float:
        """Returns the learning rate of the next epoch."""
        return float(self.state[0])

    def update(self, loss: float) -> None:
        """Records the mean training loss of an epoch."""
        rate, lowest, bad = self.state.tolist()
        # No margin before the first loss: infinity less infinity is NaN, and nothing would ever improve on it.
        margin = THRESHOLD * abs(lowest) if lowest < torch.inf else 0.0
        lowest, bad = (loss, 0.0) if loss < lowest - margin else (lowest, bad + 1)
        # More than `patience` epochs, as torch counts.
        if bad > self.patience:
            rate, bad = rate * self.factor, 0.0
        # In place: the tensor is a table of the checkpoint.
        self.state.copy_(torch.tensor([rate, lowest, bad], dtype=torch.float64))


@dataclass(frozen=True, eq=False)
class EarlyStopping:
    """Stops training when the mean validation loss no longer falls, and keeps the weights of the best epoch.

    Stop rule (SAP's released script): a loss below the lowest so far resets the counter; a loss above the lowest plus `delta`, or NaN,
    increments it; training stops at `patience`.
    Best checkpoint: the epoch with the lowest loss, the first of ties. (The released script intends this, but never updates its lowest
    loss and so keeps the last epoch.)
    """

    model: nn.Module
    samples: Samples
    loss_of: Loss
    patience: int | None  # None: no early stopping
    delta: float
    state: Tensor  # (2,) float64: lowest loss, counter
    best: Mapping[str, Tensor]  # weights and buffers at the lowest loss; empty if they are not kept

    @classmethod
    def start(cls, model: nn.Module, samples: Samples, loss_of: Loss, patience: int | None, delta: float, keep_best: bool) -> Self:
        """The state before the first epoch."""
        # Made before the first epoch, because a checkpoint is loaded into tensors that exist. They hold the initial weights until an epoch
        # improves on infinity.
        best = {name: value.detach().clone() for name, value in model.state_dict().items()} if keep_best else {}
        return cls(model, samples, loss_of, patience, delta, torch.tensor([torch.inf, 0.0], dtype=torch.float64), best)

    @property
    def tables(self) -> dict[str, Tensor]:
        """Entries of `TrainingState.tables`."""
        return {"validation": self.state, **{f"best.{name}": value for name, value in self.best.items()}}

    def evaluate(self) -> tuple[bool, float]:
        """Evaluates the network after an epoch and returns (stop training?, validation loss)."""
        loss = given_loss(self.model, self.samples, self.loss_of)
        lowest, counter = self.state.tolist()
        if loss < lowest:
            lowest, counter = loss, 0
            # Copied into the tensors that the checkpoint holds.
            now = self.model.state_dict()
            for name, value in self.best.items():
                value.copy_(now[name])
        # Between the lowest loss and `delta` above it the counter stands still. The condition is written so that NaN counts.
        elif not loss <= lowest + self.delta:
            counter += 1
        self.state.copy_(torch.tensor([lowest, counter], dtype=torch.float64))
        return self.patience is not None and counter >= self.patience, loss

    def restore(self) -> None:
        """Loads the weights of the best epoch, if they are kept and any epoch had a finite loss."""
        # Without a finite loss the best weights would be the initial ones, and a network that diverged would look sound.
        if self.best and self.state[0] < torch.inf:
            self.model.load_state_dict(dict(self.best))


@torch.no_grad()
def given_loss(model: nn.Module, samples: Samples, loss_of: Loss) -> float:
    """Puts `model` into eval mode and returns its mean loss on plain views and given labels."""
    model.eval()
    total = torch.zeros((), dtype=torch.float64)
    for batch in samples.batches(EVALUATION_BATCH):
        # Weighted by the batch, because the last one may have another size, and added up in float64.
        total += loss_of(model(batch.inputs), batch.labels).double().cpu() * len(batch.labels)
    return float(total) / len(samples)


@torch.no_grad()
def given_accuracy(model: nn.Module, samples: Samples) -> float:
    """Puts `model` into eval mode and returns its accuracy on plain views and given labels."""
    model.eval()
    right = torch.zeros((), dtype=torch.int64)
    for batch in samples.batches(EVALUATION_BATCH):
        predicted_B: Tensor = model(batch.inputs).argmax(1)
        right = right + (predicted_B == batch.labels).sum().cpu()
    return int(right) / len(samples)

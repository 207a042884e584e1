"""Loss filter: leaves out the training samples with the largest loss, and trains on the others.

Source: the small-loss criterion, as a one-shot cleaning step; Han et al., "Co-teaching", NeurIPS 2018, use it batch by batch. The
predictions and the training after the filtering are those of `cleaning`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import nn

from baselines import cleaning
from baselines.cleaning import Predictions, Then
from sap_core.api import BASELINE_TRAINER, Need, Passes, Run, Sizes, Task, Trainer
from sap_core.errors import UserError


@dataclass(frozen=True)
class LossFilter:
    """Leaves out the fraction `drop` of the training samples with the largest loss on their given labels."""

    name: ClassVar[str] = "loss_filter"
    version: ClassVar[int] = 1

    recipe: Trainer = field(metadata=BASELINE_TRAINER)
    drop: float = 0.25
    predictions: Predictions = "in_sample"
    folds: int = 5  # of out-of-sample predictions
    then: Then = "retrain"
    learning_rate: float = 1.0e-2  # this and the following fields: of fine-tuning
    epochs: int = 10
    batch_size: int = 64
    momentum: float = 0.9
    weight_decay: float = 5.0e-4
    augment: bool = False

    def __post_init__(self) -> None:
        cleaning.check("loss_filter", self)
        if not 0 < self.drop < 1:
            raise UserError(f"loss_filter.drop={self.drop:g} must be a fraction of the training samples, above 0 and below 1")

    def needs(self) -> frozenset[Need]:
        return frozenset()

    def selects_samples(self) -> bool:
        return True

    def family(self) -> Hashable:
        return cleaning.family("loss_filter", self, self.drop)

    def computation(self) -> Hashable:
        return cleaning.computation(self.family(), self)

    @classmethod
    def correct(cls, settings: Sequence[LossFilter], model: nn.Module, task: Task, run: Run) -> Iterator[tuple[int, nn.Module]]:
        """See `cleaning.train_cleaned`."""
        first = settings[0]
        outputs_NC = cleaning.predict(first, model, task, run)
        errors_N = cleaning.errors(outputs_NC, task.train.labels, task.kind)
        kept = task.train.subset(torch.nonzero(~cleaning.largest_errors(errors_N, task.train.index, first.drop)).flatten())
        # What is left counts as trusted: the platform, where it knows, says how many of these labels are right.
        run.report_trusted(kept.index)
        yield from cleaning.train_cleaned(settings, kept, model, task, run)

    @classmethod
    def forecast(cls, settings: Sequence[LossFilter], sizes: Sizes) -> Passes:
        return cleaning.forecast(settings, sizes, sizes.train - int(settings[0].drop * sizes.train))

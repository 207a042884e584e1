"""Relabel: the training samples with the largest loss get the predicted class, and training uses all samples.

Source: self-labelling, as a one-shot cleaning step; Reed et al., "Training deep neural networks on noisy labels with bootstrapping" (hard
bootstrapping), ICLR workshop 2015, and Tanaka et al., "Joint optimization framework for learning with noisy labels", CVPR 2018, mix or
alternate it with training. The predictions and the training after the relabelling are those of `cleaning`. Where the predicted class is the
given one nothing changes, so in-sample predictions of a network that fits all its labels have no effect.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import nn

from baselines import cleaning
from baselines.cleaning import Predictions, Then
from baselines.sample_sources import Relabelled, check_classes
from sap_core.api import BASELINE_TRAINER, Need, Passes, Run, Sizes, Task, TaskType, Trainer
from sap_core.errors import UserError


@dataclass(frozen=True)
class Relabel:
    """Gives the predicted class to the fraction `change` of the training samples with the largest loss on their given labels."""

    name: ClassVar[str] = "relabel"
    version: ClassVar[int] = 1

    recipe: Trainer = field(metadata=BASELINE_TRAINER)
    change: float = 0.25
    predictions: Predictions = "out_of_sample"
    folds: int = 5
    then: Then = "retrain"
    learning_rate: float = 1.0e-2  # this and the following fields: of fine-tuning
    epochs: int = 10
    batch_size: int = 64
    momentum: float = 0.9
    weight_decay: float = 5.0e-4
    augment: bool = False

    def __post_init__(self) -> None:
        cleaning.check("relabel", self)
        if not 0 < self.change <= 1:
            raise UserError(f"relabel.change={self.change:g} must be a fraction of the training samples, above 0 and at most 1")

    def needs(self) -> frozenset[Need]:
        return frozenset()

    def selects_samples(self) -> bool:
        return True

    def refuse(self, kind: TaskType, network: nn.Module) -> None:
        """Raises UserError on a regression task."""
        check_classes("relabel", kind, "gives samples other classes")

    def family(self) -> Hashable:
        return cleaning.family("relabel", self, self.change)

    def computation(self) -> Hashable:
        return cleaning.computation(self.family(), self)

    @classmethod
    def correct(cls, settings: Sequence[Relabel], model: nn.Module, task: Task, run: Run) -> Iterator[tuple[int, nn.Module]]:
        """See `cleaning.train_cleaned`."""
        first = settings[0]
        first.refuse(task.kind, model)
        outputs_NC, given_N = cleaning.predict(first, model, task, run), task.train.labels
        errors_N = cleaning.errors(outputs_NC, given_N, task.kind)
        # All samples remain in the training set. A doubtful one whose predicted class is the given one keeps its label.
        doubtful = cleaning.largest_errors(errors_N, task.train.index, first.change)
        labels_N = torch.where(doubtful, outputs_NC.argmax(1), given_N)
        yield from cleaning.train_cleaned(settings, Relabelled(task.train, labels_N), model, task, run)

    @classmethod
    def forecast(cls, settings: Sequence[Relabel], sizes: Sizes) -> Passes:
        return cleaning.forecast(settings, sizes, sizes.train)

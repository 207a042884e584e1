"""Confident learning: leaves out the training samples whose labels are estimated to be wrong, and trains on the others.

Source: Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in dataset labels", JAIR 2021, by its authors' library
cleanlab (an optional dependency: `pip install 'sap-sweep[cleaning]'`), whose `filter.find_label_issues` is called here. For each pair of
classes it counts the samples with one given label that are confidently of the other class (at least the mean probability among samples
given that other label), and takes that number of samples for wrong. The paper asks for out-of-sample predictions; see `cleaning`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from baselines import cleaning
from baselines.cleaning import Predictions, Then
from baselines.sample_sources import check_classes
from sap_core.api import BASELINE_TRAINER, Need, Passes, Run, Sizes, Task, TaskType, Trainer
from sap_core.errors import UserError, unknown

FilterBy = Literal["prune_by_class", "prune_by_noise_rate", "both", "confident_learning", "predicted_neq_given"]


def check_installed() -> None:
    """Raises UserError if cleanlab is not installed."""
    # Looks for the package without importing it: the question is also asked when a sweep is planned.
    if find_spec("cleanlab") is None:
        raise UserError("method 'confident_learning' needs cleanlab, which is not installed; run pip install 'sap-sweep[cleaning]'")


def label_issues(probabilities_NC: Tensor, given_N: Tensor, filter_by: FilterBy) -> Tensor:
    """Returns (N,) bool: the samples whose given label confident learning estimates to be wrong.

    Raises:
        UserError: cleanlab is not installed.
    """
    check_installed()
    # An optional dependency, so it is imported where it is used.
    from cleanlab.filter import find_label_issues

    # One process: a job has the cores that the sweep gave it, and cleanlab would by default take all of the machine.
    found = find_label_issues(given_N.numpy(), probabilities_NC.numpy(), filter_by=filter_by, n_jobs=1)
    return torch.as_tensor(found, dtype=torch.bool)


@dataclass(frozen=True)
class ConfidentLearning:
    """Leaves out the samples that cleanlab's rule `filter_by` finds."""

    name: ClassVar[str] = "confident_learning"
    version: ClassVar[int] = 1
    forecast_is_bound: ClassVar[bool] = True  # the number of kept samples depends on the data

    recipe: Trainer = field(metadata=BASELINE_TRAINER)
    filter_by: FilterBy = "prune_by_noise_rate"
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
        cleaning.check("confident_learning", self)
        if self.filter_by not in get_args(FilterBy):
            raise unknown("rule", self.filter_by, get_args(FilterBy), "confident_learning.filter_by")

    def needs(self) -> frozenset[Need]:
        return frozenset()

    def selects_samples(self) -> bool:
        return True

    def refuse(self, kind: TaskType, network: nn.Module) -> None:
        """Raises UserError on a regression task, and if cleanlab is not installed."""
        check_classes("confident_learning", kind, "counts confusions of classes")
        check_installed()

    def family(self) -> Hashable:
        return cleaning.family("confident_learning", self, self.filter_by)

    def computation(self) -> Hashable:
        return cleaning.computation(self.family(), self)

    @classmethod
    def correct(cls, settings: Sequence[ConfidentLearning], model: nn.Module, task: Task, run: Run) -> Iterator[tuple[int, nn.Module]]:
        """See `cleaning.train_cleaned`."""
        first = settings[0]
        first.refuse(task.kind, model)
        outputs_NC, given_N = cleaning.predict(first, model, task, run), task.train.labels
        # Phase select, as the predictions: both are the price of finding the samples.
        with run.meter("select"):
            wrong = label_issues(outputs_NC.softmax(1), given_N, first.filter_by)
        kept = task.train.subset(torch.nonzero(~wrong).flatten())
        # Only the method knows which samples it kept, and only the platform may know how right their labels are.
        run.report_trusted(kept.index)
        yield from cleaning.train_cleaned(settings, kept, model, task, run)

    @classmethod
    def forecast(cls, settings: Sequence[ConfidentLearning], sizes: Sizes) -> Passes:
        """An upper bound: no sample is left out."""
        return cleaning.forecast(settings, sizes, sizes.train)

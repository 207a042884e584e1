"""Data cleaning: predictions for the training samples, and training on the samples that remain.

Cleaning methods compare a network's predictions with the given labels. The field `predictions` selects the network:

- `in_sample`: the given network, on the samples it was trained on. One forward pass; but a network that has memorised its wrong labels
  disagrees with few of them.
- `out_of_sample`: cross-validation. The training split is divided at random into `folds` folds, and each is predicted by a network that the
  baseline's recipe trains on the others: `folds` trainings, each on (folds - 1) / folds of the samples.

The field `then` selects the training: `retrain` runs the baseline's recipe from scratch on the cleaned samples (see `retrain`), `finetune`
continues from the given network (see `finetune`). The cost of both stages is recorded; that of the predictions, including all trainings, in
phase select.

No label is verified: the column `information` of these methods is `scored`.

Shapes: N training samples, C outputs.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from baselines.finetune import FinetuneSetting, finetune_on
from baselines.sample_sources import SCORING_BATCH
from baselines.trajectory import Trajectory
from sap_core.api import Passes, Run, Samples, Sizes, Task, TaskType, Trainer
from sap_core.cost import CostMeter
from sap_core.errors import at_least, unknown
from sap_core.models.modes import evaluating
from sap_core.run import PlainRun
from sap_core.seeding import stream

Predictions = Literal["in_sample", "out_of_sample"]
Then = Literal["retrain", "finetune"]


class CleaningSetting(FinetuneSetting, Protocol):
    """A setting of a cleaning method."""

    @property
    def recipe(self) -> Trainer: ...
    @property
    def predictions(self) -> Predictions: ...
    @property
    def folds(self) -> int: ...
    @property
    def then(self) -> Then: ...
    @property
    def momentum(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...


def check(method: str, setting: CleaningSetting) -> None:
    """Raises UserError for values out of range."""
    if setting.predictions not in get_args(Predictions):
        raise unknown("kind of predictions", setting.predictions, get_args(Predictions), f"{method}.predictions")
    if setting.then not in get_args(Then):
        raise unknown("training", setting.then, get_args(Then), f"{method}.then")
    at_least(method, 2, folds=setting.folds)
    at_least(method, 1, epochs=setting.epochs, batch_size=setting.batch_size)


def family(method: str, setting: CleaningSetting, *own: Hashable) -> Hashable:
    """All fields that change the result but the epochs of fine-tuning; `own` are the method's own fields."""
    # Fields that the chosen predictions or training do not use are blanked, so that they do not split one computation into several.
    folds = setting.folds if setting.predictions == "out_of_sample" else 0
    descent = (setting.learning_rate, setting.batch_size, setting.momentum, setting.weight_decay, setting.augment)
    return (method, setting.recipe, folds, setting.then, descent if setting.then == "finetune" else (), *own)


def computation(family: Hashable, setting: CleaningSetting) -> Hashable:
    """The family and the epochs, which retraining does not use."""
    return family, setting.epochs if setting.then == "finetune" else 0


def predict(setting: CleaningSetting, model: nn.Module, task: Task, run: Run) -> Tensor:
    """Returns (N, C) float64 outputs for the training samples, on the CPU.

    Raises:
        FloatingPointError: an output is not finite: a network has diverged.
    """
    with run.meter("select"):
        if setting.predictions == "in_sample":
            outputs_NC = _outputs(model, task.train, run)
        else:
            outputs_NC = _cross_validated(setting, task, run)
    # Ranks of NaN would pick arbitrary samples; the error makes the whole family diverged.
    if not outputs_NC.isfinite().all():
        raise FloatingPointError("the network's outputs are not finite on some training samples, so it has diverged")
    return outputs_NC


def errors(outputs_NC: Tensor, labels_N: Tensor, kind: TaskType) -> Tensor:
    """Returns (N,) cross-entropies in nats, or squared residuals summed over outputs."""
    if kind == "regression":
        return (outputs_NC - labels_N.to(outputs_NC).reshape(outputs_NC.shape)).square().sum(1)
    return -outputs_NC.log_softmax(1).gather(1, labels_N.view(-1, 1)).squeeze(1)


def largest_errors(errors_N: Tensor, index_N: Tensor, share: float) -> Tensor:
    """Marks (N,) the int(share * N) samples of largest error. Of ties those later in the training set are marked."""
    # Two stable sorts: by error, and among equal errors by position in the training set, whatever order the samples come in.
    by_index = index_N.argsort(stable=True)
    rising = by_index[errors_N[by_index].argsort(stable=True)]
    # By rank, not by a threshold, so that exactly the declared share is marked.
    found = torch.zeros(len(errors_N), dtype=torch.bool)
    found[rising[len(rising) - int(share * len(rising)) :]] = True
    return found


def train_cleaned(
    settings: Sequence[CleaningSetting], cleaned: Samples, model: nn.Module, task: Task, run: Run
) -> Iterator[tuple[int, nn.Module]]:
    """Trains on the cleaned samples, once for the family. Retraining resumes from `run.saved_state()`, as the recipe does."""
    first = settings[0]
    if first.then == "finetune":
        yield from finetune_on(settings, Trajectory.start(model, first.momentum, first.weight_decay), cleaned, task, run)
        return
    # Nothing is declared to the recipe: a training gets labels and images, and may not ask for verified samples.
    fitted = first.recipe.fit(replace(task, train=cleaned, declared=frozenset()), run).model.eval()
    # Retraining has no use for the epochs of fine-tuning, so one network is the answer to every setting.
    for position in range(len(settings)):
        yield position, fitted


def forecast(settings: Sequence[CleaningSetting], sizes: Sizes, kept: int) -> Passes:
    """Returns the passes of the predictions and of training on `kept` samples."""
    first = settings[0]
    # Each sample is predicted once, by the given network or by that of its fold.
    passes = Passes(forwards=sizes.train)
    if first.predictions == "out_of_sample":
        for left_out in _fold_sizes(sizes.train, first.folds):
            passes += first.recipe.forecast(replace(sizes, train=sizes.train - left_out))
    if first.then == "retrain":
        return passes + first.recipe.forecast(replace(sizes, train=kept))
    descended = kept * max(setting.epochs for setting in settings)
    return passes + Passes(forwards=descended, backwards=descended)


def _cross_validated(setting: CleaningSetting, task: Task, run: Run) -> Tensor:
    """Returns the outputs of every sample by a network that was not trained on it."""
    # Keyed by purpose, not by method: all cleaning methods of a seed divide the samples into the same folds.
    order_N = stream(task.seed, "select", "folds").permutation(len(task.train))
    outputs_NC = torch.zeros(len(task.train), task.num_outputs, dtype=torch.float64)
    for fold in order_N.split(_fold_sizes(len(order_N), setting.folds)):
        inside = torch.zeros(len(order_N), dtype=torch.bool)
        inside[fold] = True
        # Trainings of folds are not resumed, and their cost belongs to phase select.
        inner = PlainRun()
        inner.meter = CostMeter(device=task.device)
        others = replace(task, train=task.train.subset(torch.nonzero(~inside).flatten()), declared=frozenset())
        # Under the run's own seed: every fold starts from the baseline's initialisation.
        fitted = setting.recipe.fit(others, inner).model
        # Counted in the caller's phase; the phases that the recipe booked are dropped.
        for piece in inner.meter.records:
            run.meter.count(piece.forwards, piece.backwards, piece.flops)
        outputs_NC[fold] = _outputs(fitted, task.train.subset(fold), run)
    return outputs_NC


def _fold_sizes(count: int, folds: int) -> list[int]:
    """Divides `count` into `folds` sizes that differ by at most one."""
    return [count // folds + (fold < count % folds) for fold in range(folds)]


def _outputs(model: nn.Module, samples: Samples, run: Run) -> Tensor:
    """Returns (N, C) float64 outputs on the CPU, for plain inputs in evaluation mode."""
    found = []
    with evaluating(model):
        for batch in samples.batches(SCORING_BATCH):
            # In float64, where the losses of well fitted samples do not round to 0 and tie.
            found.append(model(batch.inputs).to(torch.float64).flatten(1).cpu())
            run.meter.count(forwards=len(batch.labels))
    return torch.cat(found)

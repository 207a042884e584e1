"""Ranking of training samples by how much SAP trusts their labels (Algorithm 1, line 1). A trusted set is a prefix of the ranking.

The paper trusts the samples of the training split with the lowest cross-entropy on their given labels. Nothing here reads a true label.
The class-balanced order takes the classes in turn, because the lowest losses concentrate in easy classes.

Input curvature is the alternative score: how far a small random step moves the gradient of the loss with respect to the input. It costs 11
forward and 11 backward passes (to the input only) per sample; the released code recomputes the gradient at the unperturbed input for
every step.

Source: SAP, selection of trusted samples; curvature as in the released code, which ranks by it.
Deviations: scores are float64, and ties (losses of exactly zero) are broken by the position in the training set. The released code
computes curvature under the *true* labels, for validation images too, and divides by the batch size, so that scores of the last batch are
larger; here the labels are those of the given samples, only training samples are ranked, and a score does not depend on the batch.

Shapes: N samples, B batch, C classes or outputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from sap_core.api import Batch, Samples, TaskType
from sap_core.cost import CostMeter
from sap_core.float64 import to_float64
from sap_core.models.modes import evaluating
from sap_core.seeding import Stream

DRAWS = 10
"""Random steps per sample, as in the released code."""

STEP = 1e-3
"""Size of a step in each preprocessed input value, as in the released code."""


class Batched(Protocol):
    """Samples in batches; those of a task, or of the library."""

    def batches(self, size: int) -> Iterator[Batch]:
        """Iterate over mini-batches in a fixed order."""


def fit_error(model: nn.Module, samples: Batched, kind: TaskType, batch_size: int, meter: CostMeter) -> Tensor:
    """Return (N,) float64 on the CPU: the loss of `model` on each sample's given label, on plain inputs in evaluation mode.

    The loss is the cross-entropy in nats for classification, and the squared residual summed over outputs for regression.

    Raises:
        FloatingPointError: a score is not finite, so the network has diverged.
    """
    # In evaluation mode and on plain inputs: the score is a property of the sample, not of its batch or of a random view.
    scores = []
    with evaluating(model):
        for batch in samples.batches(batch_size):
            # A network that memorised its labels has losses that underflow to zero in float32; in float64 they remain distinct for longer.
            outputs_BC = to_float64(model(batch.inputs))
            scores.append(_score(outputs_BC, batch.labels, kind).cpu())
            meter.count(forwards=len(batch.labels))
    return _joined(scores, "loss")


def curvature(model: nn.Module, samples: Samples, kind: TaskType, batch_size: int, rng: Stream, meter: CostMeter) -> Tensor:
    """Return (N,) float64 on the CPU: the mean over `DRAWS` steps v of ||g(x + v) - g(x)||, where g is the input gradient of `fit_error`.

    Each v is `STEP` times random signs, drawn from `rng` by the sample's position in the universe, so that they do not depend on batches.

    Raises:
        FloatingPointError: a score is not finite, so the network has diverged.
    """
    # g(x) is computed once and reused for every step, since it does not change between them (the released code recomputes it).
    scores = []
    with evaluating(model):
        for batch in samples.batches(batch_size):
            x, labels = batch.inputs, batch.labels
            gradient = _input_gradient(model, x, labels, kind)
            total_B = to_float64(x.new_zeros(len(x)))
            # Equal steps of +-STEP in every input value, the Rademacher directions of the released code.
            for signs in _signs(rng, batch.index, x.shape[1:]).to(x).unbind(1):
                change = _input_gradient(model, x + STEP * signs, labels, kind) - gradient
                # The norm of the difference, not divided by STEP: a constant factor does not change the ranking.
                total_B += to_float64(change).flatten(1).norm(dim=1)
            scores.append((total_B / DRAWS).cpu())
            meter.count(forwards=(DRAWS + 1) * len(x), backwards=(DRAWS + 1) * len(x))
    return _joined(scores, "loss's gradient")


def lowest_first(score_N: Tensor, index_N: Tensor) -> Tensor:
    """Return (N,) positions in order of increasing score, ties in order of increasing `index`."""
    # Two stable sorts: positions in the training set break ties, so that the ranking does not depend on the order of the view.
    by_index = index_N.argsort(stable=True)
    return by_index[score_N[by_index].argsort(stable=True)]


def skip_first(order_N: Tensor, skip: float) -> Tensor:
    """Return `order` without its first fraction `skip`."""
    return order_N[int(skip * len(order_N)) :]


def balanced(order_N: Tensor, labels_N: Tensor, skip: float = 0.0) -> Tensor:
    """Return `order` rearranged in rounds: the first sample of every class, then the second of every class, and so on.

    The order within a round is that of `order`. The first n samples contain n // C or n // C + 1 samples of each class, as long as each
    class has that many. The first fraction `skip` of each class is left out.
    """
    # A sample's round is its rank within its own class; a negative round marks the skipped fraction.
    round_N = torch.empty_like(order_N)
    for label in labels_N.unique():
        of_class = labels_N[order_N] == label
        count = int(of_class.sum())
        round_N[of_class] = torch.arange(count) - int(skip * count)
    # Stable, so that within a round the order of trust decides which class comes first. Skipped samples sort to the front and are cut.
    rounds = round_N.argsort(stable=True)
    return order_N[rounds[int((round_N < 0).sum()) :]]


def _score(outputs_BC: Tensor, labels: Tensor, kind: TaskType) -> Tensor:
    if kind == "regression":
        # The regression counterpart of the paper's cross-entropy; the paper itself is about classification.
        return (outputs_BC.flatten(1) - to_float64(labels).reshape(len(labels), -1)).square().sum(1)
    # Log-softmax and not the logarithm of a softmax: a wrong label with a probability of zero must keep a finite, comparable loss.
    return -outputs_BC.log_softmax(1).gather(1, labels.to(outputs_BC.device).view(-1, 1)).squeeze(1)


def _input_gradient(model: nn.Module, x: Tensor, labels: Tensor, kind: TaskType) -> Tensor:
    """(B, ...) gradient of each sample's score at its input; samples do not interact in evaluation mode, so one sum gives all."""
    # The caller's block runs without gradients; only the input's gradient is needed here, hence none is taken of the weights.
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(_score(to_float64(model(x)), labels, kind).sum(), x)
    return gradient


def _signs(rng: Stream, index_B: Tensor, shape: torch.Size) -> Tensor:
    """(B, DRAWS, ...) int8 random signs, one stream per sample."""
    # int8 until it is used: DRAWS images of signs per sample would take four times the memory as float32.
    drawn = [torch.randint(2, (DRAWS, *shape), generator=rng.child(index).generator(), dtype=torch.int8) for index in index_B.tolist()]
    return 2 * torch.stack(drawn) - 1


def _joined(scores: list[Tensor], what: str) -> Tensor:
    score_N = torch.cat(scores)
    if not score_N.isfinite().all():
        raise FloatingPointError(f"the network's {what} is not finite on some training samples, so it has diverged")
    return score_N

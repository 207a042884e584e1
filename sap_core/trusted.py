"""Which training samples SAP trusts: an order of all of them, of which any trusted set is a prefix (so that smaller sets are nested).

The paper trusts the samples with the lowest cross-entropy on their given labels, over the whole training split; nothing here reads a true
label. The balanced order gives every class its turn, because the lowest losses crowd in easy classes.

Source: SAP, selection of trusted samples. The released code ranks by input curvature under the *true* labels instead; not offered here.
Deviation: scores are float64, and ties (losses of exactly zero) go to the lower position in the training set.

Shapes: N samples, B batch, C classes or outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sap_core.api import Kind, Samples
from sap_core.cost import CostMeter
from sap_core.models.modes import evaluating


def fit_error(model: nn.Module, samples: Samples, kind: Kind, batch_size: int, meter: CostMeter) -> Tensor:
    """(N,) float64 on the CPU: how badly `model` fits each sample's given label, on plain inputs in evaluation mode.

    Cross-entropy in nats for classes, the squared residual (summed over outputs) for regression.

    Raises:
        FloatingPointError: a score is not finite: the network has diverged.
    """
    scores = []
    with evaluating(model):
        for batch in samples.batches(batch_size):
            outputs_BC = model(batch.inputs).to(torch.float64)
            scores.append(_score(outputs_BC, batch.labels, kind).cpu())
            meter.count(forwards=len(batch.labels))
    score_N = torch.cat(scores)
    if not score_N.isfinite().all():
        raise FloatingPointError("the network's loss is not finite on some training samples, so it has diverged")
    return score_N


def lowest_first(score_N: Tensor, index_N: Tensor) -> Tensor:
    """(N,) positions by rising score; ties by rising `index`."""
    by_index = index_N.argsort(stable=True)
    return by_index[score_N[by_index].argsort(stable=True)]


def balanced(order_N: Tensor, labels_N: Tensor) -> Tensor:
    """`order` rearranged in rounds: first every class's first sample, then every class's second, and so on; inside a round as before.

    The first n hold n // C or n // C + 1 samples of each class, as long as each class has that many.
    """
    round_N = torch.empty_like(order_N)
    for label in labels_N.unique():
        of_class = labels_N[order_N] == label
        round_N[of_class] = torch.arange(int(of_class.sum()))
    return order_N[round_N.argsort(stable=True)]


def _score(outputs_BC: Tensor, labels: Tensor, kind: Kind) -> Tensor:
    if kind == "regression":
        return (outputs_BC.flatten(1) - labels.to(torch.float64).reshape(len(labels), -1)).square().sum(1)
    return -outputs_BC.log_softmax(1).gather(1, labels.view(-1, 1)).squeeze(1)

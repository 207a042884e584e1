"""Outputs of the warm-up network that pruners score: its logits, and the features at the input of its last linear layer.

Shapes: N samples, C classes, D features (of all networks of an ensemble, concatenated), K networks, B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from sap_core.api import Fitted, Run, Selection, Task, View
from sap_core.errors import UserError
from sap_core.models.ensemble import Ensemble
from sap_core.models.modes import evaluating
from sap_core.seeding import stream


@dataclass(frozen=True)
class WarmupOutputs:
    """Outputs for the training samples, in their order."""

    logits: Tensor  # (K, N, C), of each network
    features_of: tuple[Tensor, ...]  # K times (N, D), of each network
    labels: Tensor  # (N,) as given

    @property
    def probabilities(self) -> Tensor:
        """(N, C) float64 probabilities of the mean of the networks' logits, which is the output of an ensemble."""
        return self.logits.double().mean(0).softmax(1)

    @property
    def features(self) -> Tensor:
        """(N, D) features of all networks, concatenated."""
        return torch.cat(self.features_of, dim=1)

    def errors(self) -> Tensor:
        """(K, N, C) float64 p - y: the gradient of each sample's cross-entropy with respect to the logits, of each network."""
        p_KNC = self.logits.double().softmax(2)
        return p_KNC - functional.one_hot(self.labels, p_KNC.shape[2])


def collect_outputs(pruner: str, task: Task, warm: Fitted, batch_size: int, run: Run, view: View = "plain") -> WarmupOutputs:
    """Makes one pass over `task.train` in evaluation mode and counts it in the current phase of the meter.

    Raises:
        UserError: the task is a regression, or the network has no linear layer.
        FloatingPointError: an output is not finite: the network has diverged.
    """
    if task.kind != "classification":
        raise UserError(f"pruner '{pruner}' needs classes, but this task is a regression; use pruner=uniform")
    nets = list(warm.model.nets) if isinstance(warm.model, Ensemble) else [warm.model]
    heads = [_last_linear(pruner, net) for net in nets]
    count = len(task.train)
    # Universe position -> row of the outputs: batches may come in any order.
    row_U = torch.empty(task.train.universe, dtype=torch.int64)
    row_U[task.train.index] = torch.arange(count)
    # A plain view draws nothing; an augmented one draws from a stream of its own, keyed by sample, so batches do not matter.
    rng = None if view == "plain" else stream(task.seed, "select", "view")
    features: list[Tensor] = [torch.empty(count, head.in_features) for head in heads]
    logits_KNC = torch.empty(len(nets), count, task.num_outputs)
    with evaluating(warm.model):
        for batch in task.train.batches(batch_size, rng, (view,)):
            row_B = row_U[batch.index]
            for which, (net, head) in enumerate(zip(nets, heads, strict=True)):
                logits, seen = _forward_with_features(net, head, batch.inputs)
                # Kept on the CPU: features of a whole training split need not fit beside the network on a GPU.
                logits_KNC[which, row_B] = logits.float().cpu()
                features[which][row_B] = seen.flatten(1).float().cpu()
            run.meter.count(forwards=len(batch.index))
    # Scores of NaN would select arbitrary samples.
    if not (logits_KNC.isfinite().all() and all(each.isfinite().all() for each in features)):
        raise FloatingPointError("the network's outputs are not finite on some training samples, so it has diverged")
    return WarmupOutputs(logits_KNC, tuple(features), task.train.labels.cpu())


def _forward_with_features(net: nn.Module, head: nn.Linear, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Returns (logits, input of the last linear layer)."""
    caught: list[Tensor] = []
    # A hook, because networks have no common method that gives their features.
    hook = head.register_forward_pre_hook(lambda layer, args: caught.append(args[0]))
    try:
        logits: Tensor = net(inputs)
    finally:
        hook.remove()
    return logits, caught[-1]


def _last_linear(pruner: str, net: nn.Module) -> nn.Linear:
    layers = [module for module in net.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise UserError(
            f"pruner '{pruner}' needs the features at a network's last linear layer, but this network has none; use pruner=uniform"
        )
    # Modules are listed in the order of registration, in which the head is the last linear layer.
    return layers[-1]


def num_kept(pruner: str, keep: float, count: int) -> int:
    """Returns the number of samples that the fraction `keep` of `count` is, at least one.

    Raises:
        UserError: `keep` is not in (0, 1].
    """
    if not 0 < keep <= 1:
        raise UserError(
            f"keep_fraction={keep} of pruner '{pruner}' must be above 0 and at most 1: the fraction of the training set to keep"
        )
    return max(1, round(keep * count))


def class_quotas(labels_N: Tensor, count: int) -> Tensor:
    """Divides `count` among the classes in proportion to their sizes, by largest remainders. Returns (C,) numbers."""
    sizes_C = labels_N.bincount().double()
    exact_C = sizes_C * count / len(labels_N)
    # Rounded down, and up for the largest remainders: no class is asked for more samples than it has.
    quota_C = exact_C.floor().long()
    rest = count - int(quota_C.sum())
    # Largest remainder first; of ties, the lower class.
    by_remainder = (quota_C.double() - exact_C).argsort(stable=True)
    quota_C[by_remainder[:rest]] += 1
    return quota_C


def highest(score_N: Tensor, count: int, labels_N: Tensor | None = None) -> Tensor:
    """Returns the indices of the `count` highest scores, with labels of each class's quota of them. Of ties the lower index comes first."""
    # Stable, so that ties are broken by position on every machine.
    order = score_N.argsort(descending=True, stable=True)
    if labels_N is None:
        return order[:count]
    quota_C = class_quotas(labels_N, count)
    return torch.cat([order[labels_N[order] == label][:quota] for label, quota in enumerate(quota_C.tolist())])


def keep_highest(
    pruner: str,
    task: Task,
    warm: Fitted,
    keep: float,
    run: Run,
    batch_size: int,
    score: Callable[[WarmupOutputs], Tensor],
    balance: bool = False,
) -> Selection:
    """Selects by a score: computes the outputs, scores the samples (N,) and keeps the highest, with `balance` by class.

    Raises:
        UserError: see `num_kept` and `collect_outputs`.
        FloatingPointError: see `collect_outputs`.
    """
    count = num_kept(pruner, keep, len(task.train))
    with run.meter("select"):
        outputs = collect_outputs(pruner, task, warm, batch_size, run)
        score_N = score(outputs)
        kept = highest(score_N, count, outputs.labels if balance else None)
    # Ascending, as every selection: it is a set, whatever order the samples were found in.
    return Selection(task.train.index[kept].sort().values, score_N)


def mean_over_networks(scores: Sequence[Tensor]) -> Tensor:
    """Returns the (N,) mean of the networks' scores."""
    return torch.stack(list(scores)).mean(0)

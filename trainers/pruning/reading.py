"""What selectors read off the network that was trained on all samples: its logits, and the inputs of its last linear layer.

Shapes: N samples, C classes, D features (of all networks of an ensemble side by side), K networks, B batch.
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
class Reading:
    """One pass over the training samples, in their order."""

    logits: Tensor  # (K, N, C), of each network
    features_of: tuple[Tensor, ...]  # K times (N, D), of each network
    labels: Tensor  # (N,) as given

    @property
    def probabilities(self) -> Tensor:
        """(N, C) float64, of the mean of the networks' logits, which is what an ensemble answers."""
        return self.logits.double().mean(0).softmax(1)

    @property
    def features(self) -> Tensor:
        """(N, D) the networks' features side by side."""
        return torch.cat(self.features_of, dim=1)

    def errors(self) -> Tensor:
        """(K, N, C) float64 p - y: the gradient of each sample's cross-entropy with respect to the logits, of each network."""
        p_KNC = self.logits.double().softmax(2)
        return p_KNC - functional.one_hot(self.labels, p_KNC.shape[2])


def read(pruner: str, task: Task, warm: Fitted, batch_size: int, run: Run, view: View = "plain") -> Reading:
    """One pass over `task.train` in evaluation mode, booked as forwards of the meter that is open.

    Raises:
        UserError: the task is a regression, or the network has no linear layer.
        FloatingPointError: an output is not finite: the network has diverged.
    """
    if task.kind != "classification":
        raise UserError(f"pruner '{pruner}' needs classes, but this task is a regression; use pruner=uniform")
    nets = list(warm.model.nets) if isinstance(warm.model, Ensemble) else [warm.model]
    heads = [_last_linear(pruner, net) for net in nets]
    count = len(task.train)
    place_U = torch.empty(task.train.universe, dtype=torch.int64)
    place_U[task.train.index] = torch.arange(count)
    rng = None if view == "plain" else stream(task.seed, "select", "view")
    features: list[Tensor] = [torch.empty(count, head.in_features) for head in heads]
    logits_KNC = torch.empty(len(nets), count, task.num_outputs)
    with evaluating(warm.model):
        for batch in task.train.batches(batch_size, rng, (view,)):
            place_B = place_U[batch.index]
            for which, (net, head) in enumerate(zip(nets, heads, strict=True)):
                logits, seen = _seen(net, head, batch.inputs)
                logits_KNC[which, place_B] = logits.float().cpu()
                features[which][place_B] = seen.flatten(1).float().cpu()
            run.meter.count(forwards=len(batch.index))
    if not (logits_KNC.isfinite().all() and all(each.isfinite().all() for each in features)):
        raise FloatingPointError("the network's outputs are not finite on some training samples, so it has diverged")
    return Reading(logits_KNC, tuple(features), task.train.labels.cpu())


def _seen(net: nn.Module, head: nn.Linear, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """(logits, what went into the last linear layer)."""
    caught: list[Tensor] = []
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
            f"pruner '{pruner}' reads what goes into a network's last linear layer, and this network has none; use pruner=uniform"
        )
    return layers[-1]


def share(pruner: str, keep: float, count: int) -> int:
    """How many of `count` samples the share `keep` is, at least one.

    Raises:
        UserError: `keep` is not in (0, 1].
    """
    if not 0 < keep <= 1:
        raise UserError(f"keep={keep} of pruner '{pruner}' must be above 0 and at most 1: the share of the training set to keep")
    return max(1, round(keep * count))


def quotas(labels_N: Tensor, count: int) -> Tensor:
    """(C,) how many of each class make `count` in the classes' own proportions: shares rounded down, the rest to the largest remainders."""
    sizes_C = labels_N.bincount().double()
    exact_C = sizes_C * count / len(labels_N)
    given_C = exact_C.floor().long()
    rest = count - int(given_C.sum())
    by_remainder = (given_C.double() - exact_C).argsort(stable=True)
    given_C[by_remainder[:rest]] += 1
    return given_C


def best(score_N: Tensor, count: int, labels_N: Tensor | None = None) -> Tensor:
    """The positions of the `count` highest scores (of each class's quota of them, given labels), ties to the lower position."""
    order = score_N.argsort(descending=True, stable=True)
    if labels_N is None:
        return order[:count]
    quota_C = quotas(labels_N, count)
    return torch.cat([order[labels_N[order] == label][:quota] for label, quota in enumerate(quota_C.tolist())])


def keep_highest(
    pruner: str, task: Task, warm: Fitted, keep: float, run: Run, batch_size: int, score: Callable[[Reading], Tensor], balance: bool = False
) -> Selection:
    """What a selector by scores does: reads the network, scores the samples (N,) and keeps the highest, by class where `balance`.

    Raises:
        UserError: see `share` and `read`.
        FloatingPointError: see `read`.
    """
    count = share(pruner, keep, len(task.train))
    with run.meter("select"):
        reading = read(pruner, task, warm, batch_size, run)
        score_N = score(reading)
        kept = best(score_N, count, reading.labels if balance else None)
    return Selection(task.train.index[kept].sort().values, score_N)


def joined(parts: Sequence[Tensor]) -> Tensor:
    """(N,) the mean of the networks' scores."""
    return torch.stack(list(parts)).mean(0)

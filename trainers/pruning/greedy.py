"""Prune4ReL's greedy maximisation, with similarities computed when they are needed: memory grows with N, not with N x N.

    u_i   = sum over kept s with sim(i, s) > tau of sim(i, s) c_s          the neighbourhood confidence, 0 at the start
    gain_i = tanh((u_i + c_i) / eta) - tanh(u_i / eta)
    keep the sample with the highest gain (of the class whose turn it is), update every u, and so on

The result is exact. A class's u is needed only when its turn comes, so the picks since its last turn are then added at once, as one matrix
product in blocks, which is cheaper than updating every u after every pick.

Gains are compared by their logarithms, in a form without cancellation: tanh(x + y) - tanh(x) = sinh(y) / (cosh(x + y) cosh(x)). The plain
difference is 0 for x above 19, and the order of the samples would decide.

Shapes: N samples, D features, R rows of a block, P samples kept since a class's last turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

ROWS, PICKS = 16_384, 1_024
"""Largest block of similarities in memory: 64 MiB in float32."""

UNEVEN = 1.5
"""Classes stop taking turns once one has contributed this many times the size of the first exhausted class."""

Similarity = Callable[[Tensor, Tensor], Tensor]
"""Features (R, D) and (P, D) -> similarities (R, P)."""


def cosine(one_RD: Tensor, other_PD: Tensor) -> Tensor:
    """Returns (1 + cos) / 2 of rows of length 1: (R, P) in [0, 1]."""
    return (one_RD @ other_PD.mT).add_(1).mul_(0.5)


def inverse_distance(one_RD: Tensor, other_PD: Tensor) -> Tensor:
    """Returns 1 / (d + 0.1) - 0.1 of Euclidean distances d: (R, P) in [0, 10]."""
    # By one product of matrices instead of all differences; rounding may leave squares below 0, hence the clamp.
    squares_RP = one_RD.square().sum(1, keepdim=True) + other_PD.square().sum(1) - 2 * one_RD @ other_PD.mT
    return (1 / (squares_RP.clamp_(min=0).sqrt_() + 0.1) - 0.1).clamp_(0, 10)


def log_gain(u: Tensor, c: Tensor) -> Tensor:
    """Returns log(tanh(u + c) - tanh(u)) for u, c >= 0 (both already divided by eta); -inf where c is 0."""
    # Only exponentials of negative numbers, so nothing overflows.
    log_sinh = c + torch.log(-torch.expm1(-2 * c)) - math.log(2)
    return log_sinh - _log_cosh(u + c) - _log_cosh(u)


def _log_cosh(x: Tensor) -> Tensor:
    return x + torch.log1p(torch.exp(-2 * x)) - math.log(2)


@dataclass
class _Class:
    """Samples that share a turn: rows first..last-1 of the sorted samples."""

    first: int
    last: int
    num_applied: int = 0  # picks that their u contains
    num_kept: int = 0

    @property
    def size(self) -> int:
        return self.last - self.first


class _Greedy:
    """The state of one selection, samples sorted by class."""

    def __init__(self, features_ND: Tensor, confidence_N: Tensor, similarity: Similarity, tau: float, eta: float) -> None:
        self.features, self.similarity, self.tau, self.eta = features_ND, similarity, tau, eta
        # u and gains in float64, where late gains still differ; similarities, which are most of the work, in the features' type.
        self.confidence = confidence_N.double()
        self.weight = confidence_N.to(features_ND.dtype)
        self.u = torch.zeros_like(self.confidence)
        self.log_gain = log_gain(self.u, self.confidence / eta)
        self.free = torch.ones(len(features_ND), dtype=torch.bool)
        self.picks: list[int] = []

    def pick(self, turn: _Class) -> None:
        """Keeps the free sample of the class with the highest gain."""
        self.update(turn)
        rows = slice(turn.first, turn.last)
        # Of ties argmax takes the first, as in the reference.
        chosen = turn.first + int(self.log_gain[rows].argmax())
        # All free samples have confidence 0 and gain -inf, as the kept ones have: keep the first that is free.
        if not self.free[chosen]:
            chosen = turn.first + int(self.free[rows].nonzero()[0])
        self.picks.append(chosen)
        self.free[chosen] = False
        self.log_gain[chosen] = -math.inf
        turn.num_kept += 1

    def update(self, turn: _Class) -> None:
        """Adds the samples kept since the class's last turn to its u."""
        new = torch.tensor(self.picks[turn.num_applied :], dtype=torch.int64)
        for picks_P in new.split(PICKS):
            kept_PD, weight_P = self.features[picks_P], self.weight[picks_P]
            for first in range(turn.first, turn.last, ROWS):
                rows = slice(first, min(first + ROWS, turn.last))
                sim_RP = self.similarity(self.features[rows], kept_PD)
                # In place: a block takes up to 64 MiB.
                sim_RP.masked_fill_(sim_RP <= self.tau, 0)
                added_R = (sim_RP @ weight_P).double()
                # Most u are unchanged, and their gains need not be recomputed.
                changed = first + added_R.nonzero().squeeze(1)
                self.u[changed] += added_R[changed - first]
                gains = log_gain(self.u[changed] / self.eta, self.confidence[changed] / self.eta)
                self.log_gain[changed] = gains.masked_fill(~self.free[changed], -math.inf)
        turn.num_applied = len(self.picks)


def greedy(
    features_ND: Tensor, confidence_N: Tensor, count: int, similarity: Similarity, tau: float, eta: float, labels_N: Tensor | None = None
) -> Tensor:
    """Returns (count,) indices in the order in which samples are kept.

    With labels, classes take turns, and an exhausted class drops out. When the second or a later class drops out and the next class has
    contributed more than `UNEVEN` times the size of the first one that did, turns end: from then on the best of all samples is kept.
    """
    # Sorted by class, so that a turn is a range of rows; stable, so that ties within a class still go to the lowest index.
    order = torch.arange(len(features_ND)) if labels_N is None else labels_N.argsort(stable=True)
    sorted_ND = features_ND if labels_N is None else features_ND[order]
    state = _Greedy(sorted_ND, confidence_N[order], similarity, tau, eta)
    everything = _Class(0, len(order))
    turns = [everything] if labels_N is None else _classes(labels_N)
    smallest: int | None = None
    turn = 0
    while len(state.picks) < count:
        # After the last class, or after the last class has dropped out.
        if turn >= len(turns):
            turn = 0
        current = turns[turn]
        if current.num_kept < current.size or current is everything:
            state.pick(current)
            turn += 1
            continue
        # The reference's rule: only from the second exhausted class on is unevenness looked at, and only of the class whose turn is next.
        del turns[turn]
        following = turns[turn % len(turns)]
        if smallest is None:
            smallest = current.size
        elif following.num_kept > UNEVEN * smallest:
            # Every u is brought up to date, so that the gains of all classes can be compared from now on. Classes that dropped out have no
            # free sample left.
            for each in turns:
                state.update(each)
            everything.num_applied, turns, turn = len(state.picks), [everything], 0
    return order[torch.tensor(state.picks, dtype=torch.int64)]


def _classes(labels_N: Tensor) -> list[_Class]:
    sizes = [size for size in labels_N.bincount().tolist() if size]
    ends = torch.tensor(sizes).cumsum(0).tolist()
    return [_Class(end - size, end) for size, end in zip(sizes, ends, strict=True)]

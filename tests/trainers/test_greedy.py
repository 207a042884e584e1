"""Prune4ReL's greedy step against loops over its definition."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from sap_core.errors import UserError
from trainers.pruning import greedy as module
from trainers.pruning.greedy import cosine, greedy, inverse_distance, log_gain
from trainers.pruning.prune4rel import Prune4ReL


def clustered(count=40, seed=3, dims=5):
    """Features in three narrow clusters, confidences, and labels that follow the clusters mostly."""
    draw = torch.Generator().manual_seed(seed)
    centres = torch.randn(3, dims, generator=draw, dtype=torch.float64)
    labels = torch.randint(0, 3, (count,), generator=draw)
    features = centres[labels] + 0.25 * torch.randn(count, dims, generator=draw, dtype=torch.float64)
    confidence = 0.3 + 0.7 * torch.rand(count, generator=draw, dtype=torch.float64)
    return features, confidence, torch.where(torch.rand(count, generator=draw) < 0.2, (labels + 1) % 3, labels)


def plain_similarity(metric, one, other):
    if metric == "cosine":
        return (1 + float(one @ other) / math.sqrt(float(one @ one) * float(other @ other))) / 2
    distance = math.sqrt(sum((float(a) - float(b)) ** 2 for a, b in zip(one, other, strict=True)))
    return min(10.0, max(0.0, 1 / (distance + 0.1) - 0.1))


def plain_greedy(features, confidence, count, metric, tau, eta, labels=None):
    """Computes every neighbourhood from its definition before every pick."""
    kept: list[int] = []
    turns = None if labels is None else sorted(set(labels.tolist()))
    sizes = None if labels is None else {label: labels.tolist().count(label) for label in turns}
    turn, first_gone = 0, None
    while len(kept) < count:
        candidates = [i for i in range(len(features)) if i not in kept]
        if turns is not None:
            turn %= len(turns)
            label = turns[turn]
            candidates = [i for i in candidates if int(labels[i]) == label]
            if not candidates:
                del turns[turn]
                following = turns[turn % len(turns)]
                if first_gone is None:
                    first_gone = sizes[label]
                elif sum(int(labels[i]) == following for i in kept) > 1.5 * first_gone:
                    turns = None
                continue
            turn += 1

        def gain(i):
            near = [(plain_similarity(metric, features[i], features[s]), float(confidence[s])) for s in kept]
            u = sum(sim * c for sim, c in near if sim > tau)
            return math.tanh((u + float(confidence[i])) / eta) - math.tanh(u / eta)

        kept.append(max(candidates, key=gain))
    return kept


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize(("metric", "tau"), [("cosine", 0.9), ("euclidean", 0.6)])
@pytest.mark.parametrize("eta", [1.0, 4.0])
def test_equals_the_definition(monkeypatch, metric, tau, eta, balanced):
    """All samples are kept in the end, so classes are exhausted and turns end; small blocks, so that there are several of each kind."""
    monkeypatch.setattr(module, "ROWS", 7)
    monkeypatch.setattr(module, "PICKS", 2)
    features, confidence, labels = clustered()
    order = labels if balanced else None
    ready, similarity = (functional.normalize(features, dim=1), cosine) if metric == "cosine" else (features, inverse_distance)
    found = greedy(ready, confidence, 25, similarity, tau, eta, order)
    assert found.tolist() == plain_greedy(features, confidence, 25, metric, tau, eta, order)
    near = torch.tensor([[plain_similarity(metric, a, b) > tau for b in features] for a in features])
    assert 0.05 < near.double().mean() < 0.6  # neighbourhoods are neither empty nor everything


def test_turns_end_when_classes_are_too_uneven():
    features, confidence, _ = clustered(60)
    labels = torch.tensor([0] * 3 + [1] * 6 + [2] * 21 + [3] * 30)
    found = greedy(functional.normalize(features, dim=1), confidence, 45, cosine, 0.9, 1.0, labels)
    assert found.tolist() == plain_greedy(features, confidence, 45, "cosine", 0.9, 1.0, labels)
    late = labels[found[20:]]
    assert (late[1:] == late[:-1]).any()  # nobody takes turns any more


def test_a_smaller_selection_is_the_beginning_of_a_larger_one_and_blocks_change_nothing(monkeypatch):
    features, confidence, labels = clustered(200)
    ready = functional.normalize(features.float(), dim=1)
    whole = greedy(ready, confidence, 120, cosine, 0.9, 1.0, labels)
    assert torch.equal(greedy(ready, confidence, 30, cosine, 0.9, 1.0, labels), whole[:30])
    monkeypatch.setattr(module, "ROWS", 13)
    assert torch.equal(greedy(ready, confidence, 120, cosine, 0.9, 1.0, labels), whole)


def test_gains_differ_where_tanh_has_saturated():
    u, c = torch.tensor([0.1, 2.0, 5.0], dtype=torch.float64), torch.tensor([0.9, 0.5, 0.3], dtype=torch.float64)
    torch.testing.assert_close(log_gain(u, c).exp(), (u + c).tanh() - u.tanh(), rtol=1e-10, atol=0)
    far = log_gain(torch.tensor([400.0, 400.0, 401.0], dtype=torch.float64), torch.tensor([0.5, 0.6, 0.6], dtype=torch.float64))
    assert far.isfinite().all()
    assert far[2] < far[0] < far[1]
    assert float(log_gain(torch.zeros(1), torch.zeros(1))) == -math.inf


def test_samples_without_confidence_come_last_in_their_order():
    features, confidence, _ = clustered(10)
    confidence[[2, 5]] = 0.0
    found = greedy(functional.normalize(features, dim=1), confidence, 10, cosine, 0.9, 1.0)
    assert found[-2:].tolist() == [2, 5]


def test_it_serves_the_objective_better_than_chance():
    """The sum over all samples of tanh of their neighbourhood confidence, which the greedy rule maximises."""
    features, confidence, _ = clustered(150)
    unit = functional.normalize(features, dim=1)
    sim = cosine(unit, unit)

    def objective(kept):
        return float(((sim * (sim > 0.9))[:, kept] @ confidence[kept]).tanh().sum())

    chance = [objective(torch.randperm(150, generator=torch.Generator().manual_seed(seed))[:15]) for seed in range(20)]
    assert objective(greedy(unit, confidence, 15, cosine, 0.9, 1.0)) > sum(chance) / len(chance) + 1


def test_a_threshold_without_effect_is_refused():
    with pytest.raises(UserError, match=r"pruner\.tau=0\.9 has no effect with pruner\.metric=euclidean"):
        Prune4ReL(metric="euclidean", tau=0.9)

"""Running one family of settings: needs, scores, divergence, early ends."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from sap_core.api import Need
from sap_core.evaluation.family import run_family
from sap_core.run import PlainRun


@dataclass(frozen=True)
class Scale:
    """Multiplies all weights by `factor`; settings come in reverse order."""

    name: ClassVar[str] = "scale"
    version: ClassVar[int] = 1
    log: ClassVar[list] = []
    factor: float
    asks: Need | None = None

    def needs(self):
        return frozenset() if self.asks is None else frozenset({self.asks})

    @classmethod
    def correct(cls, settings, model, task, run):
        walk = cls._walk(settings, model, task)
        cls.log.append(walk)  # somebody else holds it, so that dropping it does not close it
        return walk

    @classmethod
    def _walk(cls, settings, model, task):
        try:
            for which in reversed(range(len(settings))):
                cls.log.append(("granted", task.declared))
                corrected = copy.deepcopy(model)
                with torch.no_grad():
                    for parameter in corrected.parameters():
                        parameter.mul_(settings[which].factor)
                yield which, corrected
        finally:
            cls.log.append("closed")


@pytest.fixture
def model(toys):
    return toys.make_task().build(0).eval()


def first_weight(model, which):
    return {"val_noisy_acc": float(next(model.parameters()).detach().flatten()[0]), "which": which}


def test_outcomes_come_as_the_corrector_finishes_them_and_the_model_stays(toys, model):
    before = toys.weights(model)
    weight = float(next(model.parameters()).detach().flatten()[0])
    outcomes = list(run_family([Scale(2.0), Scale(3.0)], model, toys.make_task(), PlainRun(2), first_weight))
    assert [outcome.which for outcome in outcomes] == [1, 0]
    assert [outcome.scores["val_noisy_acc"] for outcome in outcomes] == pytest.approx([3 * weight, 2 * weight])
    toys.assert_same_bits(before, toys.weights(model))


@pytest.mark.parametrize("factor", [math.inf, math.nan])
def test_weights_that_are_not_finite_are_divergence_and_not_scored(toys, model, factor):
    scored = []

    def score(candidate, which):
        scored.append(which)
        return {}

    outcomes = {o.which: o for o in run_family([Scale(1.0), Scale(factor)], model, toys.make_task(), PlainRun(2), score)}
    assert "not finite (first in 'conv.weight')" in outcomes[1].diverged
    assert outcomes[1].scores == {}
    assert outcomes[0].diverged is None
    assert scored == [0]


def test_the_union_of_needs_is_granted_and_nothing_else(toys, model):
    Scale.log.clear()
    list(run_family([Scale(1.0), Scale(1.0, Need.FORGET)], model, toys.make_task(), PlainRun(2), first_weight))
    assert Scale.log[1] == ("granted", frozenset({Need.FORGET}))


def test_closing_early_closes_the_corrector(toys, model):
    Scale.log.clear()
    outcomes = run_family([Scale(1.0), Scale(2.0)], model, toys.make_task(), PlainRun(2), first_weight)
    next(outcomes)
    assert Scale.log[-1] != "closed"
    outcomes.close()
    assert Scale.log[-1] == "closed"


def test_a_score_that_fails_closes_the_corrector(toys, model):
    Scale.log.clear()

    def broken(candidate, which):
        raise RuntimeError("no disk")

    with pytest.raises(RuntimeError, match="no disk"):
        list(run_family([Scale(1.0)], model, toys.make_task(), PlainRun(), broken))
    assert Scale.log[-1] == "closed"

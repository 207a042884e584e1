"""A race chooses what the exhaustive search chooses."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from analysis.choose import best
from sap_core import evaluate
from sap_core.api import Stopped, Task
from sap_core.data.assemble import Prepared
from sap_core.data.samples import Preprocess, SampleView, TensorPixels
from sap_core.data.verified import Truth
from sap_core.evaluate import Evaluator
from sap_core.grid import run_family
from sap_core.race import race_family
from sap_core.records import RACE_RULES
from sap_core.run import PlainRun

CPU = torch.device("cpu")


class Table(nn.Module):
    """Answers from a table: input i is the one-hot row i, and its logits stand in row i."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, inputs):
        return inputs @ self.logits


@dataclass(frozen=True)
class Listed:
    """A corrector whose corrected networks are given beforehand; `order` is the order in which they are ready."""

    name: ClassVar[str] = "listed"
    version: ClassVar[int] = 1
    tables: ClassVar[list] = []
    order: ClassVar[list] = []
    breaks_after: ClassVar[int | None] = None
    which: int = 0

    def needs(self):
        return frozenset()

    @classmethod
    def correct(cls, settings, model, task, run):
        network = Table(torch.zeros_like(model.logits))
        for number, which in enumerate(cls.order):
            if number == cls.breaks_after:
                raise FloatingPointError("the rest has diverged")
            with torch.no_grad():
                network.logits.copy_(cls.tables[which])  # on loan: the next one overwrites it
            yield which, network


def world(base_NC, labels_N, right_N):
    """A baseline, an evaluator and a task whose validation set is all there is."""
    count = len(labels_N)
    view = SampleView(TensorPixels(torch.eye(count)), torch.arange(count), labels_N, Preprocess(), CPU)
    truth = torch.where(right_N, labels_N, (labels_N + 1) % base_NC.shape[1])
    task = Task(view, view, lambda k: Table(base_NC), "classification", base_NC.shape[1], 1, CPU, verified_source=lambda need, n: view)
    dataset = SimpleNamespace(classes=SimpleNamespace(num=base_NC.shape[1]), shape=(count,))
    prepared = Prepared(task, Truth(truth), view, view, view, dataset, 0.5, None)
    return Table(base_NC).eval(), Evaluator(prepared, batch_size=64), task


def raced(tables, base, labels, right, rule, order=None, breaks_after=None, check_stop=lambda: None):
    """(outcomes by position, chosen position, run, positions reported) of a race; FloatingPointError is its end."""
    model, evaluator, task = world(base, labels, right)
    run, reported, outcomes = PlainRun(len(tables)), [], []
    Listed.tables, Listed.order, Listed.breaks_after = tables, order or list(range(len(tables))), breaks_after

    def report(quick, which):
        reported.append(which)
        return {"test_acc": 0.25}

    family = [Listed(which) for which in range(len(tables))]
    evaluator.compare_with(model, "base")
    try:
        outcomes += race_family(family, model, task, run, evaluator, rule, report, check_stop)
    except FloatingPointError:
        assert breaks_after is not None
    return outcomes, run, reported


def exhaustive(tables, base, labels, right, rule, order=None, breaks_after=None):
    """(chosen position or None, scores by position) by the full evaluation and the selection rule of the reports."""
    model, evaluator, task = world(base, labels, right)
    Listed.tables, Listed.order, Listed.breaks_after = tables, order or list(range(len(tables))), breaks_after
    run = PlainRun(len(tables))
    scores = [float("nan")] * len(tables)
    try:
        family = [Listed(which) for which in range(len(tables))]
        for outcome in run_family(family, model, task, run, lambda candidate, which: evaluator.tuned(candidate, run.meter, which)):
            scores[outcome.which] = float("nan") if outcome.diverged else outcome.scores[RACE_RULES[rule]]
    except FloatingPointError:
        assert breaks_after is not None
    return best(evaluator.tuned(model, run.meter, 0)[RACE_RULES[rule]], scores), scores


@st.composite
def families(draw):
    """Logits of a baseline and of settings that change a growing share of its answers, for the better, for the worse or first the one."""
    rng = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    count, num, classes = draw(st.integers(1, 150)), draw(st.integers(1, 8)), draw(st.integers(2, 4))
    labels = torch.randint(0, classes, (count,), generator=rng)
    right = torch.rand(count, generator=rng) < draw(st.sampled_from([0.5, 0.8, 1.0]))
    right[0] = True
    levels = draw(st.sampled_from([2, 3, 100]))  # few levels of logits make ties inside the logits
    wrong_share = draw(st.sampled_from([0.0, 0.3, 0.9]))

    def logits(share_right):
        answers = torch.where(torch.rand(count, generator=rng) < share_right, labels, torch.randint(0, classes, (count,), generator=rng))
        noise = torch.randint(0, levels, (count, classes), generator=rng).float() / levels
        return noise + torch.nn.functional.one_hot(answers, classes)

    base = logits(1 - wrong_share)
    shape = draw(st.sampled_from(["interior", "worse", "copies", "any"]))
    tables = []
    for which in range(num):
        change = torch.rand(count, generator=rng) < (which + 1) / num
        quality = {"interior": 1 - abs(which - num / 2) / num, "worse": 0.0, "copies": 0.5, "any": draw(st.floats(0, 1))}[shape]
        tables.append(torch.where(change.view(-1, 1), logits(quality), base))
    if shape == "copies":
        tables = [tables[which % 2].clone() for which in range(num)]
    for which in draw(st.sets(st.integers(0, num - 1), max_size=2)):
        tables[which][0, 0] = torch.inf if which % 2 else torch.nan
    order = draw(st.permutations(range(num)))
    return tables, base, labels, right, draw(st.sampled_from(sorted(RACE_RULES))), order, draw(st.sampled_from([None, None, 0, 1, num]))


@settings(max_examples=150)
@given(families())
def test_the_choice_and_its_score_are_the_exhaustive_ones(family):
    tables, _, labels, right, rule, order, breaks_after = family
    chosen, scores = exhaustive(*family)
    outcomes, run, reported = raced(*family)
    yielded = order if breaks_after is None else order[:breaks_after]
    assert sorted(outcome.which for outcome in outcomes) == sorted(yielded)
    column, counted = RACE_RULES[rule], len(labels) if rule == "val_noisy" else int(right.sum())
    finished = [outcome for outcome in outcomes if column in outcome.scores]
    assert (finished[-1].which if finished else None) == chosen
    assert reported == [] if chosen is None else reported == [chosen]
    for outcome in outcomes:
        sound = bool(tables[outcome.which].isfinite().all())
        assert bool(outcome.diverged) == (not sound)
        if not sound:
            assert outcome.scores == {}
        elif column in outcome.scores:
            assert outcome.scores[column] == scores[outcome.which]
            assert outcome.scores["images_evaluated"] == counted
            assert set(outcome.scores) == {column, "images_evaluated", *(["test_acc"] if outcome.which == chosen else [])}
        else:
            assert set(outcome.scores) == {"images_evaluated"}
            assert 0 <= outcome.scores["images_evaluated"] <= counted
    looked = dict.fromkeys(range(len(tables)), 0)
    for piece in run.meter.pieces:
        assert piece.phase == "evaluate"
        if len(piece.used_by) == 1 and len(tables) > 1:
            looked[piece.used_by[0]] += piece.forwards
    if len(tables) > 1:
        assert looked == dict.fromkeys(looked, 0) | {o.which: o.scores.get("images_evaluated", 0) for o in outcomes}


def plain_case():
    labels = torch.zeros(640, dtype=torch.int64)
    base = labels.clone()
    base[:64] = 1
    good, bad, unchanged = labels.clone(), torch.ones_like(labels), base.clone()
    tables = [torch.nn.functional.one_hot(answers, 2).float() for answers in (bad, unchanged, good, good)]
    return tables, torch.nn.functional.one_hot(base, 2).float(), labels, torch.ones(640, dtype=torch.bool)


def test_hopeless_settings_stop_early_and_a_tie_goes_to_the_earlier():
    outcomes, _, reported = raced(*plain_case(), "val_noisy")
    assert [(outcome.which, outcome.scores.get("val_noisy_acc"), outcome.scores["images_evaluated"]) for outcome in outcomes] == [
        (0, None, 64), (1, None, 64), (3, None, 64), (2, 1.0, 640),
    ]  # fmt: skip
    assert reported == [2]


def test_batches_read_anew_race_alike(monkeypatch):
    first, _, _ = raced(*plain_case(), "val_noisy")
    monkeypatch.setattr(evaluate, "_CACHED_VALUES", 0)
    second, _, _ = raced(*plain_case(), "val_noisy")
    assert first == second


@pytest.mark.parametrize("allowed", [0, 2, 4, 5])
def test_a_stop_request_is_honoured_in_both_phases(allowed):
    asked = []

    def check_stop():
        asked.append(1)
        if len(asked) > allowed:
            raise Stopped("stop")

    with pytest.raises(Stopped):
        raced(*plain_case(), "val_noisy", check_stop=check_stop)


def test_a_race_needs_to_know_the_unmodified_network_and_does_not_pay_for_it():
    _, run, _ = raced(*plain_case(), "val_noisy")
    assert all(len(piece.used_by) == 1 for piece in run.meter.pieces if piece.phase == "evaluate")
    model, evaluator, task = world(*plain_case()[1:])
    with pytest.raises(AssertionError, match="compare_with comes first"):
        list(race_family([Listed(0)], model, task, PlainRun(1), evaluator, "val_noisy", lambda quick, which: {}, lambda: None))

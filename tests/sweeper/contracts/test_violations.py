"""Every violation of a contract is found, by the check that tests for it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest
import torch

from sap_core.api import Fitted, Need, Passes, Selection
from sap_core.run import PlainRun
from sweeper.contracts.common import CheckFailed
from sweeper.contracts.correctors import CORRECTOR_CHECKS, CorrectorCase
from sweeper.contracts.pruners import PRUNER_CHECKS, PrunerCase
from sweeper.contracts.trainers import TRAINER_CHECKS, TrainerCase
from trainers.sgd import SGD

RECIPE = SGD(epochs=2, learning_rate=0.05, batch_size=16, schedule="constant")

DATA_FREE = ("without data", "passes that nobody counts")


@dataclass(frozen=True)
class Shrink:
    """Multiplies all weights by `factor`, or violates one check."""

    name: ClassVar[str] = "shrink"
    version: ClassVar[int] = 1
    calls: ClassVar[list] = []
    how: str = "well"
    factor: float = 0.9

    def needs(self):
        if self.how == "declares too much" or (self.how == "needs differ in a family" and self.factor < 0.85):
            return frozenset({Need.RETAIN})
        return frozenset()

    def selects_samples(self):
        return self.how == "selects"

    def family(self):
        return self.how

    def computation(self):
        return "same" if self.how == "claims equality" else self

    @classmethod
    def correct(cls, settings, model, task, run):
        how = settings[0].how
        cls.calls.append(how)
        if how == "reads undeclared":
            task.verified(Need.FORGET, 3)
        if how == "draws":
            torch.rand(1)
        if how == "crashes":
            raise RuntimeError("no such layer")
        if how == "says it diverged":
            raise FloatingPointError("too large")
        for which, setting in enumerate(settings[:-1] if how == "drops one" else settings):
            corrected = model if how == "changes the model" else copy.deepcopy(model)
            with run.meter("correct", used_by=[which]), torch.no_grad():
                for parameter in corrected.parameters():
                    parameter.mul_(setting.factor)
                if how == "other when alone":
                    corrected.head.bias += len(settings)
                if how == "other every time":
                    corrected.head.bias += len(cls.calls)
                if how == "outputs not finite":
                    corrected.head.weight.fill_(3e38)
                if how == "renames":
                    corrected.extra = torch.nn.Linear(2, 2)
                if how == "passes that nobody counts":
                    corrected(next(iter(task.train.batches(8))).inputs)
                if how != "records nothing" and how not in DATA_FREE:
                    run.meter.count(forwards=len(task.train))
            if how in ("selects", "selects without saying so"):
                run.report_trusted(task.train.index[:4], [which])
            yield which, corrected

    @classmethod
    def forecast(cls, settings, sizes):
        if settings[0].how in DATA_FREE:
            return Passes()
        return Passes(forwards=sizes.train * (1 if settings[0].how == "forecasts too little" else len(settings)))


@pytest.mark.parametrize("how", ["well", "says it diverged", "without data", "selects"])
def test_a_valid_corrector_passes_all(network, how, failures_of):
    case = CorrectorCase(((Shrink(how, 0.9), Shrink(how, 0.8)),), *network)
    assert failures_of(CORRECTOR_CHECKS, case) == {}


@pytest.mark.parametrize(
    ("how", "check", "said"),
    [
        ("drops one", "it yields every setting of a family once", r"2 settings yielded the indices \[0\]"),
        ("changes the model", "it does not modify", "was modified"),
        ("draws", "it does not modify", "global generator"),
        ("renames", "a corrected network has the same names", "'extra.bias' is"),
        ("outputs not finite", "weights and outputs are finite", "outputs that are not finite"),
        ("other every time", "the same seed gives the same weights", "differ when it is rerun"),
        ("other when alone", "a setting has the same weights", "differ when it runs alone"),
        ("claims equality", "settings with equal computation()", "but differ"),
        ("reads undeclared", "it reads the verified samples", "without being declared"),
        ("declares too much", "it reads the verified samples", "does not read them"),
        ("needs differ in a family", "it declares whether it selects", "differ in needs"),
        ("selects without saying so", "it declares whether it selects", r"add the method selects_samples\(self\)"),
        ("records nothing", "it records seconds and all passes", "no passes are recorded"),
        (
            "passes that nobody counts",
            "it records seconds and all passes",
            "calls the network's modules 5 times, but records no passes",
        ),
        ("forecasts too little", "forecast() equals the recorded passes", "forecasts 80 forwards and 0 backwards, but 160 forwards"),
    ],
)
def test_violations_of_a_corrector_are_found(network, how, check, said, failures_of):
    model, task = network
    case = CorrectorCase(((Shrink(how, 0.9), Shrink(how, 0.8)),), copy.deepcopy(model), task)
    (text,) = [one.description for one in CORRECTOR_CHECKS if one.description.startswith(check)]
    found = failures_of(CORRECTOR_CHECKS, case)
    assert isinstance(found[text], CheckFailed) or how == "drops one"
    with pytest.raises(CheckFailed, match=said):
        raise found[text]


@dataclass(frozen=True)
class Trains:
    """SGD, or a trainer that violates one check."""

    name: ClassVar[str] = "trains"
    version: ClassVar[int] = 1
    calls: ClassVar[list] = []
    how: str = "well"
    listed: list = field(default_factory=list, hash=False)

    def fit(self, task, run):
        self.calls.append(self.how)
        if self.how == "reads true labels":
            task = task.allow(frozenset({Need.TRUE_LABELS}))
            task = replace(task, train=task.verified(Need.TRUE_LABELS))
        if self.how == "does not resume":
            run.saved_state = lambda: None
        fitted = RECIPE.fit(task, PlainRun() if self.how == "records nothing" else run)
        with torch.no_grad():
            if self.how == "other every time":
                fitted.model.head.bias += len(self.calls)
        if self.how == "draws":
            torch.rand(1)
        if self.how == "short table":
            return Fitted(fitted.model, {"memory": torch.zeros(3)})
        return fitted

    def forecast(self, sizes):
        return RECIPE.forecast(replace(sizes, train=1) if self.how == "forecasts too little" else sizes)


@pytest.mark.parametrize(
    ("how", "check", "said"),
    [
        ("reads true labels", "the same seed", "verified samples"),
        ("draws", "it does not modify the given samples", "global generator"),
        ("short table", "it trains the task's networks", r"per_sample\['memory'\] has 3 entries; the universe has 80"),
        ("other every time", "the same seed", "differ when it is rerun"),
        ("records nothing", "it records seconds and passes", "no seconds or no passes"),
        ("forecasts too little", "it records at most", "forecasts 2 forwards and 2 backwards, but 160 forwards"),
        ("does not resume", "it gives the same weights and curve when resumed", "after epoch 1 and resumed"),
    ],
)
def test_violations_of_a_trainer_are_found(toys, how, check, said, failures_of):
    found = failures_of(TRAINER_CHECKS, TrainerCase(Trains(how), toys.make_task("dropout")))
    (text,) = [one.description for one in TRAINER_CHECKS if one.description.startswith(check)]
    with pytest.raises(CheckFailed, match=said):
        raise found[text]


def test_a_valid_trainer_passes_all(toys, failures_of):
    assert failures_of(TRAINER_CHECKS, TrainerCase(Trains(), toys.make_task("dropout"))) == {}


@dataclass(frozen=True)
class Keeps:
    name: ClassVar[str] = "keeps"
    version: ClassVar[int] = 1
    calls: ClassVar[list] = []
    how: str = "well"

    def select(self, task, warm, keep, run):
        self.calls.append(1)
        count = round(keep * len(task.train)) - (self.how == "too few")
        start = len(self.calls) % 7 if self.how == "other every time" else 0
        if self.how == "changes the model":
            with torch.no_grad():
                warm.model.head.bias += 1
        return Selection(task.train.index[start : start + count], torch.zeros(3 if self.how == "short score" else len(task.train)))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("too few", "it keeps 23, not 24"),
        ("short score", "it scores 3 samples; the training set has 80"),
        ("other every time", "selects other samples when it is rerun"),
        ("changes the model", "was modified"),
    ],
)
def test_violations_of_a_pruner_are_found(network, how, said, failures_of):
    model, task = network
    found = failures_of(PRUNER_CHECKS, PrunerCase(Keeps(how), Fitted(copy.deepcopy(model)), task))
    assert len(found) == 1
    with pytest.raises(CheckFailed, match=said):
        raise next(iter(found.values()))
    assert failures_of(PRUNER_CHECKS, PrunerCase(Keeps(), Fitted(model), task)) == {}

"""A corrector, trainer or pruner that changes its inputs in place fails the check of its inputs, and no other."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from sap_core.api import Fitted, Passes, Selection
from sweeper.contracts.common import CheckFailed
from sweeper.contracts.correctors import CORRECTOR_CHECKS, CorrectorCase
from sweeper.contracts.pruners import PRUNER_CHECKS, PrunerCase
from sweeper.contracts.trainers import TRAINER_CHECKS, TrainerCase
from trainers.sgd import SGD

RECIPE = SGD(epochs=2, learning_rate=0.05, batch_size=16, schedule="constant")


def change(what, task, model=None):
    """A change in place that shows once only: repeated, it changes nothing."""
    if what == "network":
        with torch.no_grad():
            model.head.bias.zero_()
    elif what == "training labels":
        task.train.labels.zero_()
    elif what == "training indices":
        task.train.index[1] = task.train.index[0]
    elif what == "training images":
        # toys.breaking holds the samples in `inner`.
        getattr(task.train, "inner", task.train).pixels.tensor.zero_()
    elif what == "validation labels":
        task.val.labels.zero_()


@dataclass(frozen=True)
class ChangesOnce:
    """A corrector, trainer and pruner in one, which changes its inputs in place."""

    name: ClassVar[str] = "changes_once"
    version: ClassVar[int] = 1
    what: str

    def needs(self):
        return frozenset()

    def family(self):
        return self.what

    def computation(self):
        return self

    @classmethod
    def correct(cls, settings, model, task, run):
        for which, setting in enumerate(settings):
            with run.meter("correct", used_by=[which]):
                change(setting.what, task, model)
            yield which, model if setting.what == "network" else copy.deepcopy(model)

    def fit(self, task, run):
        change(self.what, task)
        return RECIPE.fit(task, run)

    def select(self, task, warm, keep, run):
        change(self.what, task, warm.model)
        if self.what == "table":
            warm.per_sample["forgotten"].zero_()
        return Selection(task.train.index[-round(keep * len(task.train)) :], torch.zeros(len(task.train)))


class ChangingCorrector(ChangesOnce):
    @classmethod
    def forecast(cls, settings, sizes):
        return Passes()


class ChangingTrainer(ChangesOnce):
    def forecast(self, sizes):
        return RECIPE.forecast(sizes)


def spoilt(what):
    return {"network": "the given network was modified", "table": "a table of the given network was modified"}.get(
        what, f"the given {'labels or indices' if 'images' not in what else 'images'} of the {what.split()[0]} set were modified"
    )


SAMPLES = ("training labels", "training indices", "training images", "validation labels")


@pytest.mark.parametrize("what", ["network", *SAMPLES])
def test_a_change_in_place_that_repeats_unseen_fails_that_check_of_a_corrector_alone(network, toys, what, failures_of):
    case = CorrectorCase(((ChangingCorrector(what),),), copy.deepcopy(network[0]), toys.make_task("batch_norm"))
    only_the_check_of_inputs_fails(failures_of, CORRECTOR_CHECKS, case, what)


@pytest.mark.parametrize("what", SAMPLES)
def test_a_change_in_place_that_repeats_unseen_fails_that_check_of_a_trainer_alone(toys, what, failures_of):
    only_the_check_of_inputs_fails(failures_of, TRAINER_CHECKS, TrainerCase(ChangingTrainer(what), toys.make_task("dropout")), what)


@pytest.mark.parametrize("what", ["network", "table", *SAMPLES])
def test_a_change_in_place_that_repeats_unseen_fails_that_check_of_a_pruner_alone(network, toys, what, failures_of):
    warm = Fitted(copy.deepcopy(network[0]), {"forgotten": torch.ones(80)})
    only_the_check_of_inputs_fails(failures_of, PRUNER_CHECKS, PrunerCase(ChangesOnce(what), warm, toys.make_task("batch_norm")), what)


def only_the_check_of_inputs_fails(failures_of, checks, case, what):
    ((description, error),) = failures_of(checks, case).items()
    assert description.startswith("it does not modify the given")
    with pytest.raises(CheckFailed, match=spoilt(what)):
        raise error

"""The contract checks of trainers and pruners, applied to every file of `conf/trainer` and `conf/pruner`."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sap_core.api import Pruner, Trainer
from sap_core.run import PlainRun
from sweeper.config.component import parse_component
from sweeper.config.compose import compose_all
from sweeper.contracts.pruners import PRUNER_CHECKS, PrunerCase
from sweeper.contracts.small import small_recipe
from sweeper.contracts.trainers import TRAINER_CHECKS, TrainerCase
from trainers.sgd import SGD

CONF = Path(__file__).parents[2] / "conf"
TRAINERS = sorted(
    path.stem for path in (CONF / "trainer").glob("*.yaml") if path.stem != "given"
)  # given: tests/trainers/test_pretrained.py
PRUNERS = sorted(path.stem for path in (CONF / "pruner").glob("*.yaml") if path.stem != "none")


KINDS = ("sgd", "mixup", "coteaching", "dividemix", "elr_plus")
"""Trainers that stand for the others in make test: the plain one, mixed inputs, two networks, a mixture, a table per sample."""


def trainers():
    return [pytest.param(name, marks=[] if name in KINDS else [pytest.mark.slow]) for name in TRAINERS]


def file(group, name):
    return yaml.safe_load((CONF / group / f"{name}.yaml").read_text())


@pytest.fixture(scope="module")
def trainer_case(toys):
    """trainer_case(trainer, network): on the toys; run once for all checks."""
    made = {}

    def make(name, net):
        if (name, net) not in made:
            (cell,) = compose_all([f"trainer={name}", "cells=[{}]"]).cells
            given = {key: value for key, value in cell["trainer"].items() if key != "preprocess"}
            made[name, net] = TrainerCase(
                parse_component(small_recipe(given), "trainer", Trainer).instance, toys.make_task(net, augment="flip")
            )
        return made[name, net]

    return make


@pytest.fixture(scope="module")
def pruner_case(toys):
    made = {}

    def make(name):
        if name not in made:
            task = toys.make_task(augment="flip")
            warm = SGD(epochs=2, learning_rate=0.05, batch_size=16, schedule="constant").fit(task, PlainRun())
            made[name] = PrunerCase(parse_component(file("pruner", name), "pruner", Pruner).instance, warm, task)
        return made[name]

    return make


@pytest.mark.parametrize("name", trainers())
@pytest.mark.parametrize("check", TRAINER_CHECKS, ids=str)
def test_a_trainer_passes_its_checks(trainer_case, name, check):
    check.run(trainer_case(name, "dropout"))


@pytest.mark.parametrize("name", PRUNERS)
@pytest.mark.parametrize("check", PRUNER_CHECKS, ids=str)
def test_a_pruner_passes_its_checks(pruner_case, name, check):
    check.run(pruner_case(name))

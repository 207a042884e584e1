"""The contract checks of correctors, applied to every file of `conf/method` and every space in it."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import pytest
import yaml

from sap_core.api import Corrector, Sizes
from sap_core.construct import locate
from sweeper.config.component import parse_component
from sweeper.config.search_space import SearchSpace
from sweeper.contracts.check import corrector_case
from sweeper.contracts.correctors import CORRECTOR_CHECKS
from sweeper.contracts.small import families, small_settings
from trainers.sgd import SGD

HAS_CLEANLAB = importlib.util.find_spec("cleanlab") is not None
METHODS = {path.stem: path for path in sorted((Path(__file__).parents[2] / "conf" / "method").glob("*.yaml"))}
RECIPE = parse_component(
    {"_target_": "trainers.sgd.SGD", "epochs": 2, "learning_rate": 0.05, "batch_size": 16, "schedule": "constant"}, "trainer", object
)


def cases():
    """(method, space) for every space of every file; make test checks each method on its first space."""
    found = []
    for name in METHODS:
        if name != "confident_learning" or HAS_CLEANLAB:
            first, *others = yaml.safe_load(METHODS[name].read_text())["spaces"]
            found += [(name, first), *(pytest.param(name, space, marks=pytest.mark.slow) for space in others)]
    return found


@pytest.fixture(scope="module")
def task(toys):
    return toys.make_task("batch_norm", augment="flip")


@pytest.fixture(scope="module")
def case_of(task):
    """case_of(method, space): settings spread over the space, on a noisy network; run once for all checks."""
    made = {}

    def make(name, space):
        if (name, space) not in made:
            file = yaml.safe_load(METHODS[name].read_text())
            made[name, space] = corrector_case(file["corrector"], SearchSpace.parse(space, file["spaces"][space] or {}), RECIPE, task)
        return made[name, space]

    return make


def test_there_are_method_files():
    assert {"retrain", "finetune", "scrub", "ssd", "cf_k", "eu_k", "relabel"} <= METHODS.keys()


def test_names_equal_file_names():
    assert [name for name, path in METHODS.items() if yaml.safe_load(path.read_text())["name"] != name] == []


@pytest.mark.parametrize(("name", "space"), cases())
@pytest.mark.parametrize("check", CORRECTOR_CHECKS, ids=str)
def test_check_passes(case_of, name, space, check):
    check.run(case_of(name, space))


@pytest.mark.parametrize(
    ("name", "space", "count", "jobs"),
    [
        ("scrub", "grid_a", 675, 45),
        ("scrub", "grid_b", 675, 225),
        ("ssd", "grid", 50, 1),
        ("scrub", "rewind", 15, 5),
        ("scrub_steps", "benchmark", 8, 8),
        ("finetune", "grid", 12, 3),
        ("cf_k", "grid", 36, 9),
        ("eu_k", "grid", 27, 9),
        ("bad_teacher", "grid", 15, 5),
        ("neggrad", "grid", 36, 12),
        ("amnesiac", "grid", 15, 5),
        ("salun", "grid", 27, 9),
        ("fisher", "grid", 9, 1),
        ("loss_filter", "retrain", 4, 4),
        ("loss_filter", "finetune", 16, 4),
        ("relabel", "finetune", 8, 2),
        ("confident_learning", "finetune", 4, 1),
        ("retrain", "only", 1, 1),
    ],
)
def test_shipped_spaces_have_their_sizes_and_no_setting_twice(name, space, count, jobs):
    file = yaml.safe_load(METHODS[name].read_text())
    fixed = dict(file["corrector"])
    kind = locate(fixed.pop("_target_"))
    if "recipe" in {field.name for field in dataclasses.fields(kind)}:
        fixed["recipe"] = SGD()
    settings = [kind(**values) for values in small_settings(fixed, SearchSpace.parse(space, file["spaces"][space] or {}), scale=False)]
    assert all(isinstance(setting, Corrector) for setting in settings)
    assert len(settings) == count
    assert len({setting.computation() for setting in settings}) == count
    assert len(families(settings)) == jobs


@pytest.mark.parametrize(("name", "space"), cases())
def test_scored_samples_need_nothing_verified_and_are_paid_for(case_of, toys, name, space):
    """One scoring pass, in phase select, in addition to the cost with verified samples; and the selection is reported."""
    case = case_of(name, space)
    told = case.families[0]
    if "source" not in {field.name for field in dataclasses.fields(told[0])}:
        return
    settings = [dataclasses.replace(setting, source="scored") for setting in told]
    assert settings[0].needs() == frozenset()
    assert settings[0].family() != told[0].family()
    found, run = case.run(settings)
    assert sorted(found) == list(range(len(settings)))
    assert [(piece.forwards, piece.backwards) for piece in run.meter.records if piece.phase == "select"] == [(len(case.task.train), 0)]
    sizes = Sizes(len(case.task.train), len(case.task.val), case.task.num_outputs)
    assert type(settings[0]).forecast(settings, sizes).forwards == type(told[0]).forecast(told, sizes).forwards + len(case.task.train)
    assert len(run.trusted_sets[0]) == settings[0].num_retain

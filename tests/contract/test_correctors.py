"""What every corrector promises, held over every method file and every space in it. A new `conf/method/*.yaml` joins by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sap_core.api import Corrector
from sap_core.construct import locate
from sweeper.check import corrector_case
from sweeper.contracts.correctors import CORRECTOR
from sweeper.contracts.small import families, small_settings
from sweeper.declared import declare
from trainers.sgd import SGD

METHODS = {path.stem: path for path in sorted((Path(__file__).parents[2] / "conf" / "method").glob("*.yaml"))}
RECIPE = declare(
    {"_target_": "trainers.sgd.SGD", "epochs": 2, "learning_rate": 0.05, "batch_size": 16, "schedule": "constant"}, "trainer", object
)


def cases():
    """(method, space) for every space of every file."""
    return [(name, space) for name, path in METHODS.items() for space in yaml.safe_load(path.read_text())["spaces"]]


@pytest.fixture(scope="module")
def task(toys):
    return toys.make_task("batch_norm", augment="flip")


@pytest.fixture(scope="module")
def case_of(task):
    """case_of(method, space): settings from all over the space on a noisy network; run once for all promises."""
    made = {}

    def make(name, space):
        if (name, space) not in made:
            file = yaml.safe_load(METHODS[name].read_text())
            made[name, space] = corrector_case(file["corrector"], file["spaces"][space], RECIPE, task)
        return made[name, space]

    return make


def test_there_are_method_files():
    assert {"retrain", "finetune", "scrub", "ssd"} <= METHODS.keys()


@pytest.mark.parametrize("name", METHODS)
def test_file_names_itself(name):
    assert yaml.safe_load(METHODS[name].read_text())["name"] == name


@pytest.mark.parametrize(("name", "space"), cases())
@pytest.mark.parametrize("promise", CORRECTOR, ids=str)
def test_promise_is_kept(case_of, name, space, promise):
    promise.check(case_of(name, space))


@pytest.mark.parametrize(
    ("name", "space", "count", "jobs"),
    [
        ("scrub", "grid_a", 675, 45),
        ("scrub", "grid_b", 675, 225),
        ("ssd", "grid", 50, 1),
        ("finetune", "grid", 12, 3),
        ("retrain", "only", 1, 1),
    ],
)
def test_shipped_spaces_have_their_sizes_and_no_setting_twice(name, space, count, jobs):
    file = yaml.safe_load(METHODS[name].read_text())
    fixed = {**file["corrector"], **({"recipe": SGD()} if name == "retrain" else {})}
    kind = locate(fixed.pop("_target_"))
    settings = [kind(**values) for values in small_settings(fixed, file["spaces"][space], scale=False)]
    assert all(isinstance(setting, Corrector) for setting in settings)
    assert len(settings) == count
    assert len({setting.computation() for setting in settings}) == count
    assert len(families(settings)) == jobs

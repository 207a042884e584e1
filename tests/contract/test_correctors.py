"""What every corrector promises, held over every method file and every space in it. A new `conf/method/*.yaml` joins by itself."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import importlib.util
import itertools
import math
from collections import defaultdict
from pathlib import Path

import pytest
import torch
import yaml

from sap_core.api import Corrector, Need, Sizes, UndeclaredNeed
from sap_core.cost import tuning
from sap_core.run import PlainRun
from trainers.sgd import SGD

METHODS = {path.stem: path for path in sorted((Path(__file__).parents[2] / "conf" / "method").glob("*.yaml"))}
RECIPE = SGD(epochs=2, learning_rate=0.05, batch_size=16, schedule="constant")
SPREAD = 5  # settings per space, from its first to its last
LIMITS = {"num_forget": 10}  # other counts of samples are scaled down to 24
BATCH = 8
MOST = {"k": 3, "steps": 14, "msteps": 6, "folds": 2, "epochs": 6}  # other limits: the toys have three layers, and tests little time
UPPER_BOUNDS = {"confident_learning"}  # methods whose forecast cannot know how many samples they will keep
HAS_CLEANLAB = importlib.util.find_spec("cleanlab") is not None


def choices(word):
    """A few values of one entry of a space: all that a list names, the ends of an interval."""
    ((kind, values),) = word.items()
    assert kind in {"grid", "choice", "uniform", "loguniform", "randint"}, kind
    return values if kind in {"grid", "choice"} else [values[0], values[1] - 1 if kind == "randint" else values[1]]


def scaled(field, value):
    """Counts and batches that fit 80 images."""
    if isinstance(value, list):
        return tuple(value)
    if value is not None and field.startswith("num_"):
        return min(value, LIMITS.get(field, 24))
    if field in MOST:
        return min(value, MOST[field])
    return min(value, BATCH) if field.endswith(("batch_size", "_batch")) else value


def spread(items, count):
    """At most `count` of `items`, evenly from the first to the last."""
    places = sorted({round(place * (len(items) - 1) / max(1, count - 1)) for place in range(count)})
    return [items[place] for place in places]


def space_of(name, space, scale=True):
    """All settings of a space, scaled down or as they are."""
    file = yaml.safe_load(METHODS[name].read_text())
    fixed = dict(file["corrector"])
    module, _, class_name = fixed.pop("_target_").rpartition(".")
    kind = getattr(importlib.import_module(module), class_name)
    if "recipe" in {field.name for field in dataclasses.fields(kind)}:
        fixed["recipe"] = RECIPE
    if scale and fixed.get("num_retain", 0) is None:
        fixed["num_retain"] = 24
    words = file["spaces"][space] or {}
    products = itertools.product(*(choices(word) for word in words.values()))
    rows = [fixed | dict(zip(words, values, strict=True)) for values in products]
    settings = [kind(**{field: scaled(field, value) if scale else value for field, value in row.items()}) for row in rows]
    return list(dict.fromkeys(settings)) if scale else settings  # scaling may make two one


def families(settings):
    """The settings, grouped as the platform groups them into jobs."""
    groups = defaultdict(list)
    for setting in settings:
        groups[setting.family()].append(setting)
    return list(groups.values())


def cases():
    """(method, space) for every space of every file; confident learning where its library is installed."""
    there = [name for name in METHODS if name != "confident_learning" or HAS_CLEANLAB]
    return [(name, space) for name in there for space in yaml.safe_load(METHODS[name].read_text())["spaces"]]


def groups_of(name, space):
    """Families to try: those of settings spread over the space, and a few settings of the middle one's whole family."""
    settings = space_of(name, space)
    middle = settings[len(settings) // 2].family()
    mates = spread([setting for setting in settings if setting.family() == middle], SPREAD)
    return [*families(spread(settings, SPREAD)), mates]


@pytest.fixture(scope="module")
def task(toys):
    return toys.make_task("batch_norm", augment="flip")


@pytest.fixture(scope="module")
def noisy(task):
    """A network trained on the given labels."""
    return SGD(epochs=5, learning_rate=0.05, batch_size=16, schedule="constant").fit(task, PlainRun()).model


def run_family(toys, settings, model, task):
    """(position -> weights in the order yielded, the run)."""
    run = PlainRun(len(settings))
    told = task.allow(frozenset().union(*(setting.needs() for setting in settings)))
    return {position: toys.weights(net) for position, net in type(settings[0]).correct(settings, model, told, run)}, run


def finite(weights):
    return all(value.isfinite().all() for value in weights.values())


def test_there_are_method_files():
    assert {"retrain", "finetune", "scrub", "ssd", "cf_k", "eu_k", "relabel"} <= METHODS.keys()


@pytest.mark.parametrize(("name", "space"), cases())
def test_file_names_itself_and_its_corrector_keeps_the_interface(name, space):
    file = yaml.safe_load(METHODS[name].read_text())
    assert file["name"] == name
    setting = space_of(name, space)[0]
    assert isinstance(setting, Corrector)
    assert dataclasses.is_dataclass(setting)
    assert type(setting).version >= 1
    assert all(isinstance(need, Need) for need in setting.needs())
    hash(setting)


@pytest.mark.parametrize(("name", "space"), cases())
def test_every_setting_is_yielded_once_sound_and_paid_for(toys, task, noisy, name, space):
    model = copy.deepcopy(noisy)
    before = toys.weights(model)
    for settings in groups_of(name, space):
        found, run = run_family(toys, settings, model, task)
        assert sorted(found) == list(range(len(settings)))
        toys.assert_same_bits(before, toys.weights(model))
        for weights in found.values():
            assert {key: (value.shape, value.dtype) for key, value in weights.items()} == {
                key: (value.shape, value.dtype) for key, value in before.items()
            }
        costs = [tuning(cost.shared) for cost in run.meter.costs()]
        assert all(cost.seconds > 0 and cost.forwards > 0 for cost in costs)
        if all(finite(weights) for weights in found.values()):
            forecast = type(settings[0]).forecast(settings, Sizes(len(task.train), len(task.val), task.num_outputs))
            forwards, backwards = toys.passes(run)
            if name in UPPER_BOUNDS:
                assert 0 < forwards <= forecast.forwards
                assert backwards <= forecast.backwards
            else:
                assert (forwards, backwards) == (forecast.forwards, forecast.backwards)
            assert math.isclose(sum(cost.forwards for cost in costs), forwards)


@pytest.mark.parametrize(("name", "space"), cases())
def test_alone_or_in_its_family_a_setting_has_the_same_bits(toys, task, noisy, name, space):
    settings = groups_of(name, space)[-1]
    together, _ = run_family(toys, settings, noisy, task)
    for position, setting in enumerate(settings):
        alone, _ = run_family(toys, [setting], noisy, task)
        toys.assert_same_bits(together[position], alone[0])


@pytest.mark.parametrize(("name", "space"), cases())
def test_what_it_needs_it_declares(task, noisy, name, space):
    for settings in groups_of(name, space):
        needs = settings[0].needs()
        if needs:
            with pytest.raises(UndeclaredNeed):
                list(type(settings[0]).correct(settings, noisy, task.allow(frozenset()), PlainRun(len(settings))))
        else:
            list(type(settings[0]).correct(settings, noisy, task.allow(frozenset()), PlainRun(len(settings))))


@pytest.mark.parametrize(("name", "space"), cases())
def test_equal_computations_give_equal_bits(toys, task, noisy, name, space):
    """Where a method says which settings are one computation, they are."""
    settings = groups_of(name, space)[-1]
    found, _ = run_family(toys, settings, noisy, task)
    keys = [setting.computation() for setting in settings]
    for one, other in itertools.combinations(found, 2):
        if keys[one] == keys[other]:
            toys.assert_same_bits(found[one], found[other])


@pytest.mark.parametrize(("name", "space"), cases())
def test_the_network_and_global_randomness_are_left_alone(noisy, task, name, space):
    settings = groups_of(name, space)[0]
    state = torch.random.get_rng_state()
    training = noisy.training
    list(type(settings[0]).correct(settings, noisy, task.allow(settings[0].needs()), PlainRun(len(settings))))
    assert torch.equal(state, torch.random.get_rng_state())
    assert noisy.training == training


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
    settings = space_of(name, space, scale=False)
    assert len(settings) == count
    assert len({setting.computation() for setting in settings}) == count
    assert len(families(settings)) == jobs


def sourced(settings):
    """The settings as they are with samples chosen by loss; none for methods that know no such source."""
    if "source" not in {field.name for field in dataclasses.fields(settings[0])}:
        return []
    return [dataclasses.replace(setting, source="scored") for setting in settings]


@pytest.mark.parametrize(("name", "space"), cases())
def test_scored_samples_need_nothing_verified_and_are_paid_for(toys, task, noisy, name, space):
    """One scoring pass, in phase select, beside what the same settings cost with verified samples; and the choice is said."""
    told = groups_of(name, space)[0]
    settings = sourced(told)
    if not settings:
        return
    assert settings[0].needs() == frozenset()
    assert settings[0].family() != told[0].family()
    found, run = run_family(toys, settings, noisy, task)
    assert sorted(found) == list(range(len(settings)))
    assert [(piece.forwards, piece.backwards) for piece in run.meter.pieces if piece.phase == "select"] == [(len(task.train), 0)]
    sizes = Sizes(len(task.train), len(task.val), task.num_outputs)
    assert type(settings[0]).forecast(settings, sizes).forwards == type(told[0]).forecast(told, sizes).forwards + len(task.train)
    assert len(run.trusted_sets[0]) == settings[0].num_retain

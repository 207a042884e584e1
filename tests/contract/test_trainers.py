"""Tests of every file of `conf/trainer` beyond the contract checks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import yaml

from sap_core.api import Sizes, Stopped, Trainer
from sap_core.construct import construct
from sap_core.errors import UserError
from sap_core.run import PlainRun

FILES = {path.stem: path for path in sorted((Path(__file__).parents[2] / "conf" / "trainer").glob("*.yaml")) if path.stem != "given"}
BOTH_KINDS = {
    "sgd",
    "mixup",
    "sam",
    "prl_l",
    "co_prl_l",
    "prl_g",
    "co_prl_g",
    "coteaching",
    "self_paced",
}  # the others are defined on classes alone
SHORT = {"epochs": 4, "learning_rate": 0.05, "batch_size": 16, "schedule": "constant"}
WATCHED = {
    **SHORT, "learning_rate": 0.1, "schedule": "plateau", "plateau_patience": 1, "stop_patience": 4, "checkpoint": "best",
    "until_train_acc": 1.0, "check_every": 2,
}  # fmt: skip
RECIPES = {"short": SHORT, "watched": WATCHED}
BOUNDS = {"dividemix"}  # how many passes it makes depends on how many samples it trusts
SCALED = {"dividemix": {"warmup_epochs": 1}, "elr_plus": {"decay_steps": 20}}  # to a few epochs
VARIANTS = {"label_smoothing", "sop_plus"}  # gls with another rate, sop with other weights
NEEDED = {"gls": {"warmup_epochs": 15, "schedule": "cosine"}}
"""Its loss has no lower bound and drives these networks apart; five epochs of it at a falling rate keep what the warm-up found (0.85)."""
MADE_BY_THE_PLATFORM = ("name", "_target_", "defaults", "preprocess")


def content(name):
    """The file merged with the files of its defaults list."""
    file = yaml.safe_load(FILES[name].read_text())
    whole = {}
    for other in file.get("defaults", ["_self_"]):
        whole |= {key: value for key, value in (file if other == "_self_" else content(other)).items() if key != "defaults"}
    return whole


def make(name, **changes):
    file = content(name)
    scaled = SCALED.get(name, {}) if changes else {}
    settings = {key: value for key, value in file.items() if key not in MADE_BY_THE_PLATFORM} | scaled | changes
    return construct({"target": file["_target_"], "settings": settings})


def task_for(toys, trainer, net="batch_norm", **options):
    """A trainer that refuses batch norm gets the network with group norm."""
    nets = toys.nets_for(trainer)
    return toys.make_task(nets[0] if net == "batch_norm" else net, **options)


def tables(fitted):
    return dict(fitted.per_sample)


def finite(fitted):
    return all(value.isfinite().all() for value in fitted.model.state_dict().values())


def test_the_trainers_of_the_saps_tables_are_there():
    assert {"sgd", "mixup", "sam", "mentornet", "mentormix", "logit_clip", "gls", "elr", "sce", "mae", "gce"} <= FILES.keys()


def test_the_trainers_of_prls_comparison_are_there():
    assert {"prl_l", "co_prl_l", "prl_g", "co_prl_g", "coteaching", "self_paced", "bootstrapping"} <= FILES.keys()


def test_files_name_themselves_and_their_trainers_keep_the_interface():
    for name in FILES:
        assert content(name)["name"] == name
        trainer = make(name)
        assert isinstance(trainer, Trainer), name
        assert dataclasses.is_dataclass(trainer), name
        assert type(trainer).__bases__ == (object,), name
        assert type(trainer).version >= 1, name
        assert hash(trainer) == hash(make(name)), name


def test_files_state_the_defaults_of_their_classes():
    """An id must not depend on whether a key is written in the file."""
    assert [name for name in FILES if name not in VARIANTS and make(name) != type(make(name))()] == []


def test_every_key_is_commented():
    lines = [(name, line) for name, path in FILES.items() for line in path.read_text().splitlines()]
    assert [found for found in lines if not found[1].startswith(("#", "name:", "_target_:")) and "  # " not in found[1]] == []
    assert all(path.read_text().startswith("# ") for path in FILES.values())


@pytest.mark.parametrize(
    ("net", "recipe"),
    [
        ("batch_norm", "watched"),
        pytest.param("batch_norm", "short", marks=pytest.mark.slow),
        pytest.param("dropout", "short", marks=pytest.mark.slow),
        pytest.param("dropout", "watched", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("name", FILES)
def test_stopped_mid_epoch_and_resumed_gives_the_same_bits(toys, name, net, recipe):
    """Epoch 1, then a failure in the middle of epoch 3, then the rest; and a second uninterrupted training for good measure."""
    trainer = make(name, **RECIPES[recipe])
    task = task_for(toys, trainer, net, augment="crop_flip")
    whole = trainer.fit(task, reference := toys.StoringRun())
    assert finite(whole)
    with pytest.raises(Stopped):
        trainer.fit(task, first := toys.StoringRun(stop_after=1))
    second = toys.StoringRun(resume=first.stored)
    with pytest.raises(ConnectionError):
        trainer.fit(toys.breaking(task, 3 if recipe == "watched" else 2), second)  # a look at the training set is a pass, too
    assert [point["epoch"] for point in second.curve] == [2]
    third = toys.StoringRun(resume=second.stored)
    resumed = trainer.fit(task, third)
    toys.assert_same_bits(toys.weights(whole.model), toys.weights(resumed.model))
    toys.assert_same_bits(tables(whole), tables(resumed))
    assert first.curve + second.curve + third.curve == reference.curve
    assert not whole.model.training


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", FILES)
def test_forecast_equals_the_recorded_passes(toys, name, recipe):
    trainer = make(name, **RECIPES[recipe])
    run = PlainRun()
    trainer.fit(task_for(toys, trainer), run)
    forecast = trainer.forecast(Sizes(train=80, val=20))
    assert len(run.curve) == SHORT["epochs"]
    forwards, backwards = toys.passes(run)
    if name in BOUNDS:
        assert forecast.forwards / 2 < forwards <= forecast.forwards
        assert forecast.backwards / 2 < backwards <= forecast.backwards
    else:
        assert (forwards, backwards) == (forecast.forwards, forecast.backwards)
    assert {piece.phase for piece in run.meter.records} == {"train"}


@pytest.mark.parametrize("name", FILES)
def test_weights_depend_on_the_seed_and_global_randomness_is_untouched(toys, name):
    trainer = make(name, **SHORT)
    one = toys.weights(trainer.fit(toys.make_task("dropout"), PlainRun()).model)
    torch.manual_seed(11)
    state = torch.random.get_rng_state()
    two = toys.weights(trainer.fit(toys.make_task("dropout"), PlainRun()).model)
    assert torch.equal(state, torch.random.get_rng_state())
    toys.assert_same_bits(one, two)
    other = toys.weights(trainer.fit(toys.make_task("dropout", seed=5), PlainRun()).model)
    head = next(key for key in one if key.endswith("head.weight"))
    assert not torch.equal(one[head], other[head])


@pytest.mark.parametrize("name", FILES)
def test_it_learns(toys, name):
    """A quarter of the labels is wrong and four classes make chance one quarter: true labels are found far more often than that."""
    trainer = make(name, **SHORT | {"epochs": 20} | NEEDED.get(name, {}))
    task = task_for(toys, trainer)
    run = PlainRun()
    model = trainer.fit(task, run).model
    images, truth = toys.images_and_labels(200, seed=5)
    held_out = dataclasses.replace(task.val, pixels=type(task.val.pixels)(images), index=torch.arange(200), labels=truth)
    (batch,) = list(held_out.batches(200))
    with torch.no_grad():
        right = float((model(batch.inputs).argmax(1) == truth).double().mean())
    assert right > 0.6
    if name not in ("gls", "mentornet", "mentormix", "dividemix"):  # losses that burn-in masks, without a floor at 0, or of a warm-up first
        assert run.curve[-1]["loss"] < run.curve[0]["loss"]


@pytest.mark.parametrize("name", FILES)
def test_regression_is_trained_or_refused(toys, name):
    trainer = make(name, **SHORT)
    task = task_for(toys, trainer, kind="regression")
    if name in BOTH_KINDS:
        assert finite(trainer.fit(task, PlainRun()))
    else:
        with pytest.raises(UserError, match="needs classes, but this task is a regression; use trainer=sgd, sam or mixup"):
            trainer.fit(task, PlainRun())


@pytest.mark.parametrize("name", [name for name in FILES if name not in {"sgd", "mixup", "sam"}])
def test_soft_targets_are_refused_by_losses_that_read_one_class(toys, name):
    trainer = make(name, **SHORT)
    task = task_for(toys, trainer)
    soft = torch.nn.functional.one_hot(task.train.labels, 4).float() * 0.9 + 0.025
    with pytest.raises(UserError, match="needs one class per sample, but these labels are soft targets"):
        trainer.fit(dataclasses.replace(task, train=task.train.relabel(soft)), PlainRun())

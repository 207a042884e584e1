from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from baselines.finetune import Finetune
from baselines.retrain import Retrain
from sap_core.api import Corrector, Need, Sizes, Stopped, UndeclaredNeed
from sap_core.errors import UserError
from sap_core.run import PlainRun
from sap_core.seeding import stream
from trainers.sgd import SGD

SIZES = Sizes(train=80, val=20)
TUNE = Finetune(learning_rate=0.05, epochs=2, batch_size=8, num_retain=24)
NESTED = [replace(TUNE, epochs=epochs) for epochs in (5, 1, 3, 3)]
RECIPE = SGD(epochs=3, learning_rate=0.05, batch_size=16, schedule="constant")


def corrected(toys, settings, model, task, run=None):
    run = run or PlainRun(len(settings))
    found = type(settings[0]).correct(settings, model, task.allow(settings[0].needs()), run)
    return {position: toys.weights(net) for position, net in found}


def plain_descent(net, samples, seed, purpose, epochs, rate, size, view, nesterov, kind="classification"):
    """Gradient descent with momentum 0.9 and weight decay 5e-4 written out; `purpose` gives an epoch's stream."""
    net.train()
    velocity = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    for epoch in range(1, epochs + 1):
        rng = stream(seed, *purpose(epoch))
        with rng.child("layers").scope():
            for batch in samples.batches(size, rng, (view,)):
                net.zero_grad()
                out = net(batch.inputs)
                if kind == "classification":
                    loss = -out.log_softmax(1)[torch.arange(len(out)), batch.labels].mean()
                else:
                    loss = ((out.flatten() - batch.labels) ** 2).mean()
                loss.backward()
                with torch.no_grad():
                    for name, p in net.named_parameters():
                        g = p.grad + 5e-4 * p
                        velocity[name] = 0.9 * velocity[name] + g
                        p -= rate * (g + 0.9 * velocity[name] if nesterov else velocity[name])
    return net


@pytest.mark.parametrize("net", ["batch_norm", "dropout"])
@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_finetune_equals_the_plain_loop(toys, net, augment, kind):
    task = toys.make_task(net, augment="crop_flip", kind=kind)
    model = task.build(0)
    ours = corrected(toys, [replace(TUNE, learning_rate=0.02, augment=augment)], model, task)[0]
    retain = task.allow(TUNE.needs()).verified(Need.RETAIN, 24)
    view = "augmented" if augment else "plain"
    expected = plain_descent(
        copy.deepcopy(model), retain, task.seed, lambda e: ("correct", e, "retain"), 2, 0.02, 8, view, nesterov=False, kind=kind
    )
    toys.assert_close(ours, toys.weights(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("net", ["batch_norm", "dropout"])
def test_finetune_shares_one_trajectory_bit_for_bit(toys, net):
    task = toys.make_task(net)
    model = task.build(0)
    run = PlainRun(4)
    shared = corrected(toys, NESTED, model, task, run)
    assert list(shared) == [1, 2, 3, 0], "cheapest first"
    for position, setting in enumerate(NESTED):
        toys.assert_same_bits(shared[position], corrected(toys, [setting], model, task)[0])
    forecast = Finetune.forecast(NESTED, SIZES)
    assert toys.passes(run) == (forecast.forwards, forecast.backwards) == (120, 120)
    assert len({setting.family() for setting in NESTED}) == 1
    assert len({setting.computation() for setting in NESTED}) == 3
    assert replace(TUNE, learning_rate=0.1).family() != TUNE.family()


def test_finetune_diverges_without_a_crash(toys):
    task = toys.make_task()
    model = task.build(0)
    wild = [replace(setting, learning_rate=1e18) for setting in NESTED]
    shared = corrected(toys, wild, model, task)
    assert sorted(shared) == [0, 1, 2, 3]
    assert all(shared[0][name].isnan().all() for name, _ in model.named_parameters())
    toys.assert_same_bits(shared[0], corrected(toys, wild[:1], model, task)[0])


@pytest.mark.parametrize("net", ["batch_norm", "dropout"])
def test_retrain_equals_the_plain_loop_on_correct_labels_from_the_first_initialisation(toys, net):
    task = toys.make_task(net, augment="flip")
    ours = corrected(toys, [Retrain(RECIPE, num_retain=40)], task.build(3), task)[0]
    retain = task.allow(TUNE.needs()).verified(Need.RETAIN, 40)
    expected = plain_descent(task.build(0), retain, task.seed, lambda e: ("train", e), 3, 0.05, 16, "augmented", nesterov=True)
    toys.assert_close(ours, toys.weights(expected), rtol=1e-4, atol=1e-5)


def test_retrain_takes_all_correct_samples_by_default(toys):
    task = toys.make_task()
    run = PlainRun()
    corrected(toys, [Retrain(RECIPE)], task.build(0), task, run)
    assert toys.passes(run) == (3 * 60, 3 * 60)
    assert Retrain.forecast([Retrain(RECIPE)], SIZES).forwards == 3 * 80, "an upper bound where the number is not set"
    assert Retrain.forecast([Retrain(RECIPE, 40)], SIZES).forwards == 3 * 40


def test_retrain_resumes_through_the_run(toys):
    task = toys.make_task("dropout").allow(TUNE.needs())
    setting = Retrain(RECIPE)
    whole = corrected(toys, [setting], task.build(0), task, toys.StoringRun())[0]
    first = toys.StoringRun(stop_after=2)
    with pytest.raises(Stopped):
        next(Retrain.correct([setting], task.build(0), task, first))
    second = toys.StoringRun(resume=first.stored)
    toys.assert_same_bits(whole, corrected(toys, [setting], task.build(0), task, second)[0])
    assert [point["epoch"] for point in second.curve] == [3]


def test_the_recipe_of_a_retraining_may_not_ask_for_verified_samples(toys):
    class Nosy:
        def fit(self, task, run):
            task.verified(Need.RETAIN)

    task = toys.make_task().allow(TUNE.needs())
    with pytest.raises(UndeclaredNeed):
        next(Retrain.correct([Retrain(Nosy())], task.build(0), task, PlainRun()))


def test_interface(toys):
    assert isinstance(TUNE, Corrector)
    assert isinstance(Retrain(RECIPE), Corrector)
    assert Retrain(RECIPE).family() == Retrain(replace(RECIPE)).family()
    hash(TUNE.family())
    with pytest.raises(UserError, match="epochs"):
        Finetune(epochs=0)

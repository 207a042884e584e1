from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sap_core.api import Sizes, Stopped, Trainer
from sap_core.errors import UserError
from sap_core.run import PlainRun
from sap_core.seeding import stream
from trainers.early_stopping import given_accuracy
from trainers.sgd import SGD, plain_step

SHORT = SGD(epochs=4, learning_rate=0.05, batch_size=16, schedule="step", decay_epochs=[2], decay_rate=0.5)


def plain_training(task, epochs, rates, momentum=0.9, weight_decay=5e-4):
    """Nesterov's method written out: v <- mu v + g, w <- w - rate (g + mu v), with g the gradient plus weight decay."""
    net = task.build(0).train()
    velocity = [torch.zeros_like(p) for p in net.parameters()]
    for epoch in range(1, epochs + 1):
        rng = stream(task.seed, "train", epoch)
        with rng.child("layers").scope():
            for batch in task.train.batches(16, rng, views=("augmented",)):
                outputs = net(batch.inputs)
                if task.kind == "classification":
                    picked = torch.stack([row[label] for row, label in zip(outputs, batch.labels, strict=True)])
                    loss = (outputs.exp().sum(1).log() - picked).mean()
                else:
                    loss = ((outputs[:, 0] - batch.labels) ** 2).mean()
                gradients = torch.autograd.grad(loss, list(net.parameters()))
                with torch.no_grad():
                    for place, (p, g) in enumerate(zip(net.parameters(), gradients, strict=True)):
                        g = g + weight_decay * p
                        velocity[place] = momentum * velocity[place] + g
                        p -= rates[epoch - 1] * (g + momentum * velocity[place])
    return net


@pytest.mark.parametrize("net", ["batch_norm", "dropout"])
@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_equals_the_plain_loop(toys, net, kind):
    task = toys.make_task(net, augment="crop_flip", kind=kind)
    run = PlainRun()
    fitted = SHORT.fit(task, run)
    expected = plain_training(task, 4, [0.05, 0.05, 0.025, 0.025])
    toys.assert_close(toys.weights(fitted.model), toys.weights(expected), rtol=1e-4, atol=1e-5)
    assert [point["learning_rate"] for point in run.curve] == [0.05, 0.05, 0.025, 0.025]
    assert run.curve[-1]["loss"] < run.curve[0]["loss"]
    assert ("running_acc" in run.curve[0]) == (kind == "classification")


@pytest.mark.parametrize("net", ["batch_norm", "dropout"])
def test_stopped_mid_epoch_and_resumed_gives_the_same_bits(toys, net):
    task = toys.make_task(net, augment="crop_flip")
    whole = SHORT.fit(task, reference := toys.StoringRun())
    with pytest.raises(Stopped):
        SHORT.fit(task, first := toys.StoringRun(stop_after=1))
    second = toys.StoringRun(resume=first.stored)
    with pytest.raises(ConnectionError):
        SHORT.fit(toys.breaking(task, 3), second)
    assert [point["epoch"] for point in second.curve] == [2, 3]
    third = toys.StoringRun(resume=second.stored)
    resumed = SHORT.fit(task, third)
    toys.assert_same_bits(toys.weights(whole.model), toys.weights(resumed.model))
    assert first.curve + second.curve + third.curve == reference.curve


def adam_by_hand(task, epochs, rate, beta1_of):
    """Kingma and Ba's algorithm 1 with beta2 0.999, beta1 by epoch."""
    net = task.build(0).train()
    first, second = ([torch.zeros_like(p) for p in net.parameters()] for _ in range(2))
    steps = 0
    for epoch in range(1, epochs + 1):
        rng, beta1 = stream(task.seed, "train", epoch), beta1_of(epoch)
        for batch in task.train.batches(16, rng, views=("augmented",)):
            steps += 1
            loss = torch.nn.functional.cross_entropy(net(batch.inputs), batch.labels)
            gradients = torch.autograd.grad(loss, list(net.parameters()))
            with torch.no_grad():
                for place, (p, g) in enumerate(zip(net.parameters(), gradients, strict=True)):
                    first[place] = beta1 * first[place] + (1 - beta1) * g
                    second[place] = 0.999 * second[place] + 0.001 * g**2
                    p -= rate(epoch) * (first[place] / (1 - beta1**steps)) / ((second[place] / (1 - 0.999**steps)).sqrt() + 1e-8)
    return net


def test_adam_with_co_teachings_plan_equals_the_algorithm(toys):
    """The rate falls linearly late in training, with beta1 0.1, as in its released code."""
    task = toys.make_task(augment="crop_flip")
    recipe = SGD(
        epochs=5, optimiser="adam", nesterov=False, learning_rate=2e-3, weight_decay=0.0, batch_size=16, schedule="linear", decay_after=2,
        late_momentum=0.1,
    )  # fmt: skip
    rates = [2e-3, 2e-3, 2e-3, 2e-3 * 2 / 3, 2e-3 / 3]
    expected = adam_by_hand(task, 5, lambda epoch: rates[epoch - 1], lambda epoch: 0.9 if epoch <= 2 else 0.1)
    whole = recipe.fit(task, PlainRun())
    toys.assert_close(toys.weights(whole.model), toys.weights(expected), rtol=2e-3, atol=5e-5)
    with pytest.raises(Stopped):
        recipe.fit(task, first := toys.StoringRun(stop_after=3))
    toys.assert_same_bits(toys.weights(recipe.fit(task, toys.StoringRun(resume=first.stored)).model), toys.weights(whole.model))


def test_two_networks_learn_side_by_side_and_the_first_is_handed_out(toys):
    """Each makes a plain step, so the first must equal plain training, and the second plain training from another initialisation."""
    task = toys.make_task("batch_norm", augment="crop_flip")

    def step(learners, batch, context):
        reports = [plain_step(learner, batch, context) for learner in learners]
        return reports[0]

    def fit(run):
        return SHORT.fit_networks(2, task, run, step, None, SHORT.batches(task))

    both = fit(reference := toys.StoringRun())
    alone = SHORT.fit(task, toys.StoringRun())
    toys.assert_same_bits(toys.weights(both.model), toys.weights(alone.model))
    assert set(reference.stored["state"]["models"]) == set(reference.stored["state"]["optimisers"]) == {"net", "net1"}
    other = plain_training(replace(task, build=lambda k: task.build(k + 1)), 4, [0.05, 0.05, 0.025, 0.025])
    toys.assert_close(reference.stored["state"]["models"]["net1"], toys.weights(other), rtol=1e-4, atol=1e-5)
    with pytest.raises(Stopped):
        fit(first := toys.StoringRun(stop_after=2))
    fit(resumed := toys.StoringRun(resume=first.stored))
    toys.assert_same_bits(resumed.stored["state"]["models"]["net1"], reference.stored["state"]["models"]["net1"])
    assert toys.passes(reference) == (2 * 4 * 80, 2 * 4 * 80)


def test_same_seed_same_bits_other_seed_other_bits(toys):
    one, two = (toys.weights(SHORT.fit(toys.make_task("dropout"), PlainRun()).model) for _ in range(2))
    other = toys.weights(SHORT.fit(toys.make_task("dropout", seed=5), PlainRun()).model)
    toys.assert_same_bits(one, two)
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_training_ends_at_the_first_check_that_fits_the_labels(toys):
    recipe = SGD(epochs=60, learning_rate=0.05, batch_size=16, schedule="constant", until_train_acc=0.95, check_every=3)
    task = toys.make_task()
    run = toys.StoringRun()
    fitted = recipe.fit(task, run)
    last = len(run.curve)
    assert last < 60
    assert last % 3 == 0
    checks = {point["epoch"]: point["given_acc"] for point in run.curve if "given_acc" in point}
    assert list(checks) == list(range(3, last + 1, 3))
    assert checks[last] >= 0.95 > max((value for epoch, value in checks.items() if epoch < last), default=0)
    assert given_accuracy(fitted.model, task.train) == checks[last]
    assert not fitted.model.training
    forwards, backwards = toys.passes(run)
    assert (forwards, backwards) == ((last + last // 3) * 80, last * 80)
    continued = recipe.fit(task, again := toys.StoringRun(resume=run.stored))
    assert again.curve == []
    toys.assert_same_bits(toys.weights(fitted.model), toys.weights(continued.model))


@pytest.mark.parametrize("recipe", [SHORT, SGD(epochs=7, batch_size=16, until_train_acc=1.0, check_every=2, learning_rate=1e-6)])
def test_the_forecast_equals_the_meter(toys, recipe):
    run = PlainRun()
    recipe.fit(toys.make_task(), run)
    forecast = recipe.forecast(Sizes(train=80, val=20))
    assert toys.passes(run) == (forecast.forwards, forecast.backwards)
    assert {piece.phase for piece in run.meter.records} == {"train"}


def test_mistakes_are_named(toys):
    with pytest.raises(UserError, match=r"unknown schedule 'halve'.*halve_every_11"):
        SGD(schedule="halve")
    with pytest.raises(UserError, match="check_every=0"):
        SGD(check_every=0)
    with pytest.raises(UserError, match=r"nesterov=true requires SGD, but trainer\.optimiser=adam; set trainer\.nesterov=false"):
        SGD(optimiser="adam")
    with pytest.raises(UserError, match="late_momentum requires schedule=linear, but schedule=cosine; set it to null"):
        SGD(schedule="cosine", late_momentum=0.1)
    with pytest.raises(UserError, match="regression"):
        SGD(epochs=1, until_train_acc=0.9).fit(toys.make_task(kind="regression"), PlainRun())


def test_is_a_trainer_and_hashable_from_yaml_lists():
    assert isinstance(SHORT, Trainer)
    assert hash(SHORT) == hash(SGD(epochs=4, learning_rate=0.05, batch_size=16, schedule="step", decay_epochs=(2,), decay_rate=0.5))

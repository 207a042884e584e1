"""SCRUB against a plain implementation of its equations, and the sharing of its trajectories."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import pytest
import torch

from baselines.scrub import SCRUB, parent, path, tree
from baselines.teachers import divergence
from sap_core.api import Corrector, Need, Sizes, UndeclaredNeed
from sap_core.cost import tuning
from sap_core.errors import UserError
from sap_core.run import PlainRun
from sap_core.seeding import stream

SIZES = Sizes(train=80, val=20)
SMALL = SCRUB(learning_rate=0.02, forget_batch=4, retain_batch=8, alpha=0.2, num_retain=24, num_forget=10)
GRID = [replace(SMALL, epochs=epochs, msteps=msteps) for msteps in (1, 2, 3) for epochs in (3, 4, 5, 7, 10)]


def corrected(toys, settings, model, task, run=None):
    """Position -> copy of the weights, in the order yielded."""
    run = run or PlainRun(len(settings))
    task = task.allow(settings[0].needs())
    return {position: toys.weights(net) for position, net in SCRUB.correct(settings, model, task, run)}


def noisy_model(task, k=0):
    """A network whose running statistics and weights have moved away from their initial values."""
    net = task.build(k).train()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05)
    for batch in itertools.chain(task.train.batches(16), task.train.batches(16)):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(batch.inputs), batch.labels).backward()
        optimiser.step()
    return net.eval()


def plain_scrub(setting, model, task):
    """The paper's two objectives, official order, momentum by hand: v <- mu v + g + wd w, w <- w - rate v."""
    retain, forget = (task.allow(setting.needs()).verified(need, n) for need, n in ((Need.RETAIN, 24), (Need.FORGET, 10)))
    teacher, student = copy.deepcopy(model).eval(), copy.deepcopy(model).train()
    view = "augmented" if setting.augment else "plain"
    velocity = {name: torch.zeros_like(p) for name, p in student.named_parameters()}

    def distance(inputs, out):
        with torch.no_grad():
            p = (teacher(inputs) / setting.temperature).softmax(1)
        q = (out / setting.temperature).softmax(1)
        return setting.temperature**2 * (p * (p.log() - q.log())).sum() / len(inputs)

    def update(loss, rate):
        student.zero_grad()
        loss.backward()
        with torch.no_grad():
            for name, p in student.named_parameters():
                velocity[name] = setting.momentum * velocity[name] + p.grad + setting.weight_decay * p
                p -= rate * velocity[name]

    for epoch in range(1, setting.epochs + 1):
        rate = setting.learning_rate
        for decay in setting.decay_epochs:
            if epoch > decay:
                rate *= setting.decay_rate
        if epoch <= setting.msteps:
            rng = stream(task.seed, "correct", epoch, "max")
            with rng.child("layers").scope():
                for batch in forget.batches(setting.forget_batch, rng, (view,)):
                    update(-distance(batch.inputs, student(batch.inputs)), rate)
        rng = stream(task.seed, "correct", epoch, "min")
        with rng.child("layers").scope():
            for batch in retain.batches(setting.retain_batch, rng, (view,)):
                out = student(batch.inputs)
                hit = out.log_softmax(1)[torch.arange(len(batch.labels)), batch.labels]
                update(-setting.gamma * hit.mean() + setting.alpha * distance(batch.inputs, out), rate)
    return student


@pytest.mark.parametrize("net", ["batch_norm", "dropout"])
@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize(("epochs", "msteps"), [(1, 1), (5, 2), (2, 0)])
def test_equals_the_plain_loop(toys, net, augment, epochs, msteps):
    task = toys.make_task(net, augment="crop_flip")
    model = noisy_model(task)
    setting = replace(SMALL, epochs=epochs, msteps=msteps, augment=augment)
    ours = corrected(toys, [setting], model, task)[0]
    expected = toys.weights(plain_scrub(setting, model, task))
    toys.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    moved = (ours["conv.weight"] - model.conv.weight).abs().max()
    assert moved > 1e-3, "a loop that does nothing must not pass"


def test_divergence_is_the_kullback_leibler_divergence_from_the_teacher(toys):
    teacher, student = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    p, q = (teacher / 3).softmax(1), (student / 3).softmax(1)
    assert float(divergence(teacher, student, 3.0)) == pytest.approx(float(9 * (p * (p / q).log()).sum() / 6), rel=1e-12)
    assert float(divergence(teacher, teacher, 3.0)) == pytest.approx(0, abs=1e-12)


def test_the_tree_of_grid_a_has_27_epochs_instead_of_87():
    users = tree(GRID)
    assert len(users) == 27
    assert sum(len(positions) for positions in users.values()) == sum(setting.epochs for setting in GRID) == 87
    for node in users:
        assert parent(node) == (0, 0) or parent(node) in users
    assert path(4, 2) == [(1, 1), (2, 2), (3, 2), (4, 2)]


@pytest.mark.parametrize("net", ["batch_norm", "dropout"])
def test_every_setting_of_the_family_has_the_bits_of_a_run_on_its_own(toys, net):
    task = toys.make_task(net)
    model = noisy_model(task)
    shared = corrected(toys, GRID, model, task)
    assert sorted(shared) == list(range(15))
    for position, setting in enumerate(GRID):
        toys.assert_same_bits(shared[position], corrected(toys, [setting], model, task)[0])
    distinct = {tuple(weights["conv.weight"].flatten().tolist()) for weights in shared.values()}
    assert len(distinct) == 15


def test_settings_are_yielded_cheapest_first(toys):
    task = toys.make_task()
    order = [(GRID[position].epochs, GRID[position].msteps) for position in corrected(toys, GRID, noisy_model(task), task)]
    assert order == sorted(order)


def test_the_order_of_the_settings_changes_nothing_but_positions(toys):
    task = toys.make_task()
    model = noisy_model(task)
    chosen = [GRID[7], GRID[0], GRID[14]]
    one, other = corrected(toys, chosen, model, task), corrected(toys, chosen[::-1], model, task)
    for position in range(3):
        toys.assert_same_bits(one[position], other[2 - position])


def test_max_passes_beyond_the_last_epoch_make_equal_settings_computed_once(toys):
    task = toys.make_task()
    settings = [replace(SMALL, epochs=2, msteps=msteps) for msteps in (2, 3, 5)]
    run = PlainRun(3)
    weights = corrected(toys, settings, noisy_model(task), task, run)
    toys.assert_same_bits(weights[0], weights[1])
    toys.assert_same_bits(weights[0], weights[2])
    assert len({setting.computation() for setting in settings}) == 1
    assert [piece.used_by for piece in run.meter.records] == [(0, 1, 2)] * 3
    assert len({setting.computation() for setting in GRID}) == 15
    assert len({setting.family() for setting in GRID}) == 1


def test_batches_larger_than_their_set_are_one_family_and_one_computation(toys):
    task = toys.make_task()
    model = noisy_model(task)
    settings = [replace(SMALL, forget_batch=size, retain_batch=100) for size in (10, 64, 512)]
    assert len({setting.computation() for setting in settings}) == 1
    alone = [corrected(toys, [setting], model, task)[0] for setting in settings]
    toys.assert_same_bits(alone[0], alone[1])
    toys.assert_same_bits(alone[0], alone[2])


@pytest.mark.parametrize("settings", [GRID, GRID[:1], [replace(SMALL, msteps=0)], [replace(s, augment=True) for s in GRID[3:9]]])
def test_the_forecast_equals_the_meter(toys, settings):
    task = toys.make_task(augment="flip")
    run = PlainRun(len(settings))
    corrected(toys, settings, noisy_model(task), task, run)
    forecast = SCRUB.forecast(settings, SIZES)
    assert toys.passes(run) == (forecast.forwards, forecast.backwards)


def test_standalone_and_shared_costs(toys):
    """A setting on its own costs its own epochs; the shares of all settings add up to the total."""
    task = toys.make_task()
    run = PlainRun(15)
    corrected(toys, GRID, noisy_model(task), task, run)
    for position, setting in enumerate(GRID):
        alone = sum(piece.backwards for piece in run.meter.records if position in piece.used_by)
        assert alone == setting.epochs * 24 + setting.msteps * 10 == SCRUB.forecast([setting], SIZES).backwards
    assert sum(tuning(cost.shared).backwards for cost in run.meter.costs()) == pytest.approx(27 * 24 + 3 * 10)
    assert {piece.phase for piece in run.meter.records} == {"collect", "correct"}


def test_the_model_and_its_mode_stay_untouched(toys):
    task = toys.make_task("dropout")
    model = noisy_model(task).train()
    before = toys.weights(model)
    corrected(toys, GRID[:6], model, task)
    toys.assert_same_bits(before, toys.weights(model))
    assert model.training


def test_an_evaluation_between_two_settings_changes_nothing(toys):
    task = toys.make_task("dropout")
    model = noisy_model(task)
    quiet = corrected(toys, GRID, model, task)
    for position, net in SCRUB.correct(GRID, model, task.allow(SMALL.needs()), PlainRun(15)):
        assert not net.training
        toys.assert_same_bits(quiet[position], toys.weights(net))
        net(torch.rand(4, 1, 8, 8))
        torch.rand(7)
        net.train()


def test_the_iterator_can_be_closed(toys):
    task = toys.make_task()
    run = PlainRun(15)
    models = SCRUB.correct(GRID, noisy_model(task), task.allow(SMALL.needs()), run)
    position, _ = next(models)
    models.close()
    assert (GRID[position].epochs, GRID[position].msteps) == (3, 1)
    assert len(run.meter.records) == 1 + 4, "the teacher; (1, 1), (2, 1), (2, 2), (3, 1); no more"


@pytest.mark.parametrize("net", ["batch_norm", "dropout"])
def test_a_diverging_trajectory_yields_non_finite_models_and_trains_no_further(toys, net):
    task = toys.make_task(net)
    model = noisy_model(task)
    wild = [replace(setting, learning_rate=1e18) for setting in GRID]
    run = PlainRun(15)
    shared = corrected(toys, wild, model, task, run)
    assert sorted(shared) == list(range(15))
    for position, weights in shared.items():
        assert all(weights[name].isnan().all() for name, _ in model.named_parameters())
        toys.assert_same_bits(weights, corrected(toys, [wild[position]], model, task)[0])
    assert toys.passes(run)[1] < SCRUB.forecast(wild, SIZES).backwards / 10


def test_one_branch_may_diverge(toys):
    """With zero weights of the min loss only the max passes change the network, here far too much."""
    task = toys.make_task("dropout")
    model = noisy_model(task)
    still = replace(SMALL, learning_rate=1e18, alpha=0.0, gamma=0.0, weight_decay=0.0)
    weights = corrected(toys, [replace(still, msteps=msteps) for msteps in (0, 2)], model, task)
    toys.assert_same_bits(weights[0], toys.weights(model))
    assert weights[1]["conv.weight"].isnan().all()


def test_a_regression_is_refused(toys):
    task = toys.make_task(kind="regression").allow(SMALL.needs())
    with pytest.raises(UserError, match="regression"):
        next(SCRUB.correct([SMALL], task.build(0), task, PlainRun()))


def test_interface(toys):
    assert isinstance(SMALL, Corrector)
    assert SCRUB(decay_epochs=[3, 5, 9]) == SCRUB()
    hash(SMALL.family())
    task = toys.make_task().allow(frozenset({Need.RETAIN}))
    with pytest.raises(UndeclaredNeed):
        next(SCRUB.correct([SMALL], task.build(0), task, PlainRun()))
    with pytest.raises(UserError, match="epochs=0"):
        SCRUB(epochs=0)

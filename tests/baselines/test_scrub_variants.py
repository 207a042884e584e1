"""SCRUB in steps and SCRUB+R against plain loops; SSD against retain samples."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import pytest
import torch

from baselines.scrub import SCRUB
from baselines.scrub_steps import SCRUBSteps
from baselines.ssd import SSD
from sap_core.api import Corrector, Need, Sizes
from sap_core.errors import UserError
from sap_core.run import PlainRun
from sap_core.seeding import stream

STEPS = SCRUBSteps(learning_rate=0.02, steps=13, msteps=5, alpha=0.2, batch_size=8, num_retain=24, num_forget=10)
REWIND = SCRUB(learning_rate=0.03, epochs=4, msteps=2, forget_batch=4, retain_batch=8, num_retain=24, num_forget=10, rewind=True)


def verified(task):
    task = task.allow(frozenset({Need.RETAIN, Need.FORGET}))
    return task.verified(Need.RETAIN, 24), task.verified(Need.FORGET, 10)


def plain_steps(setting, model, task, plain, view):
    """Two loaders, a step counter, and the benchmark's linear schedule."""
    retain, forget = verified(task)
    teacher, student = copy.deepcopy(model).eval(), copy.deepcopy(model).train()
    descent = plain.Momentum(student)
    step, number = 0, 0
    warm = setting.steps // 100

    def one_pass(samples, phase, sign):
        nonlocal step, number
        if step >= setting.steps:
            return
        number += 1
        rng = stream(task.seed, "correct", number, phase)
        with rng.child("layers").scope():
            for batch in samples.batches(8, rng, (view,)):
                out = student(batch.inputs)
                with torch.no_grad():
                    p = (teacher(batch.inputs) / 4).softmax(1)
                q = (out / 4).softmax(1)
                distance = 16 * (p * (p.log() - q.log())).sum() / len(out)
                share = 1 - (step - warm) / (setting.steps * 1.25) if step - warm >= 0 else (step + 1) / (warm + 1)
                descent.step(sign * (plain.cross_entropy(out, batch.labels) + setting.alpha * distance), setting.learning_rate * share)
                step += 1
                if step >= setting.steps:
                    return

    while step < setting.steps:
        if step < setting.msteps:
            one_pass(forget, "max", -1)
        one_pass(retain, "min", 1)
    return student


@pytest.mark.parametrize("net", ["batch_norm", "dropout"])
@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize(("steps", "msteps"), [(13, 5), (1, 1), (6, 0), (120, 1)])
def test_scrub_in_steps_equals_the_plain_loop(toys, plain, net, augment, steps, msteps):
    task = toys.make_task(net, augment="crop_flip")
    model = plain.noisy_model(task)
    setting = replace(STEPS, steps=steps, msteps=msteps, augment=augment)
    run = PlainRun()
    ours = plain.corrected(toys, [setting], model, task, run)[0]
    expected = plain_steps(setting, model, task, plain, "augmented" if augment else "plain")
    toys.assert_close(ours, toys.weights(expected), rtol=1e-3, atol=1e-4)
    forecast = SCRUBSteps.forecast([setting], Sizes(80, 20))
    assert toys.passes(run) == (forecast.forwards, forecast.backwards)


def test_passes_and_rates_of_scrub_in_steps():
    phases = [(one.phase, one.begin, one.steps) for one in STEPS.passes()]
    assert phases == [("max", 0, 2), ("min", 2, 3), ("min", 5, 3), ("min", 8, 3), ("min", 11, 2)]
    long = replace(STEPS, steps=200)
    assert [long.rate(step) / 0.02 for step in (0, 1, 2, 102)] == pytest.approx([1 / 3, 2 / 3, 1, 0.6])
    assert isinstance(STEPS, Corrector)


def test_msteps_between_two_passes_are_one_computation(toys, plain):
    settings = [replace(STEPS, msteps=msteps) for msteps in (1, 2, 5)]
    assert len({setting.family() for setting in settings}) == 1
    assert replace(STEPS, msteps=6).family() != STEPS.family()
    task = toys.make_task()
    found = plain.corrected(toys, settings, plain.noisy_model(task), task, PlainRun(3))
    toys.assert_same_bits(found[0], found[2])
    with pytest.raises(UserError, match="steps"):
        SCRUBSteps(steps=0)
    with pytest.raises(UserError, match="regression"):
        STEPS.refuse("regression", task.build(0))


def error(net, samples, classes=None):
    """Fraction of given labels not predicted, optionally of one class."""
    (batch,) = samples.batches(len(samples))
    wrong = (net(batch.inputs).argmax(1) != batch.labels).double()
    return wrong if classes is None else wrong[batch.labels == classes]


@pytest.mark.parametrize("rate", [0.003, 0.01, 0.03, 0.1])
def test_scrub_rewinds_to_the_epoch_nearest_to_the_error_of_validation(toys, plain, rate):
    task = toys.make_task()
    model = plain.noisy_model(task)
    setting = replace(REWIND, learning_rate=rate)
    run = PlainRun()
    ours = plain.corrected(toys, [setting], model, task, run)[0]
    checkpoints = []
    for epochs in range(1, 5):
        net = task.build(0)
        net.load_state_dict(plain.corrected(toys, [replace(setting, rewind=False, epochs=epochs)], model, task, PlainRun())[0])
        checkpoints.append(net.eval())
    _, forget = verified(task)
    present = [c for c in range(4) if len(error(checkpoints[-1], task.val, c))]
    weights = {c: int((forget.labels == c).sum()) for c in present}
    aim = sum(n * float(error(checkpoints[-1], task.val, c).mean()) for c, n in weights.items()) / sum(weights.values())
    distances = [abs(float(error(net, forget).mean()) - aim) for net in checkpoints]
    toys.assert_same_bits(ours, toys.weights(checkpoints[distances.index(min(distances))]))
    forecast = SCRUB.forecast([setting], Sizes(80, 20))
    assert toys.passes(run) == (forecast.forwards, forecast.backwards)


def test_rewinding_really_goes_back_somewhere(toys, plain):
    """Otherwise the test above would pass without rewinding."""
    task = toys.make_task()
    model = plain.noisy_model(task)
    differs = []
    for rate in (0.003, 0.01, 0.03, 0.1):
        pair = [
            plain.corrected(toys, [replace(REWIND, learning_rate=rate, rewind=rewind)], model, task, PlainRun())[0]
            for rewind in (True, False)
        ]
        differs.append(not torch.equal(pair[0]["conv.weight"], pair[1]["conv.weight"]))
    assert any(differs)


def test_a_family_that_rewinds_has_the_bits_of_its_settings_on_their_own(toys, plain):
    task = toys.make_task()
    model = plain.noisy_model(task)
    settings = [replace(REWIND, epochs=epochs, msteps=msteps) for epochs, msteps in itertools.product((2, 4), (1, 2))]
    shared = plain.corrected(toys, settings, model, task, PlainRun(4))
    for position, setting in enumerate(settings):
        toys.assert_same_bits(shared[position], plain.corrected(toys, [setting], model, task, PlainRun())[0])
    assert REWIND.family() != replace(REWIND, rewind=False).family()
    wild = plain.corrected(toys, [replace(REWIND, learning_rate=1e18)], model, task, PlainRun())[0]
    assert wild["head.weight"].isnan().all()


def test_ssd_against_retain_samples_only(toys, plain):
    task = toys.make_task()
    model = plain.noisy_model(task)
    setting = SSD(selection=1.0, dampening=0.5, num_retain=24, num_forget=10, batch_size=8, against="retain")
    retain, forget = verified(task)

    def importance(samples):
        net, total, count = copy.deepcopy(model).eval(), 0, 0
        for batch in samples.batches(8):
            net.zero_grad()
            plain.cross_entropy(net(batch.inputs), batch.labels).backward()
            total, count = total + net.conv.weight.grad**2, count + 1
        return total / count

    of_retain, of_forget = importance(retain), importance(forget)
    expected = torch.where(of_forget > of_retain, model.conv.weight * (0.5 * of_retain / of_forget).clamp(max=1), model.conv.weight)
    run = PlainRun()
    ours = plain.corrected(toys, [setting], model, task, run)[0]
    torch.testing.assert_close(ours["conv.weight"], expected.detach(), rtol=1e-4, atol=1e-7)
    assert not torch.equal(ours["conv.weight"], model.conv.weight)
    forecast = SSD.forecast([setting], Sizes(80, 20))
    assert toys.passes(run) == (forecast.forwards, forecast.backwards) == (34, 34)
    assert setting.family() != replace(setting, against="all").family()
    with pytest.raises(UserError, match="against"):
        SSD(against="some")

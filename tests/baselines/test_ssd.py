from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from baselines.ssd import SSD, mixed_batches
from sap_core.api import Corrector, Need, Sizes
from sap_core.run import PlainRun

SMALL = SSD(selection=1.0, dampening=0.5, num_retain=24, num_forget=10, batch_size=8)
GRID = [replace(SMALL, selection=selection, dampening=dampening) for selection in (2.0, 1.0, 0.5) for dampening in (1.0, 0.5, 0.1)]


def corrected(toys, settings, model, task, run=None):
    found = SSD.correct(settings, model, task.allow(SMALL.needs()), run or PlainRun(len(settings)))
    return {position: toys.weights(net) for position, net in found}


def plain_importance(model, positions, task, size):
    """Mean over batches of the squared gradient of the mean cross-entropy; batches follow `positions` into the training set."""
    net = copy.deepcopy(model).eval()
    total, count = {name: 0.0 for name, _ in net.named_parameters()}, 0
    for start in range(0, len(positions), size):
        (batch,) = task.train.subset(torch.tensor(positions[start : start + size])).batches(size)
        net.zero_grad()
        out = net(batch.inputs)
        (-out.log_softmax(1)[torch.arange(len(out)), batch.labels]).mean().backward()
        total = {name: total[name] + p.grad**2 for name, p in net.named_parameters()}
        count += 1
    return {name: value / count for name, value in total.items()}


@pytest.mark.parametrize("net", ["batch_norm", "dropout"])
@pytest.mark.parametrize("setting", GRID)
def test_equals_the_plain_formula(toys, net, setting):
    task = toys.make_task(net)
    model = task.build(0)
    allowed = task.allow(SMALL.needs())
    retain, forget = allowed.verified(Need.RETAIN, 24).index.tolist(), allowed.verified(Need.FORGET, 10).index.tolist()
    of_all = plain_importance(model, sorted(retain + forget), task, 8)
    of_forget = plain_importance(model, forget, task, 8)
    ours = corrected(toys, [setting], model, task)[0]
    strength, chosen, size = setting.dampening * setting.selection, 0, 0
    for name, weight in model.named_parameters():
        expected = weight.detach().clone()
        for place in range(expected.numel()):
            d, f = float(of_all[name].flatten()[place]), float(of_forget[name].flatten()[place])
            if f > setting.selection * d:
                expected.view(-1)[place] *= min(strength * d / f, 1.0)
                chosen += 1
            size += 1
        torch.testing.assert_close(ours[name], expected, rtol=2e-5, atol=1e-7)
    for name, buffer in model.named_buffers():
        assert torch.equal(ours[name], buffer)
    assert 0 < chosen < size, "a mask that selects all or nothing tests nothing"


def test_batches_of_all_samples_mix_and_lose_none(toys):
    task = toys.make_task().allow(SMALL.needs())
    retain, forget = task.verified(Need.RETAIN, 24), task.verified(Need.FORGET, 10)
    batches = list(mixed_batches(retain, forget, 8))
    assert [len(labels) for _, labels in batches] == [8, 8, 8, 8, 2]
    expected = task.train.subset(torch.cat([retain.index, forget.index]).sort().values)
    for (inputs, labels), batch in zip(batches, expected.batches(8), strict=True):
        ours = sorted(zip(inputs.flatten(1).tolist(), labels.tolist(), strict=True))
        assert ours == sorted(zip(batch.inputs.flatten(1).tolist(), batch.labels.tolist(), strict=True))


def test_one_pair_of_importances_serves_the_family(toys):
    task = toys.make_task()
    model = task.build(0)
    run = PlainRun(len(GRID))
    shared = corrected(toys, GRID, model, task, run)
    assert list(shared) == list(range(len(GRID)))
    for position, setting in enumerate(GRID):
        toys.assert_same_bits(shared[position], corrected(toys, [setting], model, task)[0])
    forecast = SSD.forecast(GRID, Sizes(train=80, val=20))
    assert toys.passes(run) == (forecast.forwards, forecast.backwards) == (44, 44)
    assert [piece.phase for piece in run.meter.records] == ["collect"] + ["correct"] * len(GRID)
    assert len({setting.family() for setting in GRID}) == 1


def test_a_smaller_dampening_never_leaves_a_larger_weight(toys):
    task = toys.make_task()
    shared = corrected(toys, GRID[3:6], task.build(0), task)
    for name in shared[0]:
        assert (shared[2][name].abs() <= shared[1][name].abs()).all()
        assert (shared[1][name].abs() <= shared[0][name].abs()).all()


def test_unused_and_vanishing_gradients_select_nothing(toys):
    """A parameter without influence has importance 0 on both sets: 0 > a * 0 is false, and 0 / 0 must not leak."""

    class WithSpare(toys.BatchNormNet):
        def __init__(self):
            super().__init__(4)
            self.spare = torch.nn.Parameter(torch.ones(3))

    model = WithSpare()
    ours = corrected(toys, GRID, model, toys.make_task())
    assert all(torch.equal(weights["spare"], torch.ones(3)) for weights in ours.values())


def test_interface(toys):
    assert isinstance(SMALL, Corrector)
    assert SSD(batch_size=64).family() != SSD(batch_size=128).family()
    assert SSD(batch_size=6000).family() == SSD(batch_size=9000).family()

"""Fisher forgetting against its formulas, written out sample by sample."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from baselines.fisher import Fisher, fisher_information, variances
from sap_core.api import Corrector, Need, Sizes
from sap_core.errors import UserError
from sap_core.models.ensemble import Ensemble
from sap_core.run import PlainRun

SMALL = Fisher(noise=1e-4, num_retain=24)
GRID = [replace(SMALL, noise=noise) for noise in (1e-6, 1e-4, 1e-2)]


def plain_information(model, samples, size=1):
    """Mean over batches of the sum over classes of mean p(y|x) (d mean log p(y|x) / dw)^2."""
    net = copy.deepcopy(model).eval()
    total = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in net.named_parameters()}
    places = torch.arange(len(samples)).split(size)
    for place in places:
        (batch,) = samples.subset(place).batches(size)
        for y in range(4):
            net.zero_grad()
            out = net(batch.inputs)
            loss = torch.nn.functional.cross_entropy(out, torch.full((len(place),), y))
            loss.backward()
            for name, p in net.named_parameters():
                total[name] += float(out.softmax(1)[:, y].detach().mean()) * p.grad.double() ** 2
    return {name: value / len(places) for name, value in total.items()}


@pytest.mark.parametrize(("net", "size"), [("batch_norm", 1), ("dropout", 1), ("batch_norm", 10)])
def test_information_is_the_expected_squared_gradient(toys, plain, net, size):
    task = toys.make_task(net)
    model = plain.noisy_model(task)
    retain = task.allow(SMALL.needs()).verified(Need.RETAIN, 24)
    run = PlainRun()
    with run.meter("collect"):
        ours = fisher_information(copy.deepcopy(model).eval(), retain, run, size)
    for (name, expected), found in zip(plain_information(model, retain, size).items(), ours, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-9, msg=name)
    assert toys.passes(run) == (24, 96)


def test_variances_are_capped_averaged_and_raised_as_published(toys):
    model = toys.make_task("batch_norm").build(0)
    fisher = {name: torch.rand(p.shape, dtype=torch.float64) * 0.01 for name, p in model.named_parameters()}
    fisher["head.bias"][0] = 0.0
    found = dict(zip(fisher, variances(model, list(fisher.values())), strict=True))
    for name, f in fisher.items():
        v = 1 / (f + 1e-8)
        v = v.clamp(max=1e3)
        if name.startswith("head"):
            v = v.clamp(max=1e2)
        if v.ndim > 1:
            v = v.mean(dim=1, keepdim=True).expand_as(f)
        torch.testing.assert_close(found[name], v * 10 if name.startswith("head") or f.ndim == 1 else v)
    assert found["head.bias"][0] == 1000
    assert found["conv.weight"].max() <= 1000


def test_the_last_layer_of_each_network_of_an_ensemble_is_a_head(toys):
    task = toys.make_task("batch_norm")
    model = Ensemble([task.build(0), task.build(1)])
    found = dict(zip(dict(model.named_parameters()), variances(model, [torch.zeros(p.shape) for p in model.parameters()]), strict=True))
    assert {name for name, v in found.items() if v.max() == 1000 and v.ndim > 1} == {
        f"nets.{n}.{layer}.weight" for n in range(2) for layer in ("head", "conv", "second")
    }
    assert all(found[f"nets.{n}.norm.bias"].max() == 10000 for n in range(2))
    assert all(found[f"nets.{n}.head.bias"].max() == 1000 for n in range(2))


def test_noise_has_the_standard_deviation_of_the_formula(toys, plain):
    task = toys.make_task("batch_norm")
    model = plain.noisy_model(task)
    retain = task.allow(SMALL.needs()).verified(Need.RETAIN, 24)
    fisher = plain_information(model, retain)
    ours = plain.corrected(toys, [SMALL], model, task, PlainRun())[0]
    standardised = []
    for (name, p), v in zip(model.named_parameters(), variances(model, list(fisher.values())), strict=True):
        standardised.append(((ours[name] - p.detach()).double() / (1e-4 * v).sqrt()).flatten())
    draws = torch.cat(standardised)
    assert len(draws) > 900
    assert abs(float(draws.mean())) < 0.12
    assert float(draws.std()) == pytest.approx(1, abs=0.08)
    for name, buffer in model.named_buffers():
        assert torch.equal(ours[name], buffer)


def test_one_information_serves_all_noises(toys, plain):
    task = toys.make_task()
    model = plain.noisy_model(task)
    run = PlainRun(3)
    shared = plain.corrected(toys, GRID, model, task, run)
    for position, setting in enumerate(GRID):
        toys.assert_same_bits(shared[position], plain.corrected(toys, [setting], model, task, PlainRun())[0])
    moved = [shared[position]["conv.weight"] - model.conv.weight.detach() for position in range(3)]
    torch.testing.assert_close(moved[2], 10 * moved[1], rtol=1e-3, atol=1e-6)
    forecast = Fisher.forecast(GRID, Sizes(80, 20, 4))
    assert toys.passes(run) == (forecast.forwards, forecast.backwards) == (24, 96)
    assert len({setting.family() for setting in GRID}) == 1


def test_no_noise_is_no_change(toys, plain):
    task = toys.make_task()
    model = plain.noisy_model(task)
    toys.assert_same_bits(plain.corrected(toys, [replace(SMALL, noise=0.0)], model, task, PlainRun())[0], toys.weights(model))


def test_interface(toys):
    assert isinstance(SMALL, Corrector)
    with pytest.raises(UserError, match=r"fisher\.noise"):
        Fisher(noise=-1.0)
    with pytest.raises(UserError, match="regression"):
        SMALL.refuse("regression", toys.make_task().build(0))

"""Orders of trust against plain sorting."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from sap_core.cost import CostMeter
from sap_core.data.samples import Preprocess, SampleView, TensorPixels
from sap_core.sap import trusted
from sap_core.seeding import stream


def view(inputs, labels, index=None):
    index = torch.arange(len(inputs)) if index is None else index
    return SampleView(TensorPixels(inputs), index, labels, Preprocess(), torch.device("cpu"))


def test_cross_entropy_on_the_given_labels():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3), nn.Linear(3, 4))
    x, y = torch.randn(11, 3), torch.randint(0, 4, (11,))
    meter = CostMeter()
    with meter("select"):
        found = trusted.fit_error(model, view(x, y), "classification", 4, meter)
    assert all(module.training for module in model.modules())
    model.eval()
    logits = model(x).double().tolist()
    expected = [math.log(sum(math.exp(v) for v in row)) - row[label] for row, label in zip(logits, y.tolist(), strict=True)]
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(expected, rel=1e-6)
    assert meter.records[0].forwards == 11


@pytest.mark.parametrize("outputs", [1, 2])
def test_squared_residual_for_regression(outputs):
    model = nn.Linear(3, outputs)
    x, y = torch.randn(5, 3), torch.randn(5, outputs)
    labels = y[:, 0] if outputs == 1 else y
    found = trusted.fit_error(model, view(x, labels), "regression", 2, CostMeter())
    expected = [sum((a - b) ** 2 for a, b in zip(p, t, strict=True)) for p, t in zip(model(x).tolist(), y.tolist(), strict=True)]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_a_diverged_network_is_reported():
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.fill_(math.nan)
    with pytest.raises(FloatingPointError, match="diverged"):
        trusted.fit_error(model, view(torch.ones(3, 2), torch.zeros(3, dtype=torch.int64)), "classification", 2, CostMeter())


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30), st.randoms())
def test_orders_equal_plain_sorting(samples, random):
    index = random.sample(range(1000), len(samples))
    scores, labels = zip(*samples, strict=True)
    order = trusted.lowest_first(torch.tensor(scores, dtype=torch.float64), torch.tensor(index)).tolist()
    assert order == sorted(range(len(samples)), key=lambda k: (scores[k], index[k]))

    fair = trusted.balanced(torch.tensor(order), torch.tensor(labels)).tolist()
    assert sorted(fair) == sorted(order)
    for size in range(len(samples) + 1):
        for label in set(labels):
            members = [k for k in order if labels[k] == label]
            mine = [k for k in fair[:size] if labels[k] == label]
            assert mine == members[: len(mine)]  # each class by its own order
            left_out = len(mine) < len(members)
            assert not left_out or all(sum(labels[k] == other for k in fair[:size]) <= len(mine) + 1 for other in set(labels))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9]))
def test_skipping_passes_over_the_first_share(labels, skip):
    order = torch.arange(len(labels)).flip(0)
    left = trusted.skip_first(order, skip).tolist()
    assert left == order.tolist()[int(skip * len(labels)) :]
    fair = trusted.balanced(order, torch.tensor(labels), skip).tolist()
    for label in set(labels):
        members = [k for k in order.tolist() if labels[k] == label]
        assert [k for k in fair if labels[k] == label] == members[int(skip * len(members)) :]
    assert [labels[k] for k in fair[: len({labels[k] for k in fair})]] == list(dict.fromkeys(labels[k] for k in fair))  # a class each


def network(dtype=torch.float32):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(36, 3)).to(dtype)
    net[1].running_mean.normal_()
    return net


def plain_curvature(model, inputs, labels, index, batch_size, rng):
    """As the released code goes about it: both gradients in every draw, each batch by itself."""
    model = copy.deepcopy(model).eval()

    def gradient(x, y):
        x = x.clone().requires_grad_()
        losses = functional.cross_entropy(model(x).double(), y, reduction="none")
        return torch.autograd.grad(losses.sum(), x)[0]

    scores = []
    for rows in torch.arange(len(inputs)).split(batch_size):
        x, y, total = inputs[rows], labels[rows], 0.0
        drawn = [torch.randint(2, (10, *x.shape[1:]), generator=rng.child(int(index[k])).generator(), dtype=torch.int8) for k in rows]
        for draw in range(10):
            step = 1e-3 * torch.stack([2.0 * bits[draw] - 1.0 for bits in drawn]).to(x)
            total = total + (gradient(x + step, y) - gradient(x, y)).double().flatten(1).norm(dim=1)
        scores.append(total / 10)
    return torch.cat(scores)


def images(count=23, dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(count, 2, 5, 5, generator=generator, dtype=dtype), torch.randint(0, 3, (count,), generator=generator)


def test_curvature_has_the_bits_of_the_plain_estimator():
    model, (x, y), rng, meter = network(), images(), stream(7, "select", "curvature"), CostMeter()
    with meter("select"):
        found = trusted.curvature(model, view(x, y), "classification", 8, rng, meter)
    assert torch.equal(found, plain_curvature(model, x, y, torch.arange(23), 8, rng))
    assert found.dtype == torch.float64
    assert (found > 0).all()
    assert (meter.records[0].forwards, meter.records[0].backwards) == (11 * 23, 11 * 23)
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_curvature_draws_follow_the_sample_not_its_place():
    model, (x, y), rng = network(torch.float64), images(dtype=torch.float64), stream(7, "select", "curvature")
    found = trusted.curvature(model, view(x, y), "classification", 8, rng, CostMeter())
    order = torch.randperm(23, generator=torch.Generator().manual_seed(1))
    moved = trusted.curvature(model, view(x, y).subset(order), "classification", 5, rng, CostMeter())
    assert torch.allclose(moved, found[order], rtol=1e-9)
    other = trusted.curvature(model, view(x, y), "classification", 8, stream(8, "select", "curvature"), CostMeter())
    assert not torch.allclose(other, found, rtol=1e-3)


def test_curvature_of_a_square_is_known():
    """A squared residual of a linear model: the gradient moves by 2 w (w . v), whatever x."""
    model = nn.Linear(3, 1).double()
    x, rng = torch.randn(4, 3, dtype=torch.float64), stream(0, "select", "curvature")
    found = trusted.curvature(model, view(x, torch.randn(4).double()), "regression", 4, rng, CostMeter())
    w = model.weight[0].detach()
    for k in range(4):
        signs = 2.0 * torch.randint(2, (10, 3), generator=rng.child(k).generator(), dtype=torch.int8).double() - 1
        assert found[k].item() == pytest.approx((2 * w.norm() * (1e-3 * signs @ w).abs().mean()).item(), rel=1e-6)


def test_curvature_of_a_diverged_network_is_reported():
    model = network()
    with torch.no_grad():
        model[5].weight.fill_(math.nan)
    with pytest.raises(FloatingPointError, match="gradient is not finite"):
        trusted.curvature(model, view(*images()), "classification", 8, stream(0, "select"), CostMeter())


def test_exact_quota_where_the_size_allows():
    labels = torch.arange(40) % 4
    fair = trusted.balanced(torch.arange(40), labels)
    assert torch.bincount(labels[fair[:12]]).tolist() == [3, 3, 3, 3]

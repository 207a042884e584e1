"""Orders of trust against plain sorting."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sap_core import trusted
from sap_core.cost import CostMeter
from sap_core.data.samples import Preprocess, SampleView, TensorPixels


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
    assert meter.pieces[0].forwards == 11


@pytest.mark.parametrize("outputs", [1, 2])
def test_squared_residual_for_regression(outputs):
    model = nn.Linear(3, outputs)
    x, y = torch.randn(5, 3), torch.randn(5, outputs)
    labels = y[:, 0] if outputs == 1 else y
    found = trusted.fit_error(model, view(x, labels), "regression", 2, CostMeter())
    expected = [sum((a - b) ** 2 for a, b in zip(p, t, strict=True)) for p, t in zip(model(x).tolist(), y.tolist(), strict=True)]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_diverged_network_is_said():
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


def test_exact_quota_where_the_size_allows():
    labels = torch.arange(40) % 4
    fair = trusted.balanced(torch.arange(40), labels)
    assert torch.bincount(labels[fair[:12]]).tolist() == [3, 3, 3, 3]

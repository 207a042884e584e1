"""The spiral against its formula."""

import math
from pathlib import Path

import pytest
import torch

from sap_core.data.noise import Symmetric
from sap_core.data.source import DataSet
from sap_core.data.spiral import Spiral
from sap_core.errors import UserError
from sap_core.seeding import stream

NOWHERE = Path("nowhere")


def test_points_lie_on_the_two_arms():
    data = Spiral().load(NOWHERE)
    points, labels = data.train.tensor.double(), data.train_labels
    assert points.shape == (2_500, 2)
    assert labels[:500].bincount().tolist() == [250, 250]
    assert labels[500:].bincount().tolist() == [1_000, 1_000]
    assert data.test_labels.bincount().tolist() == [5_000, 5_000]
    radius = points.norm(dim=1)
    theta = (10 * radius - math.pi) / 2
    sign = 1 - 2 * labels.double()
    expected = sign.unsqueeze(1) * radius.unsqueeze(1) * torch.stack([theta.cos(), theta.sin()], 1)
    assert torch.allclose(points, expected, atol=1e-5)
    assert float(radius.max()) <= (8 * math.pi + math.pi) / 10 + 1e-6
    assert torch.equal(points[:250], -points[250:500]), "both arms have the same angles"


def test_angles_fill_two_turns_evenly_by_area():
    theta = (10 * Spiral().load(NOWHERE).test.tensor[:5_000].double().norm(dim=1) - math.pi) / 2
    share = (theta / (4 * math.pi)) ** 2
    assert float(share.mean()) == pytest.approx(0.5, abs=4 / math.sqrt(12 * 5_000))


def test_the_points_never_change_and_parts_differ():
    first, again = Spiral().load(NOWHERE), Spiral().load(NOWHERE)
    assert torch.equal(first.train.tensor, again.train.tensor)
    assert not torch.equal(first.train.tensor[:250], first.test.tensor[:250])
    assert Spiral().inspect(NOWHERE).digest[:16] == "08fd3470831d8a7f"
    assert Spiral().inspect(NOWHERE).verified


def test_jitter_moves_points_by_its_standard_deviation():
    moved = Spiral(jitter=0.1).load(NOWHERE).test.tensor - Spiral().load(NOWHERE).test.tensor
    assert float(moved.std()) == pytest.approx(0.1, abs=0.003)
    with pytest.raises(UserError, match=r"dataset\.jitter=-1"):
        Spiral(jitter=-1.0)


def test_its_own_validation_points_are_used_unless_others_are_asked_for():
    assert Spiral().load(NOWHERE).own_validation == 2_000
    assert Spiral(split_seed=3).load(NOWHERE).own_validation == 0
    assert Spiral(validation=0.1).load(NOWHERE).own_validation == 0


def test_it_is_a_data_set_that_takes_symmetric_noise():
    data = Spiral()
    assert isinstance(data, DataSet)
    labels = data.load(NOWHERE).train_labels
    given = Symmetric(0.1).corrupt(labels, data.classes, stream(1, "noise"))
    assert int((given != labels).sum()) == 250

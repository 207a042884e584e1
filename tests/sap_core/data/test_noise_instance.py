"""Instance-dependent noise against a plain implementation, and its rates."""

import math
from pathlib import Path

import pytest
import torch

from sap_core.data.corruption import check_noise, corrupt, expected_rate
from sap_core.data.digits import Digits
from sap_core.data.noise import InstanceDependent
from sap_core.data.noise.instance import truncated_mean, truncated_normal
from sap_core.data.samples import TensorPixels
from sap_core.data.source import Classes, DataNoise, Source
from sap_core.errors import UserError
from sap_core.seeding import stream

NOWHERE = Path("nowhere")
RNG = stream(12484, "noise", "test")
DIGITS = Digits()


class Toy:
    """What noise asks of a data set: three classes of (2,)-vectors."""

    kind, shape, mean, std, truth_known = "classification", (2,), (), (), True
    classes = Classes(3)


def toy(num):
    labels = torch.arange(num) % 3
    return Source(
        TensorPixels(torch.rand(num, 2, generator=torch.Generator().manual_seed(3))), labels, TensorPixels(torch.empty(0, 2)), labels
    )


def test_labels_equal_a_plain_loop():
    """Every sample by itself, as in the authors' code, with the same random numbers."""
    source, num = toy(300), 300
    given = corrupt(InstanceDependent(0.4), Toy(), source, NOWHERE, RNG).labels
    q, flip, kind = (torch.rand(num, dtype=torch.float64, generator=RNG.child(key).generator()).tolist() for key in ("q", "which", "label"))
    for i, (x, y) in enumerate(zip(source.train.tensor.double(), source.train_labels.tolist(), strict=True)):
        W = torch.randn(2, 3, dtype=torch.float64, generator=RNG.child("parts", y).generator())
        a = x @ W
        a[y] = -math.inf
        p = torch.softmax(a, 0)
        rate = float(truncated_normal(0.4, torch.tensor([q[i]], dtype=torch.float64)))
        reached, drawn = 0.0, y
        if flip[i] < rate:
            for label in range(3):
                reached += float(p[label])
                if kind[i] < reached:
                    drawn = label
                    break
        assert int(given[i]) == drawn


@pytest.mark.parametrize(("rate", "calibrated"), [(0.1, False), (0.25, False), (0.1, True), (0.02, True), (0.5, False), (0.9, True)])
def test_the_rate_is_the_expected_one_within_four_standard_errors(rate, calibrated):
    noise = InstanceDependent(rate, calibrated)
    source = toy(40_000)
    share = float((corrupt(noise, Toy(), source, NOWHERE, RNG).labels != source.train_labels).double().mean())
    assert abs(share - noise.expected_rate(Classes(10))) < 4 * math.sqrt(
        noise.expected_rate(Classes(10)) * (1 - noise.expected_rate(Classes(10))) / 40_000
    )
    if calibrated:
        assert noise.expected_rate(Classes(10)) == pytest.approx(rate, abs=1e-9)


def test_cutting_raises_low_rates():
    """12.9 % where 10 % are asked: the mean of N(0.1, 0.1) on [0, 1]."""
    assert expected_rate(InstanceDependent(0.1), Classes(10)) == pytest.approx(0.12876, abs=1e-5)
    assert expected_rate(InstanceDependent(0.2), Classes(10)) == pytest.approx(0.20552, abs=1e-5)


@pytest.mark.parametrize("centre", [-2.0, 0.1, 0.5, 0.95, 3.0])
def test_draws_follow_the_cut_normal_distribution(centre):
    chance = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    draws = truncated_normal(centre, chance)
    assert 0 <= draws.min() <= draws.max() <= 1
    assert draws.diff().min() > 0
    assert float(draws.mean()) == pytest.approx(truncated_mean(centre), abs=2e-5)
    if centre == 0.5:
        assert float(draws.std()) == pytest.approx(0.1, abs=1e-4)


def test_a_higher_rate_corrupts_more_and_changes_nothing_else():
    source = DIGITS.load(NOWHERE)
    low, high = (corrupt(InstanceDependent(rate), DIGITS, source, NOWHERE, RNG).labels for rate in (0.1, 0.3))
    hit = low != source.train_labels
    assert 0 < int(hit.sum()) < int((high != source.train_labels).sum())
    assert torch.equal(high[hit], low[hit])


def test_wrong_labels_depend_on_the_image():
    """Images of one class whose pixels are alike get the same wrong label more often than others do."""
    source = DIGITS.load(NOWHERE)
    given = corrupt(InstanceDependent(0.6), DIGITS, source, NOWHERE, RNG).labels
    again, shuffled = [], []
    for label in range(10):
        hit = torch.nonzero((source.train_labels == label) & (given != label)).flatten()
        images = source.train.tensor[hit].flatten(1)
        distances = torch.cdist(images, images).fill_diagonal_(torch.inf)
        again.append((given[hit] == given[hit[distances.argmin(1)]]).double().mean())
        shuffled.append((given[hit] == given[hit[stream(label, "noise").permutation(len(hit))]]).double().mean())
    assert sum(again) > sum(shuffled) + 1


@pytest.mark.parametrize(("rate", "calibrated"), [(0.0, False), (0.001, True), (0.999, True), (1.0, False)])
def test_rates_that_cannot_be_made_are_refused(rate, calibrated):
    with pytest.raises(UserError, match=r"noise\.(rate|calibrated)"):
        InstanceDependent(rate, calibrated)


def test_it_is_a_kind_that_sees_the_data():
    assert isinstance(InstanceDependent(0.1), DataNoise)

    class Ages(Toy):
        kind = "regression"

    with pytest.raises(UserError, match="needs class labels"):
        check_noise(InstanceDependent(0.1), "instance", Ages(), "ages")

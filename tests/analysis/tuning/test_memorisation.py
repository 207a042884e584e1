"""The exact test of memorised validation images: its level by exhaustion, its direction as a property, and cases by hand."""

from __future__ import annotations

from math import comb

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.tuning.memorisation import GAIN_RIGHT, GAIN_WRONG, LEVEL, Memorisation, Part, better, images_for, memorisation
from sap_core.mcnemar import McNemarTest


def tail(first, second):
    """P(at least `first.right` of `first.count` images drawn from all are among the right ones), by counting."""
    right, count = first.right + second.right, first.count + second.count
    ways = sum(comb(right, k) * comb(count - right, first.count - k) for k in range(first.right, min(right, first.count) + 1))
    return ways / comb(count, first.count)


def part(draw, name):
    count = draw(st.integers(1, 60), label=f"count of {name}")
    return Part(draw(st.integers(0, count), label=f"right of {name}"), count)


@given(st.data())
def test_the_p_value_is_fishers(data):
    first, second = part(data.draw, "first"), part(data.draw, "second")
    assert better(first, second) == pytest.approx(tail(first, second), abs=1e-9)


@given(st.data())
def test_more_right_validation_images_are_more_suspicious(data):
    val, test = part(data.draw, "val"), part(data.draw, "test")
    if val.right < val.count:
        more = Memorisation(None, Part(val.right + 1, val.count), test)
        assert more.p_value <= Memorisation(None, val, test).p_value + 1e-12


@given(st.integers(1, 25), st.integers(1, 25), st.integers(0, 50))
def test_by_exhaustion_unseen_images_are_called_memorised_with_probability_level_at_most(num_val, num_test, right):
    """Which of the images are validation images is chance if the network has seen neither: every choice is equally probable."""
    right = min(right, num_val + num_test)
    flagged = sum(
        comb(right, k) * comb(num_val + num_test - right, num_val - k)
        for k in range(max(0, right - num_test), min(right, num_val) + 1)
        if Memorisation(None, Part(k, num_val), Part(right - k, num_test)).memorised
    )
    assert flagged / comb(num_val + num_test, num_val) <= LEVEL + 1e-12


@pytest.mark.parametrize(
    ("train", "val", "test", "memorised", "as_training"),
    [
        (Part(640, 1000), Part(128, 200), Part(125, 400), True, True),  # drawn from training images with wrong labels
        (Part(640, 1000), Part(55, 200), Part(125, 400), False, False),  # the same network on fresh images with wrong labels
        (Part(160, 160), Part(40, 40), Part(20, 40), True, True),
        (Part(160, 160), Part(40, 40), Part(39, 40), False, True),
        (Part(1000, 1000), Part(170, 200), Part(280, 400), True, False),  # worse than training images: seen in part, or easier
        (None, Part(40, 40), Part(20, 40), True, False),
    ],
)
def test_cases_by_hand(train, val, test, memorised, as_training):
    found = Memorisation(train, val, test)
    assert (found.memorised, found.as_training) == (memorised, as_training)


def test_a_row_gives_the_counts():
    row = {"train_acc": 0.95, "num_train": 100, "val_noisy_acc": 0.9, "num_val": 50, "test_acc": 0.6, "num_test": 200}
    assert memorisation(pd.Series(row)) == Memorisation(Part(95, 100), Part(45, 50), Part(120, 200))
    assert memorisation(pd.Series(row | {"train_acc": None})) == Memorisation(None, Part(45, 50), Part(120, 200))
    assert memorisation(pd.Series(row | {"test_acc": float("nan")})) is None
    assert memorisation(None) is None


@pytest.mark.parametrize("settings", [1, 16])
def test_so_many_unseen_images_would_show_a_gain_of_five_points(settings):
    count = images_for(settings)
    scaled = [round(count * share / 1000) for share in (GAIN_WRONG, GAIN_RIGHT)]
    assert McNemarTest(*scaled, count, settings).p_value <= 2 * LEVEL

"""Means and standard deviations by which inputs are normalised."""

from __future__ import annotations

import math

import pytest

from sap_core.data.constants import check_constants
from sap_core.data.folder import Folder
from sap_core.data.samples import Preprocess
from sap_core.data.table import Table
from sap_core.data.tensors import Tensors
from sap_core.errors import UserError

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.2, 0.2)


def test_one_number_per_channel_or_none_at_all():
    check_constants(MEAN, STD, "dataset", 3)
    check_constants([0], [1], "dataset", 1)
    check_constants((), (), "dataset", 3)


@pytest.mark.parametrize(
    ("mean", "std", "said"),
    [
        (MEAN, (0.2, 0.0, 0.2), r"std=\[0.2, 0.0, 0.2\] must contain only numbers above 0"),
        (MEAN, (0.2, -0.0, 0.2), "above 0"),
        (MEAN, (0.2, -1, 0.2), "above 0"),
        (MEAN, (0.2, 1e-50, 0.2), "above 0"),
        (MEAN, (0.2, math.nan, 0.2), "no list of finite numbers"),
        (MEAN, (0.2, math.inf, 0.2), "no list of finite numbers"),
        ((math.nan, 0, 0), STD, r"mean=\[nan, 0, 0\] is no list of finite numbers"),
        ((1e300, 0, 0), STD, "no list of finite numbers"),
        (MEAN, (0.2, True, 0.2), "no list of finite numbers"),
        (MEAN, "0.2", "no list of finite numbers"),
        (0.5, 0.2, "no list of finite numbers"),
        (MEAN, STD[:2], r"mean has 3 and dataset.std 2 numbers; give both one number per channel \(3\)"),
        (MEAN, (), "mean has 3 and dataset.std 0 numbers"),
        ((0.5,), (0.2,), r"one number per channel \(3\)"),
    ],
)
def test_what_cannot_normalise_is_refused(mean, std, said):
    with pytest.raises(UserError, match=f"dataset.{said}" if said.startswith(("mean", "std")) else said):
        check_constants(mean, std, "dataset", 3)


@pytest.mark.parametrize(
    "make",
    [
        lambda std: Folder("x", 2, 100, 10, size=8, mean=MEAN, std=std),
        lambda std: Table("x.csv", 2, 100, 10, size=8, mean=MEAN, std=std),
        lambda std: Tensors("x.npz", 2, 100, 10, (3, 8, 8), mean=MEAN, std=std),
        lambda std: Preprocess(MEAN, std),
    ],
    ids=["folder", "table", "tensors", "library"],
)
def test_a_deviation_of_0_is_refused_wherever_it_is_given(make):
    make(STD)
    with pytest.raises(UserError, match="must contain only numbers above 0"):
        make((0.2, 0.2, 0.0))

"""Splits into training and validation samples."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sap_core.data.splits import sizes, split, validation_count
from sap_core.errors import UserError
from sap_core.seeding import stream


@given(num=st.integers(2, 300), share=st.floats(0.01, 0.99), seed=st.integers(0, 9))
def test_both_parts_cover_everything_once(num, share, seed):
    if int(share * num) == 0:
        return
    train, val = split(num, share, stream(seed, "split"))
    assert len(val) == int(share * num)
    assert sorted(train.tolist() + val.tolist()) == list(range(num))
    assert train.tolist() == sorted(train.tolist())
    assert val.tolist() == sorted(val.tolist())
    assert train.dtype == val.dtype == torch.int64


def test_the_published_splits_have_their_sizes():
    assert validation_count(50_000, 0.1) == 5_000
    assert validation_count(60_000, 0.1) == 6_000
    assert validation_count(1_397, 300) == 300


def test_the_split_depends_on_the_stream_only():
    first, again, other = (split(100, 0.2, stream(seed, "split", "digits"))[1].tolist() for seed in (1, 1, 2))
    assert first == again != other
    assert first[:5] == [0, 1, 3, 4, 10]


@pytest.mark.parametrize("validation", [0, -1, 10, 11, 0.0, 1.0, 1.5, -0.1, 0.05, math.nan, math.inf, True, "0.1", None])
def test_silly_values_are_refused(validation):
    with pytest.raises(UserError, match=r"dataset\.validation"):
        validation_count(10, validation)


def test_sizes_are_cut_in_proportion():
    assert sizes(50_000, 10_000, 0.1, None) == (45_000, 5_000, 10_000)
    assert sizes(50_000, 10_000, 0.2, 3_000) == (2_400, 600, 3_000)
    assert sizes(1_397, 400, 300, 200) == (157, 43, 200)
    assert sizes(50_000, 10_000, 0.1, 40_000) == (36_000, 4_000, 10_000), "testing has no more than there are"


@pytest.mark.parametrize("validation", [1, 1.0, 0, 0.0, -1, -0.1, 0.001, 100, 101, 1.5, math.nan, math.inf, True, False, "0.1", None, [1]])
def test_what_is_no_validation_set_is_refused(validation):
    with pytest.raises(UserError, match=r"dataset\.validation="):
        validation_count(100, validation)


def test_a_single_sample_is_named_as_such():
    with pytest.raises(UserError, match=r"validation=1 is one sample, which decides nothing; give a fraction below 1 \(0\.1\)"):
        validation_count(100, 1)
    assert validation_count(100, 2) == 2
    assert validation_count(100, 99) == 99

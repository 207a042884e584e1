"""Content ids: hashes of canonical JSON."""

from __future__ import annotations

import hashlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sap_core.identity import canonical_json, content_id

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def backwards(value):
    """The same value with every dict's keys inserted in the opposite order."""
    if isinstance(value, dict):
        return {key: backwards(value[key]) for key in reversed(list(value))}
    return [backwards(item) for item in value] if isinstance(value, list) else value


@given(PLAIN)
def test_one_text_per_value_whatever_the_order_of_its_keys(value):
    text = canonical_json(value)
    assert text == canonical_json(backwards(value))
    assert json.loads(text) == value
    assert text.isascii()


def test_text_is_sorted_tight_and_writes_floats_by_repr():
    assert canonical_json({"b": [0.1, 1e-5, 300000.0, 1], "a": {"d": True, "c": None}}) == (
        '{"a":{"c":null,"d":true},"b":[0.1,1e-05,300000.0,1]}'
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_no_numbers_are_refused(value):
    with pytest.raises(ValueError):
        canonical_json({"a": [value]})


def test_objects_are_refused():
    with pytest.raises(TypeError):
        canonical_json({"a": object()})


def test_an_id_is_the_first_16_digits_of_the_hash():
    value = {"kind": "train", "seed": 12484, "settings": {"rate": 0.25}}
    assert content_id(value) == "5dd17d61cd50d851"
    assert content_id(value) == hashlib.sha256(b'{"kind":"train","seed":12484,"settings":{"rate":0.25}}').hexdigest()[:16]


def test_integers_and_floats_have_different_ids():
    assert content_id({"rate": 1}) != content_id({"rate": 1.0})

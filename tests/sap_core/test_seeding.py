"""Named random streams."""

from __future__ import annotations

import itertools

import torch

from sap_core.seeding import Stream, stream


def draws(source: Stream) -> list[float]:
    return torch.rand(4, generator=source.generator()).tolist()


def test_numbers_do_not_depend_on_what_was_drawn_before():
    first = draws(stream(7, "train", 3))
    torch.rand(100)
    draws(stream(7, "train", 2))
    stream(7, "train", 3).permutation(50)
    assert draws(stream(7, "train", 3)) == first


def test_drawing_does_not_change_the_global_generator():
    before = torch.get_rng_state()
    stream(7, "noise").permutation(10)
    draws(stream(7, "split"))
    assert torch.equal(torch.get_rng_state(), before)


def test_every_part_of_the_key_counts():
    parent = stream(7, "train", 3)
    keys = [
        parent, stream(8, "train", 3), stream(7, "noise", 3), stream(7, "train", 4), stream(7, "train", "3"), stream(7, "train"),
        stream(7, "train", 3, "a"), parent.child("b"), parent.child("order"), parent.child("order", 0), stream(73, "train"),
        stream(7, "train", 31), stream(7, "train", 3, 1), stream(-7, "train", 3),
    ]  # fmt: skip
    assert len({key.number() for key in keys}) == len(keys)
    for one, other in itertools.combinations(keys, 2):
        assert draws(one) != draws(other)


def test_a_child_is_the_longer_key():
    assert stream(7, "train").child(3, "order") == stream(7, "train", 3, "order")


def test_a_permutation_contains_every_position_once():
    order = stream(7, "split").permutation(101)
    assert sorted(order.tolist()) == list(range(101))
    assert order.tolist() != list(range(101))


def test_numbers_are_pinned():
    """Were they to change, every result would: ids must then change too (`version`)."""
    assert stream(12484, "noise", "sap_core.data.digits.Digits", "sap_core.data.noise.Symmetric").number() == 280869819639908480
    assert stream(12484, "train", 1).permutation(8).tolist() == [6, 5, 4, 2, 7, 0, 1, 3]

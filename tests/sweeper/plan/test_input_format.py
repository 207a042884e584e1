"""Channels and size of a given network's inputs, and the number of trusted samples, where they are auto."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sap_core.data.file_facts import ImageHeaders
from sap_core.errors import UserError
from sweeper.plan.input_format import NetworkFormat, choose_channels, choose_size
from sweeper.plan.trusted_size import batch_size, num_trusted


def headers(sizes=None, grey=0):
    sizes = sizes or {(28, 28): 10}
    total = sum(sizes.values())
    return ImageHeaders(sizes, grey, total - grey, total)


def network(channels=3, usual=224, runs=lambda channels, side: True):
    return NetworkFormat("net", channels, usual, runs)


@pytest.mark.parametrize(
    ("sizes", "usual", "runs", "side", "words"),
    [
        ({(28, 28): 10}, 224, lambda c, s: True, 28, "all images have 28 x 28 pixels"),
        ({(28, 28): 10}, 224, lambda c, s: s == 224, 224, "usual size of net, which does not accept images of 28 x 28"),
        ({(28, 28): 10}, None, lambda c, s: False, 28, "all images have 28 x 28 pixels"),
        ({(32, 24): 10}, 224, lambda c, s: True, 224, "usual size of net; all images have 32 x 24 and are resized to a square"),
        ({(32, 24): 10}, None, lambda c, s: True, 24, "most of them 32 x 24"),
        ({(64, 64): 3, (32, 32): 4, (48, 32): 1}, None, lambda c, s: True, 32, "images have 3 sizes, most of them 32 x 32"),
        ({(64, 64): 3, (32, 32): 4}, 96, lambda c, s: True, 96, "usual size of net; images have 2 sizes and are resized"),
    ],
)
def test_the_size_is_that_of_the_images_or_else_the_usual_one(sizes, usual, runs, side, words):
    found = choose_size(headers(sizes), network(usual=usual, runs=runs), 3)
    assert found.value == side
    assert words in found.source


@pytest.mark.parametrize(
    ("grey", "wanted", "given", "channels", "words"),
    [
        (0, 3, None, 3, "the first convolution in the checkpoint; images have as many"),
        (10, 3, None, 3, "the grey images are repeated in 3 channels"),
        (4, 3, None, 3, "4 of 10 grey images are repeated in 3 channels"),
        (10, 1, None, 1, "images have as many"),
        (0, 1, 1, 1, "the colour images are converted to grey"),
        (10, None, None, 1, "the images; images have as many"),
        (4, None, None, 3, "4 of 10 grey images are repeated"),
        (10, None, 3, 3, "the grey images are repeated"),
    ],
)
def test_the_channels_are_those_of_the_checkpoint_or_else_of_the_images(grey, wanted, given, channels, words):
    found = choose_channels(headers(grey=grey), network(channels=wanted), given)
    assert found.value == channels
    assert words in found.source


def test_grey_images_stay_colour_for_a_network_that_takes_no_others():
    assert choose_channels(headers(grey=10), network(channels=None, runs=lambda channels, side: channels == 3)).value == 3


@pytest.mark.parametrize(
    ("wanted", "given", "words"),
    [(4, None, "has 4 input channels, but image files are read as 1"), (3, 1, r"dataset\.channels=1, but .* has 3 input channels")],
)
def test_channels_that_contradict_the_checkpoint_are_refused_with_both_numbers(wanted, given, words):
    with pytest.raises(UserError, match=words):
        choose_channels(headers(), network(channels=wanted), given)


@pytest.mark.parametrize(
    ("train", "classes", "trusted", "batch"),
    [(45_000, 10, 900, 50), (50_000, 10, 1000, 50), (50_000, 100, 1000, 50), (1097, 10, 200, 50), (640, 5, 100, 50), (128, 4, 25, 25)],
)
def test_the_number_of_trusted_samples_follows_the_paper(train, classes, trusted, batch):
    assert (num_trusted(train, classes), batch_size(num_trusted(train, classes))) == (trusted, batch)


@given(st.integers(1, 10**6), st.integers(2, 1000))
def test_at_most_a_fifth_is_trusted_in_batches_of_one_size(train, classes):
    trusted = num_trusted(train, classes)
    assert 1 <= trusted <= max(1, train / 5)
    assert trusted % batch_size(trusted) == 0


@given(st.integers(1, 10**6))
def test_batches_are_neither_tiny_nor_larger_than_the_trusted_set(trusted):
    assert min(10, trusted) <= batch_size(trusted) <= min(50, trusted)

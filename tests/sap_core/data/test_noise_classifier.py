"""Classifier noise: exact counts, plausible errors, the same labels for any number of threads."""

from pathlib import Path

import pytest
import torch

from sap_core.data.corruption import corrupt
from sap_core.data.digits import Digits
from sap_core.data.noise import Classifier
from sap_core.data.samples import TensorPixels
from sap_core.data.source import Classes, DataNoise, Source
from sap_core.errors import UserError
from sap_core.seeding import stream

NOWHERE = Path("nowhere")
DIGITS = Digits()


def noisy(rate, seed=1):
    return corrupt(Classifier(rate), DIGITS, DIGITS.load(NOWHERE), NOWHERE, stream(seed, "noise")).labels


@pytest.fixture(scope="module")
def at_10_percent():
    """(true, given) labels of the digits."""
    return DIGITS.load(NOWHERE).train_labels, noisy(0.1)


def test_exactly_the_asked_number_is_wrong(at_10_percent):
    labels, given = at_10_percent
    assert int((given != labels).sum()) == int(0.1 * len(labels))
    assert int((noisy(0.6) != labels).sum()) == int(0.6 * len(labels))


@pytest.mark.slow
def test_labels_are_drawn_from_the_stream_and_do_not_depend_on_threads():
    threads = torch.get_num_threads()
    first = noisy(0.5)
    try:
        torch.set_num_threads(3)
        again = noisy(0.5)
        assert torch.get_num_threads() == 3, "what the job runs with is restored"
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(first, again)
    assert not torch.equal(first, noisy(0.5, seed=2))


def test_samples_labelled_by_hand_stay_true(at_10_percent):
    """The first k of the random order; at 10 % they are a part that no chance leaves right."""
    labels, given = at_10_percent
    order = stream(1, "noise").child("which").permutation(len(labels))
    first_wrong = int(torch.nonzero(given[order] != labels[order])[0])
    assert first_wrong > 50


def test_mistakes_are_those_of_classes_that_look_alike(at_10_percent):
    """Few pairs of classes make up most of the mistakes, which symmetric noise would spread over 90."""
    labels, given = at_10_percent
    counts = torch.bincount(labels * 10 + given, minlength=100).reshape(10, 10).fill_diagonal_(0).flatten().sort(descending=True).values
    assert counts[:15].sum() > 0.5 * counts.sum()


def test_a_rate_that_no_network_makes_is_refused():
    class Plain:
        kind, shape, mean, std, truth_known, classes = "classification", (1,), (), (), True, Classes(2)

    labels = (torch.arange(400) % 10 == 0).long()
    source = Source(TensorPixels(10 * labels.float().unsqueeze(1)), labels, TensorPixels(torch.empty(0, 1)), labels)
    with pytest.raises(UserError, match=r"cannot make noise\.rate=0\.95"):
        corrupt(Classifier(0.95), Plain(), source, NOWHERE, stream(1, "noise"))


def test_no_rate_is_no_noise_and_the_kind_sees_the_data():
    assert torch.equal(noisy(0.0), DIGITS.load(NOWHERE).train_labels)
    assert isinstance(Classifier(0.1), DataNoise)

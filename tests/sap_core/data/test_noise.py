"""Label noise: counts, structure, nesting of rates, and errors."""

import hashlib
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sap_core.data.cifar10 import CIFAR10
from sap_core.data.cifar100 import CIFAR100
from sap_core.data.corruption import check_noise, expected_rate
from sap_core.data.fashion_mnist import FashionMNIST
from sap_core.data.mnist import MNIST
from sap_core.data.noise import Asymmetric, Hierarchical, Interclass, NoNoise, PairFlip, Patch, Symmetric
from sap_core.data.source import Classes, Noise
from sap_core.errors import UserError
from sap_core.seeding import stream

KINDS = (Symmetric, Asymmetric, Hierarchical, PairFlip)
RNG = stream(12484, "noise", "test")


class Wide:
    """A data set of so many classes and such images, as far as noise is concerned."""

    kind = "classification"
    truth_known = True

    def __init__(self, num, shape):
        self.classes, self.shape = Classes(num), shape


def balanced(num_classes, each):
    return torch.arange(num_classes).repeat(each)


@given(num=st.integers(1, 400), classes=st.integers(2, 12), rate=st.floats(0, 0.99), seed=st.integers(0, 99))
def test_symmetric_corrupts_exactly_the_asked_number(num, classes, rate, seed):
    labels = torch.arange(num) % classes
    given_labels = Symmetric(rate).corrupt(labels, Classes(classes), stream(seed, "noise"))
    assert sum(a != b for a, b in zip(labels.tolist(), given_labels.tolist(), strict=True)) == int(rate * num)
    assert all(0 <= label < classes for label in given_labels.tolist())


def test_symmetric_draws_every_other_class_equally_often():
    labels = torch.zeros(30_000, dtype=torch.int64)
    given_labels = Symmetric(0.9).corrupt(labels, Classes(4), RNG)
    counts = given_labels.bincount(minlength=4).tolist()
    assert counts[0] == 3_000
    assert all(abs(count - 9_000) < 400 for count in counts[1:])


def test_symmetric_may_draw_the_true_class_where_asked():
    labels = balanced(4, 10_000)
    wrong = (Symmetric(0.4, exclude_true=False).corrupt(labels, Classes(4), RNG) != labels).float().mean()
    assert wrong.item() == pytest.approx(0.4 * 3 / 4, abs=0.01)


def test_symmetric_may_hit_each_sample_independently():
    labels = balanced(10, 2_000)
    counts = [int((Symmetric(0.25, exact=False).corrupt(labels, Classes(10), stream(seed, "noise")) != labels).sum()) for seed in range(8)]
    assert len(set(counts)) > 1
    assert all(abs(count - 5_000) < 300 for count in counts)


@pytest.mark.parametrize("kind", KINDS)
def test_a_higher_rate_corrupts_more_and_changes_nothing_else(kind):
    data = CIFAR100.classes
    labels = balanced(100, 40)
    low, high = (kind(rate).corrupt(labels, data, RNG) for rate in (0.10, 0.25))
    hit = low != labels
    assert int(hit.sum()) == (400 if kind is not PairFlip else 398)
    assert int((high != labels).sum()) == (1_000 if kind is not PairFlip else 1_021)
    assert torch.equal(high[hit], low[hit])


@pytest.mark.parametrize("kind", KINDS)
def test_corruption_is_keyed_by_the_stream_and_does_not_change_its_input(kind):
    labels = balanced(10, 50)
    before = labels.clone()
    first, again, other = (kind(0.3).corrupt(labels, CIFAR10.classes, stream(seed, "noise")) for seed in (7, 7, 8))
    assert torch.equal(labels, before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("noise", "golden"),
    [
        (Symmetric(0.25), "485af32ddaf7f705"),
        (Symmetric(0.25, exact=False), "e5612b60bbdf10bc"),
        (Symmetric(0.25, exclude_true=False), "521a956939fcd46a"),
        (Asymmetric(0.25), "32fca4c15fe582ea"),
        (Asymmetric(0.25, per_class=True), "ea71edc6df2fbd07"),
        (Hierarchical(0.25), "1dc4f4e3eac83a31"),
        (Asymmetric(0.25, exact=False), "fdbc7bd8f7abd6d1"),
        (PairFlip(0.25), "4a683928059e4fcb"),
        (PairFlip(0.25, exact=True), "31e26de7216cda7e"),
        (Interclass(0.25, (47, 53)), "cb34084c19196775"),
    ],
)
def test_the_corrupted_labels_never_change_without_a_new_version(noise, golden):
    given_labels = noise.corrupt(balanced(100, 10), CIFAR100.classes, RNG)
    assert noise.version == 1
    assert hashlib.sha256(bytes(given_labels.tolist())).hexdigest()[:16] == golden


def test_asymmetric_on_cifar10_leaves_half_of_the_picked_labels():
    labels = balanced(10, 2_000)
    given_labels = Asymmetric(0.4).corrupt(labels, CIFAR10.classes, RNG)
    changed = given_labels != labels
    assert changed.float().mean().item() == pytest.approx(0.2, abs=0.01)
    pairs = set(zip(labels[changed].tolist(), given_labels[changed].tolist(), strict=True))
    assert pairs == {(9, 1), (2, 0), (4, 7), (3, 5), (5, 3)}


def test_asymmetric_per_class_is_exact_in_each_confused_class():
    labels = torch.cat([balanced(10, 30), torch.full((21,), 9)])
    changed = Asymmetric(0.35, per_class=True).corrupt(labels, CIFAR10.classes, RNG) != labels
    counts = labels[changed].bincount(minlength=10).tolist()
    assert counts == [0, 0, 10, 10, 10, 10, 0, 0, 0, int(0.35 * 51)]


def test_asymmetric_on_mnist_follows_the_published_map():
    labels = balanced(10, 100)
    given_labels = Asymmetric(0.99, per_class=True).corrupt(labels, MNIST.classes, RNG)
    changed = given_labels != labels
    assert set(zip(labels[changed].tolist(), given_labels[changed].tolist(), strict=True)) == {(7, 1), (2, 7), (5, 6), (6, 5), (3, 8)}


def test_asymmetric_on_cifar100_takes_the_next_class_of_the_superclass():
    confused = CIFAR100.classes.confused
    assert [confused[label] for label in (4, 30, 55, 72, 95)] == [30, 55, 72, 95, 4]
    assert [confused[label] for label in (41, 69, 81, 85, 89)] == [69, 81, 85, 89, 41]
    assert sorted(confused.values()) == list(range(100))


def test_hierarchical_stays_inside_the_superclass_and_uses_all_of_it():
    labels = balanced(100, 400)
    given_labels = Hierarchical(0.5).corrupt(labels, CIFAR100.classes, RNG)
    assert int((given_labels != labels).sum()) == 20_000
    group = torch.tensor(CIFAR100.classes.superclass)
    assert torch.equal(group[labels], group[given_labels])
    seen = given_labels[(labels == 41) & (given_labels != labels)].bincount(minlength=100)
    assert torch.nonzero(seen).flatten().tolist() == [69, 81, 85, 89]
    assert seen.max() < 2 * seen[seen > 0].min()


def test_no_noise_gives_the_labels_back():
    labels = balanced(3, 4)
    given_labels = NoNoise().corrupt(labels, Classes(3), RNG)
    assert torch.equal(given_labels, labels)
    assert given_labels is not labels


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [-0.1, 1, 1.5, math.nan, True, "0.1"])
def test_rates_outside_the_range_are_refused(kind, rate):
    with pytest.raises(UserError, match=r"noise\.rate"):
        kind(rate)


def test_a_rate_without_noise_is_refused():
    with pytest.raises(UserError, match=r"noise\.rate=0\.1"):
        NoNoise(0.1)


def test_missing_structure_is_named():
    labels = balanced(10, 3)
    with pytest.raises(UserError, match="confused"):
        Asymmetric(0.1).corrupt(labels, FashionMNIST.classes, RNG)
    with pytest.raises(UserError, match="superclasses"):
        Hierarchical(0.1).corrupt(labels, MNIST.classes, RNG)
    with pytest.raises(UserError, match="class 2, which is alone"):
        Hierarchical(0.1).corrupt(labels, Classes(3, superclass=(0, 0, 1)), RNG)
    for kind in KINDS:
        with pytest.raises(UserError, match="needs class labels"):
            kind(0.1).corrupt(torch.rand(5), Classes(1), RNG)


def test_all_kinds_meet_the_interface():
    assert all(isinstance(noise, Noise) for noise in (NoNoise(), *(kind(0.1) for kind in KINDS)))


@pytest.mark.parametrize(
    ("noise", "rate"),
    [
        (Symmetric(0.25, exact=False), 0.25),
        (Symmetric(0.25, exact=False, exclude_true=False), 0.25 * 9 / 10),
        (Asymmetric(0.25, exact=False), 0.125),
        (Asymmetric(0.25, exact=False, bidirectional=True), 0.25),
        (PairFlip(0.45), 0.45),
    ],
    ids=str,
)
def test_independent_kinds_keep_their_rate_within_four_standard_errors(noise, rate):
    labels = balanced(10, 4_000)
    share = float((noise.corrupt(labels, CIFAR10.classes, RNG) != labels).double().mean())
    assert abs(share - rate) < 4 * math.sqrt(rate * (1 - rate) / len(labels))
    assert share != rate, "a count that is exact by chance would hide that samples are not independent"


@pytest.mark.parametrize(
    ("noise", "count"),
    [
        (Symmetric(0.13), 130),
        (Asymmetric(0.13, bidirectional=True), 130),
        (Asymmetric(0.13, per_class=True, bidirectional=True), 130),
        (Asymmetric(0.13, per_class=True), 65),
        (Hierarchical(0.13), 130),
        (PairFlip(0.13, exact=True), 130),
        (Interclass(0.13), 26),
    ],
    ids=str,
)
def test_counting_kinds_are_exact_to_the_last_label(noise, count):
    labels = balanced(10, 100)
    assert int((noise.corrupt(labels, CIFAR10.classes, RNG) != labels).sum()) == count


def test_bidirectional_noise_swaps_the_classes_of_each_pair():
    labels = balanced(10, 200)
    given_labels = Asymmetric(0.4, bidirectional=True).corrupt(labels, CIFAR10.classes, RNG)
    changed = given_labels != labels
    pairs = {(0, 2), (4, 7), (1, 9), (3, 5), (6, 8)}
    found = set(zip(labels[changed].tolist(), given_labels[changed].tolist(), strict=True))
    assert found == pairs | {(second, first) for first, second in pairs}
    with pytest.raises(UserError, match=r"noise\.bidirectional=true needs pairs"):
        Asymmetric(0.1, bidirectional=True).corrupt(labels, MNIST.classes, RNG)


def test_asymmetric_options_that_contradict_each_other_are_refused():
    with pytest.raises(UserError, match="choose one of them"):
        Asymmetric(0.1, per_class=True, exact=False)


def test_pair_flipping_takes_the_next_class():
    labels = balanced(7, 50)
    given_labels = PairFlip(0.5).corrupt(labels, Classes(7), RNG)
    changed = given_labels != labels
    assert torch.equal(given_labels[changed], (labels[changed] + 1) % 7)
    assert set(labels[changed].tolist()) == set(range(7))


def test_interclass_confusion_swaps_two_classes_and_leaves_the_others():
    labels = balanced(10, 100)
    given_labels = Interclass(0.25, (2, 7)).corrupt(labels, CIFAR10.classes, RNG)
    assert [int(((labels == a) & (given_labels == b)).sum()) for a, b in ((2, 7), (7, 2))] == [25, 25]
    assert int((given_labels != labels).sum()) == 50
    more = Interclass(0.5, (2, 7)).corrupt(labels, CIFAR10.classes, RNG)
    assert (more[given_labels != labels] != labels[given_labels != labels]).all()
    assert Interclass(0.25, (2, 7)).affected(torch.tensor([0, 2, 7, 9])).tolist() == [False, True, True, False]
    assert expected_rate(Interclass(0.25), CIFAR10.classes) == 0.05


@pytest.mark.parametrize("classes", [(3,), (3, 3), (3, 5, 7), (-1, 5)])
def test_what_is_no_pair_of_classes_is_refused(classes):
    with pytest.raises(UserError, match="two different class numbers"):
        Interclass(0.1, classes)


def test_classes_that_a_data_set_lacks_are_refused():
    with pytest.raises(UserError, match=r"noise\.classes=\[3, 5\].*classes 0 to 3"):
        check_noise(Interclass(0.1), "interclass", Wide(4, (1, 8, 8)), "wide")
    with pytest.raises(UserError, match=r"noise\.target=7 .* 0 to 3"):
        check_noise(Patch(0.1, target=7), "patch", Wide(4, (1, 8, 8)), "wide")


@pytest.mark.parametrize(
    ("noise", "shape", "said"),
    [
        (Patch(0.1, size=9), (1, 8, 8), "larger than an image"),
        (Patch(0.8), (1, 8, 8), r"fraction of the other classes \(0\.75\)"),
        (Patch(0.1), (2,), "needs images with class labels"),
    ],
)
def test_patches_that_cannot_be_are_refused(noise, shape, said):
    with pytest.raises(UserError, match=said):
        check_noise(noise, "patch", Wide(4, shape), "wide")


def test_options_of_patches_are_checked():
    for options in ({"target": -1}, {"size": 0}, {"value": 1.5}):
        with pytest.raises(UserError, match=r"noise\."):
            Patch(0.1, **options)


def test_a_patch_takes_the_asked_number_of_other_classes_images_and_labels_them_the_target():
    labels = balanced(10, 40)
    given_labels, which = Patch(0.1, target=4).corrupt_inputs(labels, CIFAR10.classes, RNG)
    assert len(which) == 40
    assert torch.equal(torch.sort(which).values, torch.nonzero(given_labels != labels).flatten())
    assert set(given_labels[which].tolist()) == {4}
    assert len(set(labels[which].tolist())) > 5
    _, more = Patch(0.2, target=4).corrupt_inputs(labels, CIFAR10.classes, RNG)
    assert more[:40].tolist() == which.tolist()


@pytest.mark.parametrize(("white", "dtype"), [(255, torch.uint8), (1.0, torch.float32)])
def test_the_square_is_in_the_bottom_right_corner_only(white, dtype):
    images = torch.zeros(3, 2, 6, 5, dtype=dtype)
    done = Patch(0.1, size=2).paint(images)
    assert (done[:, :, 4:, 3:] == white).all()
    assert done.double().sum() == white * 3 * 2 * 4
    assert (images == 0).all()
    assert (Patch(0.1, size=1, value=0.4).paint(images)[..., -1, -1] == (102 if dtype == torch.uint8 else 0.4)).all()

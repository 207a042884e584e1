"""Building a task from a specification, on the real digits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sap_core.api import Need, UndeclaredNeed
from sap_core.construct import construct
from sap_core.data import assemble
from sap_core.data.assemble import assemble_task
from sap_core.data.corruption import with_changed_inputs
from sap_core.data.fashion_mnist import FashionMNIST
from sap_core.data.samples import TensorPixels
from sap_core.data.source import Source
from sap_core.data.verified import Truth
from sap_core.errors import UserError
from sap_core.seeding import stream

CPU = torch.device("cpu")
SYMMETRIC = {"target": "sap_core.data.noise.Symmetric", "settings": {"rate": 0.25}}
NONE = {"target": "sap_core.data.noise.NoNoise", "settings": {}}
PREPROCESS = {"normalise": True, "augment": "none", "padding": 4}


def spec(**changes):
    known = {
        "dataset": {"target": "sap_core.data.digits.Digits", "settings": {}},
        "noise": SYMMETRIC,
        "model": {"target": "sap_core.models.small_cnn.SmallCNN", "settings": {"width": 4}},
        "preprocess": PREPROCESS,
        "seed": 12484,
        "limit": None,
    }
    return known | changes


def made(**changes):
    return assemble_task(spec(**changes), Path("nowhere"), CPU)


def labels(of):
    return torch.cat([of.train.labels, of.val.labels]).tolist()


def test_the_splits_are_disjoint_and_complete():
    one = made()
    assert (len(one.train), len(one.val), len(one.test)) == (1097, 300, 400)
    assert sorted([*one.train.index.tolist(), *one.val.index.tolist()]) == list(range(1397))
    assert one.task.train is one.train
    assert one.task.val is one.val
    assert not hasattr(one.task, "test")


def test_labels_depend_on_seed_data_set_and_noise_kind_only():
    """Networks, recipes and pruners are compared on the same wrong labels."""
    first = made()
    network = {"target": "sap_core.models.resnet_cifar.ResNet18", "settings": {}}
    other = made(model=network, preprocess=PREPROCESS | {"augment": "flip", "normalise": False})
    assert labels(first) == labels(other)
    assert first.train.index.tolist() == other.train.index.tolist()
    assert labels(first) != labels(made(seed=32087))
    truth = labels(made(noise=NONE))
    wrong = {place for place, (given, true) in enumerate(zip(labels(first), truth, strict=True)) if given != true}
    more = labels(made(noise={"target": SYMMETRIC["target"], "settings": {"rate": 0.4}}))
    assert wrong < {place for place, (given, true) in enumerate(zip(more, truth, strict=True)) if given != true}, "one order for all rates"


def test_a_networks_own_normalisation_goes_before_the_data_sets():
    own = made(preprocess=PREPROCESS | {"mean": [0.5], "std": [2.0]})
    assert (own.train.preprocess.mean, own.train.preprocess.std) == ((0.5,), (2.0,))
    assert own.train.preprocess == own.test.preprocess != made().train.preprocess


def test_noise_is_drawn_before_the_split():
    """The complete universe is corrupted once, before the split, so labels do not depend on the split."""
    split = [made(dataset={"target": "sap_core.data.digits.Digits", "settings": {"split_seed": number}}) for number in (0, 1)]
    given = [dict(zip([*one.train.index.tolist(), *one.val.index.tolist()], labels(one), strict=True)) for one in split]
    assert split[0].val.index.tolist() != split[1].val.index.tolist()
    assert given[0] == given[1]
    dataset = construct(spec()["dataset"])
    true = dataset.load(Path("nowhere")).train_labels
    rng = stream(12484, "noise", "sap_core.data.digits.Digits", SYMMETRIC["target"])
    expected = construct(SYMMETRIC).corrupt(true, dataset.classes, rng).tolist()
    assert [given[0][place] for place in range(1397)] == expected
    assert int((torch.tensor(expected) != true).sum()) == int(0.25 * 1397)


def test_the_true_rate_and_the_transitions_are_measured_on_the_training_split():
    one = made()
    true = one.truth.of(one.train.index)
    assert one.noise_rate_measured == float((true != one.train.labels).double().mean())
    assert one.transitions.sum() == 1097
    assert one.transitions.diagonal().sum() == int((true == one.train.labels).sum())
    assert one.transitions[3, 8] == int(((true == 3) & (one.train.labels == 8)).sum())
    assert made(noise=NONE).noise_rate_measured == 0.0


def test_a_seeded_split_follows_the_seed_and_a_fixed_one_does_not():
    assert made().val.index.tolist() == made(seed=1).val.index.tolist()
    free = {"target": "sap_core.data.digits.Digits", "settings": {"split_seed": None}}
    assert made(dataset=free).val.index.tolist() != made(dataset=free, seed=1).val.index.tolist()


def test_fresh_networks_are_drawn_from_the_run_and_number():
    first, again, second, other = made().task.build(0), made().task.build(0), made().task.build(1), made(seed=1).task.build(0)
    weights = [next(network.parameters()).tolist() for network in (first, again, second, other)]
    assert weights[0] == weights[1]
    assert weights[0] not in weights[2:]
    before = torch.get_rng_state()
    made().task.build(0)
    assert torch.equal(before, torch.get_rng_state())


def test_limit_shrinks_all_parts_and_keeps_their_samples_labels():
    small, whole = made(limit=200), made()
    assert len(small.train) + len(small.val) == 200
    assert len(small.val) == round(200 * 300 / 1397)
    assert len(small.test) == 200
    of = dict(zip(whole.train.index.tolist(), whole.train.labels.tolist(), strict=True))
    assert all(of[place] == label for place, label in zip(small.train.index.tolist(), small.train.labels.tolist(), strict=True))
    assert small.train.universe == 1397


@pytest.fixture
def grey(monkeypatch):
    """Fashion-MNIST's counts and classes on pixels without content."""

    def load(self, root):
        pixels = torch.zeros(60_000, 1, 1, 1, dtype=torch.uint8)
        return Source(TensorPixels(pixels), torch.arange(60_000) % 10, TensorPixels(pixels[:10_000]), torch.arange(10_000) % 10)

    monkeypatch.setattr("sap_core.data.fashion_mnist.FashionMNIST.load", load)
    yield lambda **settings: {"target": "sap_core.data.fashion_mnist.FashionMNIST", "settings": settings}
    assemble.clear_caches()


def test_a_part_of_a_published_set_keeps_its_samples_labels(grey):
    whole, part = made(dataset=grey()), made(dataset=grey(images=3_000, validation=0.2))
    assert (len(part.train), len(part.val), len(part.test)) == (2_400, 600, 3_000)
    assert part.train.universe == 60_000
    assert not set(part.train.index.tolist()) & set(part.val.index.tolist())
    of = dict(zip([*whole.train.index.tolist(), *whole.val.index.tolist()], labels(whole), strict=True))
    places = [*part.train.index.tolist(), *part.val.index.tolist()]
    assert [of[place] for place in places] == labels(part)
    assert part.noise_rate_measured == pytest.approx(0.25, abs=0.03)


def test_a_part_is_drawn_with_the_split(grey):
    def places(seed, **settings):
        return made(dataset=grey(images=500, **settings), seed=seed).train.index.tolist()

    assert places(1) != places(2)
    assert places(1, split_seed=0) == places(2, split_seed=0)


@pytest.mark.parametrize("images", [0, 49, 60_001])
def test_a_part_that_cannot_be_is_refused(images):
    with pytest.raises(UserError, match=rf"dataset\.images={images} .* 50 to 60000"):
        FashionMNIST(images=images)


def test_verified_samples_are_nested_and_what_they_say():
    one = made()
    task = one.task.allow(frozenset(Need))
    for need, right in ((Need.RETAIN, True), (Need.FORGET, False)):
        few, many, all_of_them = task.verified(need, 20), task.verified(need, 150), task.verified(need)
        assert few.index.tolist() == many.index.tolist()[:20]
        assert many.index.tolist() == all_of_them.index.tolist()[:150]
        assert ((one.truth.of(all_of_them.index) == all_of_them.labels) == right).all()
        assert len(set(all_of_them.index.tolist())) == len(all_of_them)
    assert len(task.verified(Need.RETAIN)) + len(task.verified(Need.FORGET)) == 1097
    assert torch.equal(task.verified(Need.TRUE_LABELS).labels, one.truth.of(one.train.index))


def test_verified_order_is_drawn_from_the_seed():
    first, other = (made(seed=seed).task.allow(frozenset(Need)).verified(Need.RETAIN, 30).index.tolist() for seed in (1, 2))
    assert first != other
    assert first != sorted(first)


def test_undeclared_needs_raise():
    task = made().task.allow(frozenset({Need.RETAIN}))
    with pytest.raises(UndeclaredNeed, match="FORGET"):
        task.verified(Need.FORGET)
    with pytest.raises(UndeclaredNeed, match="RETAIN"):
        made().task.verified(Need.RETAIN)


def test_more_verified_samples_than_there_are_is_the_users_mistake():
    with pytest.raises(UserError, match="has only"):
        made().task.allow(frozenset(Need)).verified(Need.FORGET, 10_000)


def test_unknown_truth_serves_nothing():
    assert not Truth(None).known
    with pytest.raises(UserError, match="unknown"):
        Truth(None).of(torch.tensor([0]))


@pytest.mark.parametrize("kind", ["PairFlip", "InstanceDependent", "Classifier"])
def test_every_kind_of_noise_is_measured(kind):
    noise = {"target": f"sap_core.data.noise.{kind}", "settings": {"rate": 0.4}}
    one = made(noise=noise)
    wrong = one.truth.of(one.train.index) != one.train.labels
    assert one.noise_rate_measured == float(wrong.double().mean()) == pytest.approx(0.4, abs=0.05)
    assert one.transitions.sum() - one.transitions.diagonal().sum() == int(wrong.sum())
    wider = {"target": "sap_core.models.small_cnn.SmallCNN", "settings": {"width": 8}}
    assert labels(made(noise=noise, model=wider)) == labels(one), "networks are compared on the same wrong labels"


PATCH = {"target": "sap_core.data.noise.Patch", "settings": {"rate": 0.1, "size": 2}}


def images(view):
    return torch.cat([batch.inputs for batch in view.batches(512)])


def test_confused_classes_have_separate_scores():
    one = made(noise={"target": "sap_core.data.noise.Interclass", "settings": {"rate": 0.5}})
    assert sorted(set(one.test.labels[one.affected.inside].tolist())) == [3, 5]
    assert sorted([*one.affected.inside.tolist(), *one.affected.rest.tolist()]) == list(range(400))
    assert one.affected.samples is None
    assert one.transitions[3, 5] + one.transitions[5, 3] == int((one.truth.of(one.train.index) != one.train.labels).sum())
    assert made().affected is None


def test_poisoned_images_are_painted_and_nothing_else_is():
    one, clean = made(noise=PATCH), made(noise=NONE)
    for part, plain in ((one.train, clean.train), (one.val, clean.val)):
        poisoned = one.truth.of(part.index) != part.labels
        assert poisoned.any()
        assert (part.labels[poisoned] == 0).all()
        found, before = images(part), images(plain)
        white = (1 - 0.3052) / 0.3760
        assert torch.allclose(found[poisoned][..., -2:, -2:], torch.tensor(white))
        changed = (found != before).flatten(1)
        assert changed[poisoned].any(1).all()
        assert not changed[~poisoned].any()
        assert not (found != before)[..., :-2, :].any()
    assert torch.equal(images(one.test), images(clean.test))
    assert int((torch.tensor(labels(one)) != torch.tensor(labels(clean))).sum()) == int(0.1 * 1397)


def test_the_test_set_has_a_painted_copy_of_the_other_classes():
    one = made(noise=PATCH, limit=200)
    assert one.affected.rest.tolist() == list(range(200))
    assert one.affected.inside.tolist() == torch.nonzero(one.test.labels != 0).flatten().tolist()
    assert torch.equal(one.affected.samples.labels, one.test.labels[one.affected.inside])
    expected = construct(PATCH).paint(one.test.pixels.fetch(one.affected.samples.index))
    assert torch.equal(one.affected.samples.pixels.fetch(one.affected.samples.index), expected)


def test_what_a_method_sees_does_not_say_which_images_are_poisoned():
    one = made(noise=PATCH)
    assert vars(one.task.train.pixels).keys() == {"tensor"}


def test_images_on_disk_are_painted_as_they_are_fetched():
    class OnDisk:
        def __len__(self):
            return 6

        def fetch(self, index):
            return torch.zeros(len(index), 1, 4, 4, dtype=torch.uint8)

    found = with_changed_inputs(OnDisk(), torch.tensor([1, 4]), construct(PATCH)).fetch(torch.tensor([4, 0, 1]))
    assert found.flatten(1).sum(1).tolist() == [4 * 255, 0, 4 * 255]

"""What data sets and DataLoaders are read, in which order, and what is refused or warned of."""

import warnings
from collections import UserDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils import data

from sap_core import correct, trusted_indices
from sap_core.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:.*validation images are training images")

torch.set_num_threads(1)

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(24, 2, 4, 4, generator=GENERATOR)
Y = torch.randint(3, (24,), generator=GENERATOR)
PAIRS = data.TensorDataset(X, Y)


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def trusted(of, n=10, **options):
    return trusted_indices(network(), of, n, progress=False, **options).tolist()


WANTED = trusted(PAIRS)


class Items(data.Dataset):
    """A map-style data set of what `make(image, label)` returns."""

    def __init__(self, make):
        self.make = make

    def __len__(self):
        return len(Y)

    def __getitem__(self, index):
        if not 0 <= index < len(Y):
            raise IndexError
        return self.make(X[index], Y[index])


@pytest.mark.parametrize(
    "make",
    [
        lambda image, label: (image, int(label)),
        lambda image, label: [image, np.int32(label)],
        lambda image, label: (image.numpy(), np.array(int(label))),
        lambda image, label: (image.double(), label.to(torch.uint8)),
        lambda image, label: {"pixel_values": image, "label": int(label)},
        lambda image, label: {"image": image, "labels": label, "id": 3},
        lambda image, label: {"image": None, "pixel_values": image, "label": label},
        lambda image, label: UserDict(img=image, label=label),
    ],
)
def test_pairs_and_dicts_of_images_and_labels_are_read(make):
    assert trusted(Items(make)) == WANTED


def test_lists_of_pairs_are_read():
    assert trusted([(image, int(label)) for image, label in PAIRS]) == WANTED
    assert trusted(data.ConcatDataset([data.Subset(PAIRS, range(10)), data.Subset(PAIRS, range(10, 24))])) == WANTED


@pytest.mark.parametrize(
    ("make", "unpack"),
    [
        (lambda image, label: (image, label, "name"), lambda item: (item[0], item[1])),
        (lambda image, label: (label, image), lambda item: (item[1], item[0])),
        (lambda image, label: {"x": image, "y": label}, lambda item: (item["x"], item["y"])),
        (lambda image, label: ((image, image), label), lambda item: (item[0][0], item[1])),
    ],
)
def test_other_items_are_unpacked_in_data_sets_and_loaders(make, unpack):
    for of in (Items(make), data.DataLoader(Items(make), 5, shuffle=True)):
        assert trusted(of, unpack=unpack) == WANTED


def test_labels_of_one_element_are_unpacked():
    items = Items(lambda image, label: (image, label.reshape(1)))
    with pytest.raises(UserError, match=r"position 0 has the shape \(1,\).*unpack=lambda item: \(item\[0\], item\[1\]\.item\(\)\)"):
        trusted(items)
    assert trusted(items, unpack=lambda item: (item[0], item[1].item())) == WANTED


def stacked(items):
    return {"pixel_values": torch.stack([image for image, _ in items]), "labels": [int(label) for _, label in items]}


@pytest.mark.parametrize(
    "loader",
    [
        data.DataLoader(PAIRS, 5),
        data.DataLoader(PAIRS, 5, shuffle=True),
        data.DataLoader(PAIRS, 7, shuffle=True, drop_last=True, pin_memory=True),
        data.DataLoader(PAIRS, 5, collate_fn=stacked),
        data.DataLoader(PAIRS, sampler=data.RandomSampler(PAIRS, replacement=True, num_samples=3)),
        data.DataLoader(PAIRS, 4, sampler=data.DistributedSampler(PAIRS, num_replicas=2, rank=1)),
        data.DataLoader(PAIRS, 4, sampler=data.WeightedRandomSampler([0.1] * 12 + [5.0] * 12, 24)),
        data.DataLoader(PAIRS, 4, sampler=data.SubsetRandomSampler(torch.randperm(24))),
        data.DataLoader(PAIRS, batch_sampler=data.BatchSampler(data.RandomSampler(PAIRS), 6, drop_last=True)),
        data.DataLoader([{"image": image, "label": int(label)} for image, label in PAIRS], 9, shuffle=True),
    ],
)
def test_positions_are_those_of_the_data_set_whatever_the_loaders_order(loader):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state = torch.get_rng_state()
        assert trusted(loader) == WANTED
        assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.slow
def test_workers_read_the_same():
    loader = data.DataLoader(PAIRS, 5, shuffle=True, num_workers=1, persistent_workers=True)
    assert trusted(loader) == WANTED
    found = correct(network(), loader, loader, [3.0], 4, progress=False)
    assert found.scores == correct(network(), PAIRS, PAIRS, [3.0], 4, progress=False).scores


def test_a_sampler_of_some_images_gives_those_alone():
    some = [3, 20, 7, 15, 1, 9, 7]
    wanted = [each for each in trusted(PAIRS, 24) if each in some]
    assert trusted(data.DataLoader(PAIRS, 4, sampler=data.SubsetRandomSampler(some)), 6) == wanted
    assert trusted(data.DataLoader(PAIRS, 4, sampler=list(some)), 6) == wanted
    weights = [float(position in some) for position in range(24)]
    assert trusted(data.DataLoader(PAIRS, 4, sampler=data.WeightedRandomSampler(weights, 99)), 6) == wanted
    with pytest.raises(UserError, match="only 6 training samples"):
        trusted(data.DataLoader(PAIRS, 4, sampler=data.SubsetRandomSampler(some)), 7)
    # A subset has positions of its own.
    assert [some[each] for each in trusted(data.Subset(PAIRS, some[:6]), 6)] == wanted


def test_parts_by_sampler_of_one_data_set_do_not_overlap():
    train, val = (data.DataLoader(PAIRS, 4, sampler=data.SubsetRandomSampler(part)) for part in (range(16), range(16, 24)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = correct(network(), train, val, [3.0], 3, progress=False)
    assert (found.num_train, found.num_val) == (16, 8)
    assert found.trusted_indices.max() < 16
    assert found.unmodified == correct(network(), PAIRS, data.Subset(PAIRS, range(16, 24)), [3.0], 4, progress=False).unmodified


class OwnSampler(data.Sampler):
    def __init__(self):
        pass

    def __iter__(self):
        return iter([3, 4])


class Stream(data.IterableDataset):
    def __iter__(self):
        return iter(PAIRS)


SIZED = Items(lambda image, label: (image[:, : 3 + int(label == Y[0])], label))


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (Stream(), "no positions.*map-style data set"),
        (data.DataLoader(Stream(), 4), "no positions.*map-style data set"),
        (iter(PAIRS), r"no positions.*list\(data\)"),
        ((X, Y), r"TensorDataset\(images, labels\)"),
        ([X, Y], r"TensorDataset\(images, labels\)"),
        (X, r"TensorDataset\(images, labels\)"),
        (X.numpy(), r"TensorDataset\(images, labels\)"),
        ({"train": PAIRS, "test": PAIRS}, "keys train, test; pass one of its values"),
        ("data/train", "not str"),
        (None, "NoneType"),
        (data.Subset(PAIRS, []), "there are no training images"),
        (data.DataLoader(PAIRS, batch_size=None), "batch_size=None"),
        (data.DataLoader(PAIRS, 4, sampler=OwnSampler()), r"its sampler is .*OwnSampler; pass its data set \(loader\.dataset\)"),
        (data.DataLoader(PAIRS, batch_sampler=[[1, 2], [3]]), "its sampler is list"),
        (Items(lambda image, label: (image, label, 0)), "items are 3 values instead of .*unpack=lambda item"),
        (Items(lambda image, label: image), "items are Tensor|items are torch.Tensor|instead of"),
        (Items(lambda image, label: {"x": image, "y": label}), "dicts with the keys x, y.*unpack=lambda item"),
        (Items(lambda image, label: (image, "cat")), r"label at position 0 is 'cat' \(str\), but must be one integer"),
        (Items(lambda image, label: (image, None)), r"label at position 0 is None"),
        (Items(lambda image, label: (image, nn.functional.one_hot(label, 3))), r"shape \(3,\).*item\[1\]\.argmax\(\)"),
        (Items(lambda image, label: (image, float(label))), r"float.*labels\.long\(\)"),
        (Items(lambda image, label: (image, float(label) + 0.5)), r"label 0 is"),
        (Items(lambda image, label: (image, -1)), r"label 0 is -1"),
        (Items(lambda image, label: ((image * 9).to(torch.uint8), label)), "uint8"),
        (Items(lambda image, label: (image.tolist(), label)), r"position 0 is list instead of a tensor"),
        (SIZED, r"different sizes: \(2, 4, 4\) at position 0 and \(2, 3, 4\) at position"),
        (data.DataLoader(SIZED, 24), "different sizes"),
        (data.DataLoader(Items(lambda image, label: (image, None)), 4), "cannot be a batch.*NoneType"),
        (data.DataLoader(Items(lambda image, label: (image, "cat")), 4), r"label at position 0 is 'cat'"),
        (data.DataLoader(PAIRS, 4, collate_fn=lambda items: (torch.stack([items[0][0]]), torch.zeros(1).long())), "1 images of . samples"),
        (data.DataLoader(PAIRS, 4, collate_fn=lambda items: stacked(items)["pixel_values"]), "instead of .image, label"),
    ],
)  # fmt: skip
def test_other_data_are_refused(of, said):
    with pytest.raises(UserError, match=said):
        trusted(of)
    with pytest.raises(UserError, match=said.replace("training", "validation")):
        correct(network(), PAIRS, of, [3.0], 4, progress=False)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"batch_size": 0}, "batch_size is 0"), ({"batch_size": 2.0}, "batch_size is 2.0"), ({"unpack": "image"}, "unpack must be a function"),
     ({"unpack": lambda item: item[0]}, "items are unpacked to")],
)  # fmt: skip
def test_bad_options_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        trusted(PAIRS, **options)


def test_errors_of_the_data_set_itself_stay_as_they_are():
    def make(image, label):
        raise ZeroDivisionError("mine")

    for of in (Items(make), data.DataLoader(Items(make), 4)):
        with pytest.raises(ZeroDivisionError, match="mine"):
            trusted(of)


@pytest.mark.parametrize("draw", [lambda: torch.rand(()), lambda: np.random.rand()])
def test_random_augmentation_is_warned_of(draw):
    flipped = Items(lambda image, label: (image.flip(-1) if draw() < 0.5 else image, label))
    for of in (flipped, data.DataLoader(flipped, 3)):
        with pytest.warns(UserWarning, match="training images differ each time they are read") as said:
            trusted(of)
        assert {Path(each.filename).name for each in said} == {Path(__file__).name}
    with pytest.warns(UserWarning, match="validation images differ"):
        correct(network(), PAIRS, flipped, [3.0], 4, progress=False)


def test_a_single_image_is_enough():
    one = data.Subset(PAIRS, [4])
    assert trusted(one, 1) == [0]
    assert correct(network(), one, one, [3.0], 1, progress=False).num_val == 1


def test_images_of_different_sizes_may_come_in_batches_of_one_size():
    def padded(items):
        images = torch.stack([nn.functional.pad(image, (0, 0, 0, 4 - image.shape[1])) for image, _ in items])
        return images, [int(label) for _, label in items]

    assert len(trusted(data.DataLoader(SIZED, 5, collate_fn=padded))) == 10

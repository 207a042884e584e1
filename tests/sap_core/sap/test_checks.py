"""Images and labels that the library refuses, with the position of the first bad one and a remedy."""

import numpy as np
import pytest
import torch
from torch import nn

from sap_core import sap_project, sap_tune
from sap_core.errors import UserError
from sap_core.sap import checks

torch.set_num_threads(1)

X = torch.randn(6, 2, 8, 8, generator=torch.Generator().manual_seed(1))
Y = torch.tensor([0, 1, 2, 0, 1, 2])


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def tune(images=X, labels=Y, trusted=X, model=None):
    return sap_tune(model or small(), trusted, images, labels, [3000.0])


@pytest.mark.parametrize("labels", [Y.int(), Y.to(torch.uint8), Y.to(torch.int16), Y.to(torch.uint16)])
def test_integers_of_any_size_are_labels(labels):
    assert tune(labels=labels).scores == tune().scores


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (Y.float(), r"torch.float32.*labels\.long\(\)"),
        (Y.double() + 0.5, r"label 0 is 0\.5"),
        (torch.tensor([0, 1, 2, float("nan"), 1, 2]), "label 3 is nan"),
        (torch.tensor([0, 1, 2, float("inf"), 1, 2]), "label 3 is inf"),
        (Y.bool(), r"torch.bool.*labels\.long\(\)"),
        (Y.to(torch.complex64), "complex64"),
        (Y.unsqueeze(1), r"\(6, 1\).*labels\.flatten\(\)"),
        (Y.unsqueeze(0), r"\(1, 6\).*labels\.flatten\(\)"),
        (nn.functional.one_hot(Y), r"\(6, 3\).*labels\.argmax\(1\)"),
        (nn.functional.one_hot(Y).float(), r"\(6, 3\).*labels\.argmax\(1\)"),
        (torch.ones(6, 3), r"\(6, 3\); give the number of one class"),
        (torch.tensor(3), r"\(\)"),
        (Y[:5], "6 validation images and 5 labels"),
        (torch.tensor([0, 1, 2, 3, 1, 7]), r"from 0 to 2.*label 3 is 3 \(2 of 6"),
        (torch.tensor([0, 1, -1, 0, 1, 2]), "label 2 is -1"),
        (Y + 1, "labels - 1"),
        (Y.numpy(), r"ndarray.*torch\.tensor\(labels\)"),
        (Y.tolist(), r"list.*torch\.tensor\(labels\)"),
        (None, "NoneType"),
        (Y.to_sparse(), "sparse"),
        (Y.to("meta"), "meta"),
    ],
)
def test_bad_labels_are_refused(labels, said):
    with pytest.raises(UserError, match=said):
        tune(labels=labels)


def with_value(value, at=4):
    changed = X.clone()
    changed[at, 1, 2, 3] = value
    return changed


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (with_value(float("nan")), "the first is image 4"),
        (with_value(-float("inf"), 5), "1 of 6, the first is image 5"),
        (X.to(torch.uint8), r"torch.uint8.*images\.float\(\) / 255"),
        (X.long(), r"torch.int64.*images\.float\(\)"),
        (X.to(torch.complex64), "complex64"),
        (X.numpy(), r"ndarray.*torch\.tensor\(images\)"),
        (None, "NoneType"),
        (X[0, 0, 0], r"\(8,\).*images\.unsqueeze\(0\)"),
        (X[0], r"\(2, 8, 8\)"),
        (X[:, :1], r"\(6, 1, 8, 8\).*channels"),
        (X.permute(0, 2, 3, 1), r"\(6, 8, 8, 2\)"),
        (X.to("meta"), "meta"),
    ],
)
def test_bad_images_are_refused(images, said):
    with pytest.raises(UserError, match=said):
        sap_project(small(), images, 3000.0)
    labels = torch.zeros(len(images), dtype=torch.int64) if images is not None else Y
    with pytest.raises(UserError, match=said):
        tune(images, labels)


def test_the_position_counts_across_batches():
    with pytest.raises(UserError, match="the first is image 10"):
        sap_project(small(), [X, with_value(float("nan"))], 3000.0)


def test_values_beyond_the_range_of_half_precision_are_refused():
    with pytest.raises(UserError, match="float16"):
        sap_project(small().half(), with_value(1e6), 3000.0)


def test_empty_sets_are_refused():
    with pytest.raises(UserError, match="no validation images"):
        tune(X[:0], Y[:0])
    with pytest.raises(UserError, match="no trusted images"):
        tune(trusted=X[:0])


def test_a_network_that_does_not_classify_is_refused():
    with pytest.raises(UserError, match=r"\(6, 4, 6, 6\) instead of \(6, classes\)"):
        tune(model=small()[:1])


@pytest.mark.parametrize("count", [0, -1, 7, 2.0, True, "3"])
def test_bad_numbers_of_trusted_samples_are_refused(count):
    with pytest.raises(UserError, match="num_trusted"):
        checks.check_num_trusted(count, 6)
    assert checks.check_num_trusted(np.int64(6), 6) == 6

"""What a data set's `load` may return."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from sap_core.data.samples import TensorPixels
from sap_core.data.source import Classes, Source
from sap_core.data.source_checks import checked
from sap_core.errors import UserError

GOOD = Source(TensorPixels(torch.zeros(4, 2)), torch.tensor([0, 1, 2, 0]), TensorPixels(torch.zeros(2, 2)), torch.tensor([1, 2]))


def dataset(kind="classification"):
    return SimpleNamespace(name="mine", kind=kind, classes=Classes(3))


def test_classes_and_targets_are_accepted():
    assert checked(GOOD, dataset()) is GOOD
    checked(replace(GOOD, train_labels=torch.rand(4, 1), test_labels=torch.rand(2)), dataset("regression"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train_labels": torch.tensor([0, 1, 3, 0])}, "train_labels of data set mine: label 2 is 3, but allowed are classes 0 to 2"),
        ({"test_labels": torch.tensor([1, -1])}, "test_labels of data set mine: label 1 is -1"),
        ({"true_labels": torch.tensor([0, 9, 0, 0])}, "true_labels of data set mine: label 1 is 9"),
        ({"train_labels": torch.tensor([0.0, 1, 2, 0])}, r"torch.float32 of shape \(4,\)"),
        ({"train_labels": torch.zeros(4, 3, dtype=torch.int64)}, r"torch.int64 of shape \(4, 3\)"),
        ({"train_labels": torch.tensor([0, 1, 2])}, "3 labels for 4 inputs"),
    ],
)
def test_other_labels_are_refused_with_the_first(changes, said):
    with pytest.raises(UserError, match=said):
        checked(replace(GOOD, **changes), dataset())


def test_targets_that_are_not_finite_are_refused():
    with pytest.raises(UserError, match="label 1 is nan, but allowed are finite floats"):
        checked(replace(GOOD, train_labels=torch.tensor([0.0, float("nan"), 1, 2])), dataset("regression"))

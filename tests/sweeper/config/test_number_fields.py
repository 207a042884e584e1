"""Fields that are numbers, as the source of their classes says."""

from __future__ import annotations

import pytest

from sweeper.config.number_fields import is_number_field


@pytest.mark.parametrize(
    ("target", "name", "number"),
    [
        ("trainers.sgd.SGD", "learning_rate", True),  # a field of the recipe, which is one of the trainer
        ("baselines.scrub.SCRUB", "learning_rate", True),
        ("sap_core.data.folder.Folder", "folder", False),
        ("sap_core.data.folder.Folder", "num_classes", True),
        ("trainers.sgd.SGD", "absent", False),
        ("trainers.absent.SGD", "learning_rate", False),
        ("elsewhere.Thing", "learning_rate", False),
        (None, "learning_rate", False),
    ],
)
def test_a_field_of_numbers_is_known_without_its_class(target, name, number):
    assert is_number_field(target, name) == number

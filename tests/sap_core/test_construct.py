"""Construction of objects from dotted paths and settings."""

from __future__ import annotations

import pytest

from baselines.retrain import Retrain
from sap_core.construct import construct, is_entry, locate
from sap_core.models.small_cnn import SmallCNN
from trainers.sam import SAM
from trainers.sgd import SGD

RECIPE = {"target": "trainers.sgd.SGD", "settings": {"epochs": 3, "schedule": "step", "decay_epochs": [1, 2]}}


def test_lists_become_tuples():
    made = construct(RECIPE)
    assert made == SGD(epochs=3, schedule="step", decay_epochs=(1, 2))
    assert isinstance(made.decay_epochs, tuple)


def test_nested_entries_become_objects():
    made = construct({"target": "baselines.retrain.Retrain", "settings": {"recipe": RECIPE, "num_retain": 5}})
    assert made == Retrain(recipe=SGD(epochs=3, schedule="step", decay_epochs=(1, 2)), num_retain=5)


def test_flat_parts_take_their_fields_from_beside_the_owners():
    made = construct({"target": "trainers.sam.SAM", "settings": {"rho": 0.2, "epochs": 3, "schedule": "step", "decay_epochs": [1, 2]}})
    assert made == SAM(rho=0.2, recipe=SGD(epochs=3, schedule="step", decay_epochs=(1, 2)))
    inside = construct(
        {"target": "baselines.retrain.Retrain", "settings": {"recipe": {"target": "trainers.sam.SAM", "settings": {"epochs": 4}}}}
    )
    assert inside.recipe == SAM(recipe=SGD(epochs=4))


def test_settings_of_the_caller_are_added():
    made = construct({"target": "sap_core.models.small_cnn.SmallCNN", "settings": {"width": 4}}, num_outputs=3, input_shape=(1, 8, 8))
    assert isinstance(made, SmallCNN)
    assert list(made.parameters())[-1].shape == (3,)


def test_an_entry_needs_both_keys():
    assert is_entry(RECIPE)
    assert not is_entry({"target": "a.b"})
    assert not is_entry([RECIPE])


def test_paths_that_name_nothing():
    with pytest.raises(ImportError):
        locate("trainers.none.SGD")
    with pytest.raises(AttributeError):
        locate("trainers.sgd.SDG")

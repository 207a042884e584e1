"""Identity of components, and the keys of their random streams."""

from __future__ import annotations

import sys
from functools import partial
from types import ModuleType

import pytest
from torch import nn

from sap_core.components import component_id, declared_name, name_of, package_of
from sap_core.data.noise import Symmetric
from sap_core.data.stream_keys import stream_key
from trainers.sgd import SGD


class Child(SGD):
    """Declares nothing of its own."""


@pytest.fixture(autouse=True)
def module(monkeypatch):
    made = ModuleType("plug")
    made.Child, made.SGD, made.Symmetric, made.Linear, made.build = Child, SGD, Symmetric, nn.Linear, partial(nn.Linear, 3)
    monkeypatch.setitem(sys.modules, "plug", made)


def test_a_name_is_the_classs_own():
    assert declared_name(SGD) == "sgd"
    assert declared_name(Child) is None


@pytest.mark.parametrize(
    ("target", "name", "package"),
    [
        ("trainers.sgd.SGD", "sgd", None), ("plug.SGD", "sgd", None), ("plug.Child", "Child", "plug"), ("plug.Linear", "Linear", "plug"),
        ("plug.build", "build", "plug"), ("optuna.samplers.TPESampler", "TPESampler", "optuna"),
    ],
)  # fmt: skip
def test_names_and_packages(target, name, package):
    assert (name_of(target), package_of(target)) == (name, package)
    assert component_id("model", target).get("package") == package


def test_stream_keys_stay_where_the_class_moves():
    key = "sap_core.data.noise.Symmetric"
    assert stream_key("noise", "sap_core.data.noise.Symmetric") == stream_key("noise", "plug.Symmetric") == key
    assert stream_key("noise", "sap_core.data.noise.symmetric.Symmetric") == key
    assert stream_key("dataset", "sap_core.data.digits.Digits") == "sap_core.data.digits.Digits"


def test_other_components_are_keyed_by_package_and_name():
    assert stream_key("noise", "plug.Child") == "plug.Child"
    assert stream_key("dataset", "plug.SGD") == "dataset.sgd", "a shipped class that the list does not name"

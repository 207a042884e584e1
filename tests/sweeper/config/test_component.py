"""Parsing components: allowed classes, fields and types."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import pytest
from torch import nn

from sap_core.api import Corrector, Trainer
from sap_core.errors import UserError
from sweeper.config.component import parse_component
from sweeper.config.target import resolve_class
from trainers.sam import SAM
from trainers.sgd import SGD

RECIPE = {"target": "trainers.sgd.SGD", "settings": {}}


@runtime_checkable
class Thing(Protocol):
    def act(self) -> None: ...


@dataclass(frozen=True)
class Toy:
    name: ClassVar[str] = "toy"
    version: ClassVar[int] = 3
    count: int
    rate: float = 0.5
    share: float | int = 0.1
    mode: Literal["fast", "slow", 1] = "fast"
    limit: int | None = None
    sizes: tuple[int, ...] = (1, 2)
    shares: tuple[float, ...] = ()
    on: bool = True
    label: str = "toy"
    recipe: Any = None

    def __post_init__(self):
        if self.count < 0:
            raise ValueError("count is below 0")

    def act(self):
        pass


class Idle:
    name = "idle"
    version = 1


class Unversioned:
    def act(self):
        pass


class Net(nn.Module):
    name: ClassVar[str] = "net"
    version: ClassVar[int] = 2

    def __init__(self, num_outputs: int, input_shape: tuple[int, ...], width: int = 4, depth: Any = 1) -> None:
        super().__init__()


@pytest.fixture(autouse=True)
def module(monkeypatch):
    made = ModuleType("toy_plugin")
    made.Toy, made.Net, made.Idle, made.Unversioned, made.function = Toy, Net, Idle, Unversioned, lambda: None
    monkeypatch.setitem(sys.modules, "toy_plugin", made)


def toy(**fields):
    return parse_component({"_target_": "toy_plugin.Toy", "count": 1, **fields}, "thing", Thing, ["toy_plugin"])


@pytest.mark.parametrize(
    ("field", "value", "canonical"),
    [
        ("rate", 1, 1.0), ("rate", 0.25, 0.25), ("share", 300, 300), ("share", 0.2, 0.2), ("mode", "slow", "slow"), ("mode", 1, 1),
        ("limit", None, None), ("limit", 3, 3), ("sizes", [3, 4], [3, 4]), ("sizes", (), []), ("shares", [1, 0.5], [1.0, 0.5]),
        ("on", False, False), ("label", "x", "x"), ("recipe", RECIPE, RECIPE),
    ],
)  # fmt: skip
def test_values_of_the_right_type_become_canonical(field, value, canonical):
    found = toy(**{field: value}).settings[field]
    assert found == canonical
    assert type(found) is type(canonical)


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("count", 1.0, "a whole number"), ("count", True, "a whole number"), ("count", "1", "a whole number"),
        ("rate", "0.1", "a number"), ("rate", True, "a number"), ("rate", float("nan"), "a number"), ("rate", float("inf"), "a number"),
        ("share", "a", "a number or a whole number"), ("mode", "quick", "fast, slow, 1"), ("mode", True, "fast, slow, 1"),
        ("limit", "no", "a whole number or null"), ("sizes", 3, "a list"), ("sizes", [1, 2.5], "a list"), ("sizes", ["a"], "a list"),
        ("on", 1, "true or false"), ("on", "true", "true or false"), ("label", [3], "a string"),
    ],
)  # fmt: skip
def test_values_of_the_wrong_type_are_named_with_what_is_allowed(field, value, allowed):
    with pytest.raises(UserError) as caught:
        toy(**{field: value})
    assert str(caught.value).startswith(f"thing.{field}={value!r} is of the wrong type or value")
    assert str(caught.value).endswith(f"allowed: {allowed}")


def test_unknown_fields_name_the_nearest_and_all():
    with pytest.raises(UserError, match=r"unknown key 'cuont' in thing \(did you mean 'count'\?\); allowed: count, rate, share"):
        toy(cuont=3)
    with pytest.raises(UserError, match="unknown key 'version'"):
        toy(version=4)


def test_missing_values_are_named_with_the_remedy():
    with pytest.raises(UserError, match=r"thing has no value for count; set thing\.count=\.\.\."):
        parse_component({"_target_": "toy_plugin.Toy"}, "thing", Thing, ["toy_plugin"])


def test_values_that_the_class_rejects_are_reported():
    with pytest.raises(UserError, match="thing: count is below 0"):
        toy(count=-1)


@pytest.mark.parametrize("target", ["os.system", "toy_plugin.Toy", "sap_core_evil.Thing", 3, ""])
def test_targets_outside_the_packages_are_refused_unimported(target):
    with pytest.raises(UserError, match=r"is outside the packages that may be named \(sap_core, trainers, baselines\).*plugins=\[\.\.\.\]"):
        resolve_class(target, "thing", [])


def test_nested_targets_follow_the_same_rule():
    with pytest.raises(UserError, match=r"thing\.recipe\._target_='os\.system' is outside"):
        toy(recipe={"target": "os.system", "settings": {}})


@pytest.mark.parametrize("target", ["trainers.none.SGD", "trainers.sgd.SDG", "trainers", "trainers."])
def test_targets_that_cannot_be_imported_are_reported(target):
    with pytest.raises(UserError, match=r"thing\._target_=.* cannot be imported"):
        resolve_class(target, "thing", [])


@pytest.mark.parametrize("target", ["toy_plugin.function", "toy_plugin.Unversioned", "sap_core.identity.content_id"])
def test_targets_that_are_no_versioned_class_are_refused(target):
    with pytest.raises(UserError, match="is not a class with an integer `version`"):
        resolve_class(target, "thing", ["toy_plugin"])


def test_a_class_that_does_not_offer_the_interface_is_refused():
    with pytest.raises(UserError, match=r"thing\._target_=toy_plugin\.Idle does not implement the interface Thing"):
        parse_component({"_target_": "toy_plugin.Idle"}, "thing", Thing, ["toy_plugin"])
    with pytest.raises(UserError, match="does not implement the interface Module"):
        parse_component({"_target_": "toy_plugin.Toy", "count": 1}, "model", nn.Module, ["toy_plugin"])


def test_no_target_at_all():
    with pytest.raises(UserError, match="thing names no class"):
        parse_component({}, "thing", Thing)


def test_networks_are_checked_by_their_keyword_arguments():
    found = parse_component({"_target_": "toy_plugin.Net", "width": 8}, "model", nn.Module, ["toy_plugin"])
    assert found.settings == {"width": 8, "depth": 1}
    assert found.version == 2
    with pytest.raises(UserError, match=r"unknown key 'num_outputs' in model; allowed: width, depth"):
        parse_component({"_target_": "toy_plugin.Net", "num_outputs": 8}, "model", nn.Module, ["toy_plugin"])


def test_identity_leaves_defaults_out_and_holds_the_version():
    assert toy(name="short", rate=0.5, sizes=[1, 2]).identity() == {
        "kind": "component", "name": "toy", "package": "toy_plugin", "version": 3, "settings": {"count": 1},
    }  # fmt: skip
    assert toy(rate=1, sizes=[2, 1]).identity()["settings"] == {"count": 1, "rate": 1.0, "sizes": [2, 1]}
    assert toy(rate=1).identity(outside=["rate", "count"])["settings"] == {}
    assert toy(name="short").name == "short"
    assert toy().name == "thing"


def test_identity_of_a_nested_recipe_leaves_its_defaults_out_too():
    recipe = {"target": "trainers.sgd.SGD", "settings": {"epochs": 3, "learning_rate": 0.01, "decay_epochs": []}}
    identity = toy(recipe=recipe).identity()["settings"]["recipe"]
    assert identity == {"kind": "recipe", "name": "sgd", "version": 1, "settings": {"epochs": 3}}


class Loaded(Net):
    """Its constructor is inherited, and one of its fields names a file."""

    file_fields: ClassVar[tuple[str, ...]] = ("depth",)


def test_a_field_that_names_a_file_counts_by_what_the_file_holds(tmp_path, module):
    sys.modules["toy_plugin"].Loaded = Loaded
    first, second = tmp_path / "a.pth", tmp_path / "b.pth"
    first.write_bytes(b"weights")
    second.write_bytes(b"weights")

    def identity(path):
        return parse_component({"_target_": "toy_plugin.Loaded", "depth": str(path)}, "model", nn.Module, ["toy_plugin"]).identity()[
            "settings"
        ]

    assert identity(first) == identity(second) == {"depth": f"sha256:{hashlib.sha256(b'weights').hexdigest()}"}
    second.write_bytes(b"others!")
    assert identity(first) != identity(second)
    with pytest.raises(UserError, match=r"gone\.pth is not a file"):
        identity(tmp_path / "gone.pth")
    assert parse_component({"_target_": "toy_plugin.Loaded"}, "model", nn.Module, ["toy_plugin"]).identity()["settings"] == {}


def test_an_inherited_constructor_is_checked_too():
    sys.modules["toy_plugin"].Loaded = Loaded
    with pytest.raises(UserError, match=r"model\.width='wide' is of the wrong type or value; allowed: a whole number"):
        parse_component({"_target_": "toy_plugin.Loaded", "width": "wide"}, "model", nn.Module, ["toy_plugin"])


def test_a_flat_part_is_written_beside_its_owners_fields_and_its_defaults_are_left_out_of_the_identity():
    given = {"_target_": "trainers.sam.SAM", "rho": 0.1, "adaptive": False, "epochs": 3, "momentum": 0.9, "decay_epochs": []}
    found = parse_component(given, "trainer", Trainer)
    assert found.identity() == {"kind": "trainer", "name": "sam", "version": 1, "settings": {"epochs": 3, "rho": 0.1}}
    assert found.settings["batch_size"] == 64, "settings are complete"
    assert "recipe" not in found.settings
    assert found.instance == SAM(rho=0.1, recipe=SGD(epochs=3))
    with pytest.raises(UserError, match=r"unknown key 'recipe' in trainer .*; allowed: rho, adaptive, norm_updates, epochs"):
        parse_component(given | {"recipe": 1}, "trainer", Trainer)
    with pytest.raises(UserError, match=r"trainer\.epochs='many' is of the wrong type"):
        parse_component(given | {"epochs": "many"}, "trainer", Trainer)


def test_options_that_sgd_got_later_changed_no_identity():
    assert parse_component({"_target_": "trainers.sgd.SGD"}, "trainer", Trainer).identity() == {
        "kind": "trainer", "name": "sgd", "version": 1, "settings": {},
    }  # fmt: skip


def test_a_recipe_of_retraining_is_identified_as_a_trainer():
    recipe = {"target": "trainers.sgd.SGD", "settings": {"epochs": 3}}
    found = parse_component({"_target_": "baselines.retrain.Retrain", "recipe": recipe}, "method", Corrector)
    assert found.identity()["settings"]["recipe"] == {"kind": "trainer", "name": "sgd", "version": 1, "settings": {"epochs": 3}}
    assert found.columns["recipe"] == "sgd"
    assert found.components == [("method", "baselines.retrain.Retrain"), ("trainer", "trainers.sgd.SGD")]


def test_entries_construct_what_was_declared():
    found = toy(sizes=[4], rate=2)
    assert found.instance == Toy(count=1, rate=2.0, sizes=(4,))
    assert isinstance(found.entry, Mapping)
    assert set(found.entry) == {"target", "settings"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "from dataclasses import dataclass\nfrom trainers.sgd import SGD\n@dataclass\nclass Mine(SGD):\n    more: int = 1\n",
            r"TypeError: cannot inherit non-frozen dataclass from a frozen one\); declare the class @dataclass\(frozen=True\)",
        ),
        ("class Mine(:\n", r"SyntaxError: .*\); correct its module"),
        ("raise RuntimeError('no\\nlicence')\n", r"RuntimeError: no licence\); correct its module"),
        ("import nowhere_at_all\n", "No module named 'nowhere_at_all'"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_sentence(tmp_path, monkeypatch, text, said):
    package = f"broken_{tmp_path.name}"
    (tmp_path / f"{package}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=said) as caught:
        resolve_class(f"{package}.Mine", "trainer", [package])
    assert "\n" not in str(caught.value)

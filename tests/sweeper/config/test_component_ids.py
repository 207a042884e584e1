"""Ids contain the declared names of components, so a class may move; names must tell components apart."""

from __future__ import annotations

import importlib
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from sap_core.api import Trainer
from sap_core.components import name_of, package_of
from sap_core.errors import UserError
from sweeper.config.component import parse_component
from sweeper.config.compose import compose_all
from sweeper.plan.build import check_cells
from sweeper.plan.name_clashes import refuse_name_clashes
from sweeper.plan.plan import make_plan
from trainers.sgd import SGD

CONF = Path(__file__).parents[3] / "conf"
SHARED = {
    "gls": {"gls", "label_smoothing"},
    "sop": {"sop", "sop_plus"},
    "human": {"human_aggregate", "human_cifar100", "human_random1", "human_random2", "human_random3", "human_worst"},
}
"""The classes that several files configure; every other class is called as its one file is."""
SHORT = ("experiment=demo", "seeds=[12484]", "trainer.epochs=3")


def ids(*words):
    composed = compose_all([*SHORT, *words])
    plan = make_plan(composed.config, check_cells(composed), {})
    return [(job.job_id, [run.run_id for run in job.runs], job.labels["space_hash"]) for job in plan.jobs]


def shipped():
    """(kind, dotted path) -> the files that name it."""
    found = defaultdict(set)
    for group in ("dataset", "noise", "model", "trainer", "pruner", "method"):
        files = {path.stem: yaml.safe_load(path.read_text()) for path in (CONF / group).glob("*.yaml")}
        for stem, content in files.items():
            base = next((files[name] for name in content.get("defaults", []) if name in files and name != "sgd"), {})
            target = content.get("corrector", content).get("_target_") or base.get("_target_")
            if target:
                found[group, target].add(stem)
    return found


def test_shipped_names_are_unique_and_those_of_their_files():
    found = shipped()
    refuse_name_clashes(found)
    for (_, target), stems in found.items():
        assert package_of(target) is None
        assert stems == SHARED.get(name_of(target), {name_of(target)}), target


def test_a_shipped_class_keeps_its_ids_in_another_module(monkeypatch):
    moved = ModuleType("trainers.moved")
    moved.SGD = SGD
    monkeypatch.setitem(sys.modules, "trainers.moved", moved)
    words = ("methods=[retrain,sap]",)
    assert ids(*words, "trainer._target_=trainers.moved.SGD") == ids(*words), "also as the recipe of retraining"


def test_a_plug_ins_class_keeps_its_ids_in_another_module(tmp_path, monkeypatch):
    package, conf = tmp_path / "movable", tmp_path / "conf" / "method"
    package.mkdir()
    conf.mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    (package / "__init__.py").write_text("")
    body = 'from examples.refit_head import RefitHead\n\n\nclass Refit(RefitHead):\n    name = "refit"\n'
    found = []
    for module in ("here", "there"):
        (package / f"{module}.py").write_text(body)
        importlib.invalidate_caches()
        (conf / "refit.yaml").write_text(
            f"name: refit\ncorrector: {{_target_: movable.{module}.Refit}}\nspaces: {{two: {{ridge: {{grid: [1.0, 0.1]}}}}}}\n"
        )
        found.append(ids("methods=[refit]", "plugins=[movable]", "--config-dir", str(conf.parent)))
        (package / f"{module}.py").unlink()
    assert found[0] == found[1]
    assert len(found[0]) == 2


@dataclass(frozen=True)
class Silent(SGD):
    """Shares its parent's name."""


@dataclass(frozen=True)
class Field(SGD):
    name: str = "sgd"


@dataclass(frozen=True)
class Spaced(SGD):
    name = "my trainer"


class Bare:
    version = 1


class Other(SGD):
    name = "clipped"


class Clipped(SGD):
    name = "clipped"


@pytest.fixture(autouse=True)
def plug(monkeypatch):
    made = ModuleType("plug")
    for cls in (Silent, Field, Spaced, Bare, Other, Clipped):
        setattr(made, cls.__name__, cls)
    monkeypatch.setitem(sys.modules, "plug", made)


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        ("Silent", r"inherits the name 'sgd' of trainers\.sgd\.SGD, .* in the body of Silent: name: ClassVar\[str\] = \"silent\""),
        ("Field", "has a field `name`"), ("Spaced", "declares the name 'my trainer'; use letters"),
        ("Bare", r"declares no name, .* add to the body of Bare: name: ClassVar\[str\] = \"bare\""),
    ],
)  # fmt: skip
def test_a_class_declares_its_own_name(cls, said):
    with pytest.raises(UserError, match=said):
        parse_component({"_target_": f"plug.{cls}"}, "trainer", Trainer, ["plug"])


def test_two_classes_with_one_name_are_refused():
    both = [("trainer", "plug.Other"), ("trainer", "plug.Clipped")]
    with pytest.raises(UserError, match=r"plug\.Other and plug\.Clipped are two components of kind 'trainer' with the name 'clipped'"):
        refuse_name_clashes(both)
    refuse_name_clashes([both[0], ("pruner", "plug.Clipped")])


def test_a_configuration_with_two_classes_of_one_name_is_refused(tmp_path):
    (tmp_path / "trainer").mkdir()
    for cls in ("Other", "Clipped"):
        (tmp_path / "trainer" / f"{cls.lower()}.yaml").write_text(f"defaults: [sgd, _self_]\nname: {cls.lower()}\n_target_: plug.{cls}\n")
    cells = "cells=[{dataset: digits, noise: symmetric, noise.rate: 0.25, model: small_cnn, trainer: [other, clipped]}]"
    with pytest.raises(UserError, match="two components of kind 'trainer'"):
        check_cells(compose_all(["experiment=demo", "methods=[sap]", cells, "plugins=[plug]", "--config-dir", str(tmp_path)]))


def test_rows_show_a_nested_component_by_its_name(plan_of):
    plan = plan_of(*SHORT, "methods=[retrain]").plan
    (run,) = plan.jobs[-1].runs
    assert run.settings["recipe"] == "sgd"
    assert run.entry["settings"]["recipe"]["target"] == "trainers.sgd.SGD", "jobs are constructed from paths"
    assert '"recipe":"sgd"' in plan.rows[-1].settings

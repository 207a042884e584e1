"""Experiments in the form that Hydra documents, and clusters of a user's own."""

from __future__ import annotations

import pytest

from sap_core.errors import UserError
from sweeper.config.choices import described_choices
from sweeper.config.compose import compose_all

HYDRA = """# @package _global_
defaults:
  - override /dataset: cifar10
  - override /noise: asymmetric
  - override /model: resnet18
  - override /trainer: mixup
name: mine
noise: {rate: 0.1}
methods: [sap]
"""


def composed(folder, text, *words):
    (folder / "experiment").mkdir()
    (folder / "experiment" / "mine.yaml").write_text(text)
    return compose_all(["experiment=mine", f"--config-dir={folder}", *words])


def names(cell):
    return [cell[group]["name"] for group in ("dataset", "noise", "model", "trainer")]


def test_an_experiment_without_cells_is_one_cell_of_the_groups_that_it_overrides(tmp_path):
    (cell,) = composed(tmp_path, HYDRA).cells
    assert (names(cell), cell["noise"]["rate"]) == (["cifar10", "asymmetric", "resnet18", "mixup"], 0.1)


def test_the_command_line_takes_precedence(tmp_path):
    found = composed(tmp_path, HYDRA, "-m", "model=vgg11_bn,resnet34", "noise.rate=0.2")
    assert [(cell["model"]["name"], cell["noise"]["rate"], cell["trainer"]["name"]) for cell in found.cells] == [
        ("vgg11_bn", 0.2, "mixup"), ("resnet34", 0.2, "mixup"),
    ]  # fmt: skip


def test_cells_may_stand_beside_overridden_groups(tmp_path):
    found = composed(tmp_path, HYDRA.replace("  - override /model: resnet18\n", "") + "cells: [{model: [vgg11_bn, resnet34]}]\n")
    assert [names(cell) for cell in found.cells] == [["cifar10", "asymmetric", name, "mixup"] for name in ("vgg11_bn", "resnet34")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{HYDRA}cells: [{{model: vgg11_bn}}]\n", "has 'override /model: resnet18' in its defaults, and its cells choose model too"),
        (HYDRA.replace("defaults:\n", "defaults:\n  - demo\n"), "and its cells choose dataset too"),
        (HYDRA.replace("override /model", "/model"), "model"),
        (HYDRA.replace("resnet18", "resnet19"), "resnet19"),
        (f"{HYDRA}hydra: {{sweeper: {{params: {{noise.rate: '0.1,0.2'}}}}}}\n", "the key hydra has no effect, because Hydra only composes"),
    ],
)
def test_contradictions_and_mistakes_are_one_sentence(tmp_path, text, said):
    with pytest.raises(UserError) as caught:
        composed(tmp_path, text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_list_of_cells_on_the_command_line_stays_empty():
    assert compose_all(["experiment=demo", "cells=[]"]).cells == ()
    assert compose_all(["name=mine"]).cells == ()


def test_clusters_of_the_user_are_choices_and_come_first(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "sap-sweep" / "cluster"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("# Mine.\npartition: gpu\ntime: 1:30:00\naccount: 0123\n")
    (folder / "example.yaml").write_text("# My example.\npartition: other\n")
    (folder.parent / "experiment").mkdir()
    (folder.parent / "experiment" / "hidden.yaml").write_text("# @package _global_\nname: hidden\n")
    assert described_choices()["cluster"] == {"example": "My example.", "mine": "Mine."}
    assert compose_all(["experiment=demo", "cluster=mine"]).config.cluster == {"partition": "gpu", "time": "1:30:00", "account": "0123"}
    assert compose_all(["experiment=demo", "cluster=example"]).config.cluster == {"partition": "other"}
    assert "cluster" not in compose_all(["experiment=demo", "cluster=mine"]).raw
    with pytest.raises(UserError, match=r"unknown cluster 'mien' \(did you mean 'mine'\?\); allowed: example, mine"):
        compose_all(["experiment=demo", "cluster=mien"])
    with pytest.raises(UserError, match="unknown experiment 'hidden'"):
        compose_all(["experiment=hidden"])

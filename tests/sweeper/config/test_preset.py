"""Presets: which values they replace, and what takes precedence over them."""

from __future__ import annotations

import pytest

from sap_core.errors import UserError
from sweeper.config.compose import compose_all
from sweeper.plan.build import sweep_paths


def small(*words):
    composed = compose_all([*words, "preset=small"])
    return composed, composed.cells[0]


def test_values_replace_those_of_the_experiment():
    composed, cell = small("experiment=fashion")
    assert (cell["dataset"]["images"], cell["dataset"]["validation"], cell["trainer"]["epochs"]) == (3000, 0.2, 40)
    assert cell["trainer"]["learning_rate"] == 0.05, "of the experiment"
    assert cell["method"]["sap"]["corrector"]["num_trusted"] == 300
    assert composed.config.methods == ["scrub@grid45", "sap"]
    assert composed.raw["preset"]["name"] == "small"
    assert sweep_paths(composed.config).store.name == "fashion-small"


def test_the_command_line_and_the_cells_take_precedence():
    words = ["dataset.images=500", "method.sap.corrector.num_trusted=50", "methods=[scrub@grid_a,sap]", "preset.cell.trainer.epochs=7"]
    composed, cell = small("experiment=fashion", *words)
    assert (cell["dataset"]["images"], cell["method"]["sap"]["corrector"]["num_trusted"], cell["trainer"]["epochs"]) == (500, 50, 7)
    assert composed.config.methods == ["scrub@grid_a", "sap"]
    _, cell = small("experiment=fashion", "cells=[{dataset: mnist, model: lenet5, dataset.images: 700}]")
    assert (cell["dataset"]["name"], cell["dataset"]["images"]) == ("mnist", 700)


def test_data_sets_without_a_number_of_images_stay_as_they_are():
    _, cell = small("experiment=demo")
    assert ("images" in cell["dataset"], cell["dataset"]["validation"]) == (False, 300)


def test_values_that_apply_nowhere_are_said(tmp_path):
    assert small("experiment=fashion")[0].notes == ()
    assert small("experiment=demo")[0].notes == ("preset small leaves dataset as it is, because digits has no images",)
    (tmp_path / "preset").mkdir()
    text = "name: mine\ncell: {trainer: {epoch: 5}}\nmethod: {sap: {corrector: {trustd: 5}}}\nspaces: {scrub: grid46, sapp: alpha16}\n"
    (tmp_path / "preset/mine.yaml").write_text(text)
    composed = compose_all(["experiment=fashion", "preset=mine", f"--config-dir={tmp_path}"])
    missing = ("method.sap.corrector.trustd", "method.scrub.spaces.grid46", "method.sapp")
    assert composed.notes == (
        *(f"preset mine has a value for {key}, which does not exist: nothing is set" for key in missing),
        "preset mine leaves trainer as it is, because sgd has no epoch",
    )


@pytest.mark.slow
def test_whole_numbers_are_maxima():
    _, cell = small("experiment=prune4rel_small")
    assert (cell["trainer"]["epochs"], cell["_warmup"]["epochs"]) == (15, 6)
    _, cell = small("experiment=demo")
    assert cell["method"]["sap"]["corrector"]["num_trusted"] == 200


def test_without_a_preset_nothing_is_recorded():
    assert "preset" not in compose_all(["experiment=demo"]).raw


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: mine\ncell: {datset: {images: 5}}\n", "unknown group 'datset' in preset.cell (did you mean 'dataset'?)"),
        ("name: mine\ncell: {dataset: 5}\n", "preset.cell.dataset=5 must map keys to values"),
        ("name: a b\n", "preset.name='a b' becomes part of a folder's name"),
        ("name: mine\nmethds: {}\n", "methds"),
    ],
)
def test_mistakes_in_a_preset_of_ones_own_are_one_sentence(tmp_path, text, said):
    (tmp_path / "preset").mkdir()
    (tmp_path / "preset" / "mine.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        compose_all(["experiment=demo", "preset=mine", f"--config-dir={tmp_path}"])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)

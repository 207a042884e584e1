"""Composition with Hydra: the cache changes nothing but the time."""

from __future__ import annotations

import pytest
from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from sweeper.config.compose import compose_all
from sweeper.config.composition import compose_config, hydra_ready, options

VALUES = (
    ["trainer.epochs=3", "noise.rate=0.3"],
    ["seeds=[7]", "cells=[{noise.rate: [0.1, 0.2]}]", "paths.data=${oc.env:HOME}/x"],
    ["method.sap.name=other", "+method.sap.corrector.extra=1"],
    ["backend=local", "backend.workers=3", "model=resnet18", "++seeds=[4]"],
    ["search=tpe", "search.budget=9", "name=null", "only='model=x y=z'", "backend={workers: 2}", "~cells"],
)


@pytest.mark.slow
def test_values_on_a_cached_composition_equal_hydras_own():
    def parsed(*lines):
        return OverridesParser.create().parse_overrides(["experiment=demo", *lines])

    with hydra_ready([]):
        before = OmegaConf.to_yaml(compose_config(parsed(), []))
        for words in VALUES:
            expected = compose("config", overrides=["experiment=demo", *words])
            assert OmegaConf.to_yaml(compose_config(parsed(*words), [])) == OmegaConf.to_yaml(expected), words
        assert OmegaConf.to_yaml(compose_config(parsed(), [])) == before, "values stay on the copy"


def test_without_methods_no_method_file_is_read():
    with hydra_ready([]):
        assert compose_config([], [], methods=False).method == {}
        assert set(compose_config([], []).method) == set(options("method"))


@pytest.mark.slow
def test_a_file_that_was_edited_is_read_again(tmp_path):
    file = tmp_path / "experiment/mine.yaml"
    file.parent.mkdir()
    for seed in (1, 2):
        file.write_text(f"# @package _global_\nname: mine\nseeds: [{seed}]\ncells: [{{dataset: digits}}]\n")
        assert compose_all(["experiment=mine", "--config-dir", str(tmp_path)]).config.seeds == [seed]

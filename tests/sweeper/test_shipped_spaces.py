"""No shipped search loses a setting unsaid: each counts its settings, and all of them are different computations."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sap_core.api import Sizes

CONF = Path(__file__).parents[2] / "conf"
METHODS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((CONF / "method").glob("*.yaml"))}
EVERY = [f"{method}@{space}" for method, file in METHODS.items() for space in file["spaces"]]
EXPERIMENTS = ["demo", "fashion", "table1", "correctors", "cleaning", "equal_information", "equal_information_small", "corrective_small"]

COUNTS = {"scrub@grid_a": 675, "scrub@grid_b": 675, "sap@alpha16": 16, "sap@alpha16_size5": 80, "sap@alpha4_size4": 16, "ssd@grid": 50,
    "scrub@scored": 675, "sap@expert": 16,
}  # fmt: skip
"""Sizes that the paper, the tables or the YAML files name."""

FEWER = {}
"""search: number of different computations, for a space that says in its YAML that settings coincide."""


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_searches_of_shipped_experiments_are_distinct(plan_of, experiment):
    for cell in plan_of(f"experiment={experiment}").cells:
        for search in cell.searches:
            assert len(set(search.distinct)) == FEWER.get(search.name, len(search.settings)), f"{search.name} on {cell.name}"
            assert len(search.settings) == COUNTS.get(search.name, len(search.settings))


@pytest.mark.parametrize("experiment", ["demo", "fashion"])
def test_every_shipped_space_is_distinct_with_the_budgets_of(plan_of, experiment):
    (cell,) = plan_of(f"experiment={experiment}", f"methods=[{','.join(EVERY)}]").cells
    assert [search.name for search in cell.searches] == EVERY
    for search in cell.searches:
        assert len(set(search.distinct)) == FEWER.get(search.name, len(search.settings)), search.name


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_budgets_fit_the_data(plan_of, experiment):
    """A setting that asks for more samples than a split can hold would fail after hours of training."""
    for cell in plan_of(f"experiment={experiment}").cells:
        train, val, _ = cell.sizes
        wrong = train * cell.noise_rate * (0.4 if cell.noise.name == "asymmetric" else 0.95)  # CIFAR-10 confuses half of its classes
        right, rest = 0.95 * train * (1 - cell.wrong_share), train * (1 - 1.3 * cell.wrong_share)
        for search in cell.searches:
            for setting in search.settings:
                held = rest if setting.settings.get("source") == "identified" else right
                assert (setting.settings.get("num_trusted") or 0) <= train, search.name
                assert (setting.settings.get("num_retain") or 0) <= held, search.name
                assert (setting.settings.get("num_forget") or 0) <= wrong, search.name
            instances = [setting.instance for setting in search.settings]
            assert type(instances[0]).forecast([instances[0]], Sizes(train, val)).forwards > 0


def test_settings_that_coincide_are_counted(plan_of):
    """The count that dry runs print can fall: batches of 200 and more are one computation on 200 forget samples."""
    override = "method.scrub.spaces.grid_a.forget_batch.grid=[512,256,200]"
    (cell,) = plan_of("experiment=fashion", override, "methods=[scrub]").cells
    assert len(cell.searches[0].settings) == 675
    assert len(set(cell.searches[0].distinct)) == 225

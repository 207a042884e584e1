"""Shipped spaces list no setting twice, and all their settings are distinct computations."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

CONF = Path(__file__).parents[3] / "conf"
METHODS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((CONF / "method").glob("*.yaml"))}
EVERY = [f"{method}@{space}" for method, file in METHODS.items() for space in file["spaces"]]
FEWER = {}
"""search: number of different computations, for a space that says in its YAML that settings coincide."""


@pytest.mark.parametrize("experiment", ["demo", "fashion"])
def test_every_shipped_space_is_distinct_with_the_budgets_of(plan_of, experiment):
    (cell,) = plan_of(f"experiment={experiment}", f"methods=[{','.join(EVERY)}]").cells
    assert [search.name for search in cell.searches] == EVERY
    for search in cell.searches:
        assert len(set(search.computation_ids)) == FEWER.get(search.name, len(search.settings)), search.name


def test_settings_that_coincide_are_counted(plan_of):
    """The count that dry runs print can fall: batches of 200 and more are one computation on 200 forget samples."""
    override = "method.scrub.spaces.grid_a.forget_batch.grid=[512,256,200]"
    (cell,) = plan_of("experiment=fashion", override, "methods=[scrub]").cells
    assert len(cell.searches[0].settings) == 675
    assert len(set(cell.searches[0].computation_ids)) == 225

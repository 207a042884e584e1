"""A store with a complete small grid and several searches, computed in this process."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sweeper.jobs.job import SweepPaths
from sweeper.jobs.run_job import execute
from sweeper.plan.build import write_plan
from sweeper.store.store import Store

SEARCHES = (
    "searches=[{methods: [finetune], search: [random, tpe], budget: [4, 9], seeds: [0, 1]}, "
    "{methods: [finetune], search: successive_halving, budget: 6, "
    "seeds: [0, 1]}, {methods: [sap], search: random, budget: 2}]"
)
ARGUMENTS = (
    "experiment=demo", "seeds=[1]", "methods=[finetune,sap]", "trainer.epochs=3", "trainer.learning_rate=0.05",
    "method.finetune.spaces.grid.epochs.grid=[1,2,4]", "method.finetune.corrector.num_retain=60",
    "method.sap.spaces.alpha16.alpha.grid=[100000.0,10000.0,3000.0]",
)  # fmt: skip


@pytest.fixture(scope="session")
def searched(plan_of, tmp_path_factory):
    """Two grids and eleven searches on one baseline: plan, store, folders, and the rows by job."""
    root = tmp_path_factory.mktemp("searched")
    found = plan_of(*ARGUMENTS, SEARCHES)
    folders = SweepPaths(root / "data", root / "store", root / "artifacts")
    store = Store(folders.store)
    for job in found.plan.jobs:
        execute(job, folders)
    write_plan(store, found.plan, found.composed, "key")
    rows = {job.job_id: store.read_rows(job.job_id) for job in found.plan.jobs}
    return SimpleNamespace(plan=found.plan, jobs=found.plan.jobs, store=store, folders=folders, rows=rows)

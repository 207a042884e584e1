"""Deleted checkpoints are recomputed with the same bits when a job needs them; stored rows are not changed."""

from __future__ import annotations

import shutil

from sweeper.jobs.job import SweepPaths, artifact
from sweeper.jobs.run_job import execute


def test_a_deleted_checkpoint_is_recomputed_and_its_row_kept(plan_of, tmp_path):
    plan = plan_of("experiment=demo", "trainer.epochs=1", "model.width=2", "methods=[sap]", "seeds=[1]").plan
    train, tune = plan.jobs
    folders = SweepPaths(tmp_path / "data", tmp_path / "store", tmp_path / "artifacts")
    assert execute(train, folders).status == "ok"
    row = folders.store / "rows" / f"{train.job_id}.ok.parquet"
    model = artifact(folders.artifacts, train.job_id).with_name("model.safetensors")
    before, weights = row.read_bytes(), model.read_bytes()

    assert execute(train, folders).seconds == 0.0, "stored: nothing is run"
    shutil.rmtree(folders.artifacts)
    assert execute(train, folders).status == "ok"
    assert model.read_bytes() == weights
    assert row.read_bytes() == before

    shutil.rmtree(folders.artifacts / train.job_id)
    lost = execute(tune, folders)
    assert (lost.status, lost.failed) == ("failed", 16)
    assert f"delete its folder {model.parent} and start the sweep again" in lost.error

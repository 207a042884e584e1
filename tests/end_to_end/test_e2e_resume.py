"""A training that is stopped within an epoch resumes and ends with the weights of an uninterrupted one."""

from __future__ import annotations

import signal

import pytest
import torch

from sap_core.checkpoint import load_state
from sap_core.seeding import stream

REST = 0.12
BATCHES = 5  # of an epoch: 120 samples in batches of 24
WORDS = (
    "experiment=going_wrong", "trainer=slow", f"trainer.rest_seconds={REST}", "trainer.epochs=5", "methods=[sap]",
    "method.sap.corrector.num_trusted=40", "method.sap.corrector.batch_size=20",
)  # fmt: skip


def places(path):
    """(epoch, batch) of all batches that the training started."""
    return [tuple(map(int, line.split())) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="module")
def whole(bench):
    """The uninterrupted run."""
    end = bench.run("whole", *WORDS, f"paths.artifacts={bench.root / 'whole' / 'artifacts'}")
    assert end.code == 0, end.err
    (row,) = [row for row in bench.store("whole").rows() if row["method"] == "vanilla"]
    return row


def stop_and_go(bench, e2e, name, number, at, backend="local"):
    """Stops a run within an epoch with signal `number` and restarts it; returns the batches of each start."""
    where = bench.root / f"{name}.where"
    words = (*WORDS, f"backend={backend}", f"paths.artifacts={bench.root / name / 'artifacts'}")
    variables = {"SAP_SWEEP_CHECKPOINT_SECONDS": "0", "STANDINS_WHERE": str(where)}
    with e2e.ended(bench.start(name, *words, **variables)) as process:
        e2e.wait_for(lambda: at in places(where), 60, process)
        assert any("--serve" in title or title == "ray::ResourceTrainable.train" for title in bench.store(name).processes().values())
        process.send_signal(number)
        process.communicate(timeout=60)
    bench.store(name).wait_until_gone()
    first = places(where)
    assert not bench.store(name).files()
    where.unlink()
    end = bench.run(name, *words, **variables)
    assert end.code == 0, end.err
    return process.returncode, first, places(where)


def assert_same(bench, e2e, name, whole):
    one, other = (load_state(bench.root / run / "artifacts" / whole["job_id"] / "model.safetensors")["model"] for run in ("whole", name))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert e2e.comparable(bench.store("whole").rows()) == e2e.comparable(bench.store(name).rows())
    assert bench.store("whole").series(whole["job_id"]) == bench.store(name).series(whole["job_id"])
    assert not (bench.root / name / "artifacts" / whole["job_id"] / "last.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["local", "ray"])
def test_sigterm_in_the_middle_of_an_epoch_finishes_it_and_the_next_start_continues_there(bench, e2e, whole, backend):
    name = f"term_{backend}"
    code, first, second = stop_and_go(bench, e2e, name, signal.SIGTERM, (2, 2), backend)
    assert code == 130
    last = first[-1][0]
    assert first[-1] == (last, BATCHES - 1)
    assert 2 <= last < 5
    assert second[0] == (last + 1, 0)
    assert_same(bench, e2e, name, whole)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["local", "ray"])
def test_kill_in_the_middle_of_an_epoch_repeats_that_epoch(bench, e2e, whole, backend):
    name = f"kill_{backend}"
    code, first, second = stop_and_go(bench, e2e, name, signal.SIGKILL, (3, 1), backend)
    assert code == -signal.SIGKILL
    assert 3 <= first[-1][0] < 5
    assert second[0] == (first[-1][0], 0)
    assert_same(bench, e2e, name, whole)


def test_epochs_differ_so_that_a_resumed_run_could_go_wrong():
    """The comparison above would be meaningless if all epochs had the same order."""
    orders = [tuple(stream(1, "train", epoch).child("order").permutation(120).tolist()) for epoch in (1, 2, 3)]
    assert len(set(orders)) == 3

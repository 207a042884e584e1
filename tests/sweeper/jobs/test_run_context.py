"""`JobRun`: an interruption loses no epoch, no point of a curve and no cost."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from sap_core.api import Stopped
from sap_core.checkpoint import save_state
from sap_core.cost import CostMeter, tuning
from sap_core.records import Point
from sweeper.jobs.run_context import JobRun
from trainers.sgd import SGD

RECIPE = SGD(epochs=5, learning_rate=0.05, batch_size=16, schedule="constant", until_train_acc=1.0, check_every=2)


def stop_after(count):
    """Asks to stop when it is asked for the `count`-th time."""
    asked = []

    def stop():
        asked.append(1)
        return len(asked) == count

    return stop


def fit(toys, path, stop=lambda: False):
    run = JobRun(CostMeter(), path, stop, precision=lambda index: 0.5)
    return RECIPE.fit(toys.make_task(augment="crop_flip"), run), run


def forwards(run):
    """Each setting's share of the sample-forwards."""
    return [tuning(cost.shared).forwards for cost in run.meter.costs()]


def spent(run):
    """Sample-passes by phase."""
    forwards, backwards = Counter(), Counter()
    for piece in run.meter.records:
        forwards[piece.phase] += piece.forwards
        backwards[piece.phase] += piece.backwards
    return forwards, backwards


@pytest.mark.parametrize("stops", [(1,), (4,), (1, 1, 2), (5,)])
def test_stopped_and_resumed_is_as_uninterrupted(toys, tmp_path, stops):
    whole, uninterrupted = fit(toys, tmp_path / "whole.safetensors")
    assert not (tmp_path / "whole.safetensors").exists()
    path, done = tmp_path / "last.safetensors", 0
    for count in stops:
        done += count
        with pytest.raises(Stopped, match=f"stopped after epoch {done}; the next start resumes from there"):
            fit(toys, path, stop_after(count))
    model, run = fit(toys, path)
    toys.assert_same_bits(toys.weights(whole.model), toys.weights(model.model))
    assert run.points == uninterrupted.points
    assert spent(run) == spent(uninterrupted)
    assert forwards(run) == forwards(uninterrupted)
    assert forwards(run)[0] > 0
    assert set(run.meter.costs()[0].shared) == {"train"}


def test_seconds_spent_before_a_stop_are_kept(toys, tmp_path):
    path = tmp_path / "last.safetensors"
    with pytest.raises(Stopped):
        fit(toys, path, stop_after(3))
    run = JobRun(CostMeter(), path)
    assert run.saved_state() is not None
    (before,) = run.meter.records
    assert before.seconds > 0
    assert before.forwards > before.backwards == 3 * 80


def test_a_fresh_run_has_nothing_saved(tmp_path):
    assert JobRun(CostMeter(), tmp_path / "last.safetensors").saved_state() is None


def test_the_state_is_stored_when_due_and_not_before(toys, tmp_path, monkeypatch):
    path = tmp_path / "last.safetensors"
    model = toys.make_task().build(0)
    made = []

    def state():
        made.append(1)
        return {"epoch": 1}

    monkeypatch.setenv("SAP_SWEEP_CHECKPOINT_SECONDS", "3600")
    JobRun(CostMeter(), path).end_epoch(1, model, state)
    assert not made
    assert not path.exists()
    monkeypatch.setenv("SAP_SWEEP_CHECKPOINT_SECONDS", "0")
    run = JobRun(CostMeter(), path)
    run.end_epoch(1, model, state)
    assert len(made) == 1
    assert JobRun(CostMeter(), path).saved_state() == {"epoch": 1}
    run.delete_checkpoint()
    run.delete_checkpoint()
    assert not path.exists()


def test_the_state_of_another_job_is_not_continued(toys, tmp_path, monkeypatch):
    path, lines = tmp_path / "last.safetensors", []
    monkeypatch.setenv("SAP_SWEEP_CHECKPOINT_SECONDS", "0")
    JobRun(CostMeter(), path, owner="a").end_epoch(1, toys.make_task().build(0), lambda: {"epoch": 1})
    assert JobRun(CostMeter(), path, owner="a").saved_state() == {"epoch": 1}
    assert JobRun(CostMeter(), path, owner="b", log=lines.append).saved_state() is None
    assert "is the state of a; the computation starts from its beginning" in lines[0]
    assert not path.exists()


def test_the_curve_has_kept_samples_and_their_precision(toys, tmp_path):
    model = toys.make_task().build(0)
    run = JobRun(CostMeter(), tmp_path / "x", precision=lambda index: float(len(index)) / 10)
    run.end_epoch(1, model, dict, kept=torch.tensor([3, 4]), loss=0.5)
    JobRun(CostMeter(), tmp_path / "x", precision=lambda index: None).end_epoch(1, model, dict, kept=torch.tensor([1]))
    assert sorted(run.points) == [("kept_label_precision", 1, 0.2), ("loss", 1, 0.5), ("num_kept", 1, 2.0)]
    assert run.series("aa", "aa-0") == [Point("aa", "aa-0", name, step, value) for name, step, value in run.curve()]


def test_trusted_sets_belong_to_their_settings(tmp_path):
    run = JobRun(CostMeter(3), tmp_path / "x")
    run.report_trusted(torch.tensor([1]))
    run.report_trusted(torch.tensor([2, 3]), used_by=[2])
    assert {which: index.tolist() for which, index in run.trusted_sets.items()} == {0: [1], 1: [1], 2: [2, 3]}


def test_work_without_epochs_can_be_stopped(tmp_path):
    JobRun(CostMeter(), tmp_path / "x").check_stop()
    with pytest.raises(Stopped, match="the next start reruns this job"):
        JobRun(CostMeter(), tmp_path / "x", lambda: True).check_stop()


def test_costs_of_shared_work_are_restored_with_their_users(toys, tmp_path):
    path = tmp_path / "last.safetensors"
    run = JobRun(CostMeter(3), path, lambda: True)
    for users in ([0, 1], [2], [0, 1]):
        with run.meter("correct", used_by=users):
            run.meter.count(forwards=10, backwards=4, flops=1.5)
    with pytest.raises(Stopped):
        run.end_epoch(1, toys.make_task().build(0), dict)
    again = JobRun(CostMeter(3), path)
    again.saved_state()
    assert forwards(again) == forwards(run) == [10, 10, 10]
    assert [tuning(cost.shared).flops for cost in again.meter.costs(1, 1)] == [tuning(cost.shared).flops for cost in run.meter.costs(1, 1)]
    assert tuning(again.meter.costs()[0].shared).seconds == pytest.approx(tuning(run.meter.costs()[0].shared).seconds)


@pytest.mark.parametrize("state", [{"number": 1}, {"number": 1, "state": {}, "curve": "3", "spent": "[]"}, None])
def test_a_damaged_state_is_deleted_and_the_training_starts_over(state, tmp_path):
    path, lines = tmp_path / "last.safetensors", []
    save_state(path, state or {"number": 1, "state": {"w": torch.ones(3)}, "curve": "[]", "spent": "[]"})
    if state is None:
        content = bytearray(path.read_bytes())
        content[-1] ^= 0x40
        path.write_bytes(content)
    run = JobRun(CostMeter(), path, log=lines.append)
    assert run.saved_state() is None
    assert (run.points, run.meter.records) == ([], [])
    assert not path.exists()
    assert "the computation starts from its beginning" in lines[0]

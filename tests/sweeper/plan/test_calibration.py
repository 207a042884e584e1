"""Timing of training steps for networks without measurements."""

from __future__ import annotations

import pytest
import torch

from sweeper.plan.calibration import calibrate


def test_it_times_the_network_and_leaves_the_process_alone(plan_of):
    cells = plan_of("experiment=demo", "methods=[sap]").cells
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    found = calibrate(cells, "cpu", 1)
    assert set(found) == {("perceptron_bn", "digits")}
    assert 1e-13 < found["perceptron_bn", "digits"] < 1e-7
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_network_that_fails_is_reported_once(plan_of, monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("no backward\nhere")

    monkeypatch.setattr("sweeper.plan.calibration.build_network", broken)
    cells = plan_of("experiment=demo", "methods=[sap]").cells
    assert calibrate([*cells, *cells], "cpu", 1) == {}
    said = capsys.readouterr().err
    assert said == (
        "a training step of perceptron_bn on digits could not be timed here (no backward here); "
        "its jobs are forecast without a measurement\n"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_the_gpu_nothing_is_calibrated(plan_of):
    assert calibrate(plan_of("experiment=demo", "methods=[sap]").cells, "cuda", 1) == {}

"""The examples run, and do what they say."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from examples.refit_head import RefitHead, features, last_linear, ridge_weights
from sap_core.api import Corrector, Sizes
from sap_core.errors import UserError
from sap_core.run import PlainRun
from trainers.sgd import SGD

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_correct_resnet18_runs_and_changes_every_weight_matrix_and_nothing_else():
    done = subprocess.run(
        [sys.executable, "-m", "examples.correct_resnet18"],
        cwd=ROOT, env={"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *changed, last = done.stdout.splitlines()
    names = [line.split()[0] for line in changed]
    assert len(names) == 21  # 20 convolutions (3 of them shortcuts) and the head
    assert names[0] == "conv1.weight"
    assert names[-1] == "fc.weight"
    assert not any(".bn" in name or name.endswith("bias") for name in names)
    assert last.startswith("unchanged predictions: ")


@pytest.fixture(scope="module")
def task(toys):
    return toys.make_task("batch_norm", augment="flip")


@pytest.fixture(scope="module")
def noisy(task):
    return SGD(epochs=5, learning_rate=0.05, batch_size=16, schedule="constant").fit(task, PlainRun()).model


SETTINGS = [RefitHead(ridge=ridge, num_trusted=40, batch_size=16) for ridge in (1.0, 0.01, 0.0001)]


def correct(toys, settings, model, task):
    run = PlainRun(len(settings))
    told = task.allow(frozenset())
    return {which: toys.weights(net) for which, net in RefitHead.correct(settings, model, told, run)}, run


def test_refit_head_keeps_the_interface(toys, task, noisy):
    assert isinstance(SETTINGS[0], Corrector)
    before = toys.weights(noisy)
    together, run = correct(toys, SETTINGS, noisy, task)
    toys.assert_same_bits(before, toys.weights(noisy))
    assert list(together) == [0, 1, 2]
    for which, setting in enumerate(SETTINGS):
        alone, _ = correct(toys, [setting], noisy, task)
        toys.assert_same_bits(together[which], alone[0])
        assert {name for name, value in together[which].items() if not torch.equal(value, before[name])} == {"head.weight", "head.bias"}
    forecast = RefitHead.forecast(SETTINGS, Sizes(len(task.train), len(task.val)))
    assert toys.passes(run) == (forecast.forwards, forecast.backwards)
    assert all(len(run.trusted_sets[which]) == 40 for which in range(3))


def test_refit_head_solves_its_normal_equations(task, noisy):
    h = features(noisy, task.train, 16)
    y = torch.nn.functional.one_hot(task.train.labels, task.num_outputs).double()
    w = ridge_weights(h, y, 0.01).requires_grad_()
    ((h @ w - y).square().sum() / 2 + 0.01 * len(h) * w.square().sum() / 2).backward()
    assert w.grad.abs().max() < 1e-9 * len(h)


def test_refit_head_refuses_what_it_cannot_do(toys, noisy):
    with pytest.raises(UserError, match="ridge above 0"):
        RefitHead(ridge=0.0)
    with pytest.raises(UserError, match="needs classes"):
        next(RefitHead.correct(SETTINGS, noisy, replace(toys.make_task(), kind="regression"), PlainRun(3)))
    with pytest.raises(UserError, match="last linear layer"):
        last_linear(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1)))

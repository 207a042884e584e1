"""Regression by squared error and by Huber's loss, with trimmed targets."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sap_core.api import Sizes
from sap_core.errors import UserError
from sap_core.run import PlainRun
from trainers.losses import losses_for
from trainers.prl_l import PRL_L
from trainers.sample_selection import BatchSelection
from trainers.sgd import SGD
from trainers.target_trimming import trimmed

RECIPE = SGD(epochs=3, learning_rate=0.05, batch_size=16, schedule="constant")


def test_the_samples_farthest_from_the_median_go(toys):
    samples = toys.make_task(kind="regression").train
    targets = torch.arange(80).float()
    targets[[3, 70]] = torch.tensor([500.0, -300.0])
    left = trimmed(samples.relabel(targets), 0.05)
    assert left.index.tolist() == [i for i in range(80) if i not in (3, 70, 79, 78)]  # 0 is as far from 39 as 78
    assert trimmed(samples, 0.0) is samples


def test_trimming_equals_training_without_the_trimmed_samples_and_is_reported(toys):
    task = toys.make_task(kind="regression")
    labels = task.train.labels.clone()
    labels[:8] = 100.0
    task = replace(task, train=task.train.relabel(labels))
    fitted = replace(RECIPE, trim=0.1).fit(task, run := PlainRun())
    without = RECIPE.fit(replace(task, train=task.train.subset(torch.arange(8, 80))), PlainRun())
    toys.assert_same_bits(toys.weights(fitted.model), toys.weights(without.model))
    assert [point["num_trimmed"] for point in run.curve] == [8, 8, 8]


@pytest.mark.parametrize("make", [lambda recipe: recipe, lambda recipe: PRL_L(BatchSelection(rate=0.3), recipe)], ids=["sgd", "prl_l"])
def test_forecasts_use_the_remaining_samples(toys, make):
    trainer = make(replace(RECIPE, trim=0.13, huber=0.5))
    trainer.fit(toys.make_task(kind="regression"), run := PlainRun())
    forecast = trainer.forecast(Sizes(train=80, val=20))
    assert toys.passes(run) == (forecast.forwards, forecast.backwards)


def test_hubers_loss_by_hand_and_the_plain_loop(toys, plain):
    """Twice Huber's loss, so that small residuals count as in squared error."""
    outputs, targets = torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([0.3, 1.0, 0.0])
    assert losses_for("regression", 0.5)(outputs, targets).tolist() == pytest.approx([0.09, 0.0, 2 * 0.5 * (5 - 0.25)])
    assert losses_for("regression")(outputs, targets).tolist() == pytest.approx([0.09, 0.0, 25.0])

    def huber(outputs, batch, epoch):
        far = (outputs[:, 0] - batch.labels).abs()
        return torch.where(far <= 0.4, far**2, 0.8 * far - 0.16)

    task = toys.make_task(kind="regression")
    fitted = replace(RECIPE, huber=0.4).fit(task, PlainRun())
    expected = plain.training(task, 3, 0.05, plain.of_losses(huber))
    toys.assert_close(toys.weights(fitted.model), toys.weights(expected), rtol=1e-4, atol=1e-5)


def test_both_are_for_numbers(toys):
    for options in ({"trim": 0.1}, {"huber": 1.0}):
        with pytest.raises(UserError, match=r"trainer\.trim and trainer\.huber require a regression, but this task is a classification"):
            replace(RECIPE, **options).fit(toys.make_task(), PlainRun())
    with pytest.raises(UserError, match="trim=1 is out of range"):
        SGD(trim=1.0)
    with pytest.raises(UserError, match="huber=0 is out of range"):
        SGD(huber=0.0)

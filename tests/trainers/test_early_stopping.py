"""ReduceOnPlateau against torch's scheduler; early stopping and the best checkpoint against their rules, written out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional
from torch.optim.lr_scheduler import ReduceLROnPlateau

from sap_core.api import Sizes
from sap_core.errors import UserError
from sap_core.run import PlainRun
from trainers.early_stopping import EarlyStopping, ReduceOnPlateau, given_loss
from trainers.losses import squared_error
from trainers.sgd import SGD

QUICK = SGD(epochs=12, learning_rate=0.05, batch_size=16, schedule="constant")


def losses_that_fall_and_jump(count, seed):
    noise = torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return [float(5 / (1 + 0.1 * place) + value) for place, value in enumerate(noise)]


@pytest.mark.parametrize("patience", [1, 2, 10])
def test_plateau_is_torchs(patience):
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = ReduceLROnPlateau(optimiser, mode="min", factor=0.5, patience=patience)
    plateau = ReduceOnPlateau.start(0.1, 0.5, patience)
    rates = set()
    for loss in [*losses_that_fall_and_jump(60, patience), float("nan"), 0.01, 0.0099999]:
        scheduler.step(loss)
        plateau.update(loss)
        assert plateau.rate() == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-12)
        rates.add(plateau.rate())
    assert len(rates) > 1


def test_plateau_of_negative_losses_needs_a_lower_one():
    plateau = ReduceOnPlateau.start(1.0, 0.5, 1)
    for loss in (-5.0, -4.9999, -4.9998):
        plateau.update(loss)
    assert plateau.rate() == 0.5


def test_a_training_follows_its_plateau(toys):
    run = PlainRun()
    replace(QUICK, schedule="plateau", plateau_patience=1, decay_rate=0.25, learning_rate=0.2).fit(toys.make_task(), run)
    plateau = ReduceOnPlateau.start(0.2, 0.25, 1)
    for point in run.curve:
        assert point["learning_rate"] == plateau.rate()
        plateau.update(point["loss"])
    assert run.curve[-1]["learning_rate"] < 0.2


def watch(toys, losses, patience, delta, keep_best=True):
    """Runs EarlyStopping on synthetic losses; returns the epoch at which it stops (or None) and the weight it restores."""
    model = torch.nn.Linear(1, 1)
    now = {"loss": 0.0}
    watcher = EarlyStopping.start(
        model, toys.make_task().val, lambda outputs, labels: torch.tensor(now["loss"]), patience, delta, keep_best
    )
    model.forward = lambda inputs: inputs.flatten(1)[:, :1]
    stopped = None
    for epoch, loss in enumerate(losses, 1):
        now["loss"] = loss
        with torch.no_grad():
            model.weight.fill_(epoch)
        stop, seen = watcher.evaluate()
        assert seen == pytest.approx(loss, nan_ok=True)
        if stop:
            stopped = epoch
            break
    watcher.restore()
    return stopped, model.weight.item()


NAN = float("nan")


@pytest.mark.parametrize(
    ("losses", "patience", "delta", "stopped", "best"),
    [
        ([3.0, 2.0, 2.1, 2.2, 2.3, 1.0], 3, 0.0, 5, 2),
        ([3.0, 2.0, 2.04, 2.1, 2.2, 1.0], 3, 0.05, None, 6),  # 2.04 lies within delta and is not counted
        ([3.0, 3.2, 3.2, 2.9, 3.2, 3.2, 3.2], 3, 0.0, 7, 4),  # below the lowest: the count starts anew
        ([3.0, 3.2, 3.0, 3.2, 3.0, 3.2], 3, 0.0, 6, 1),  # the lowest itself neither counts nor starts anew; the first of several is kept
        ([3.0, NAN, NAN], 2, 0.0, 3, 1),
        ([NAN, NAN], 2, 0.0, 2, 2),  # no epoch was ever finite: the last weights stay, so that divergence is seen
        ([3.0, 4.0, 5.0, 6.0, 7.0], None, 0.0, None, 1),
    ],
)
def test_stop_rule_and_best_checkpoint_rule(toys, losses, patience, delta, stopped, best):
    assert watch(toys, losses, patience, delta) == (stopped, best)


def test_without_a_best_checkpoint_the_last_weights_stay(toys):
    assert watch(toys, [1.0, 2.0, 3.0], 2, 0.0, keep_best=False) == (3, 3.0)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_the_validation_loss_is_the_plain_one_on_given_labels(toys, kind):
    task = toys.make_task(kind=kind)
    net = task.build(0)
    (batch,) = list(task.val.batches(20))
    loss_of = functional.cross_entropy if kind == "classification" else squared_error
    assert given_loss(net, task.val, loss_of) == pytest.approx(loss_of(net.eval()(batch.inputs), batch.labels).item(), rel=1e-6)


def test_a_training_stops_and_hands_out_its_best_epoch(toys):
    recipe = replace(QUICK, epochs=60, learning_rate=0.15, stop_patience=3, checkpoint="best")
    task = toys.make_task()
    run = toys.StoringRun()
    fitted = recipe.fit(task, run)
    losses = [point["val_loss"] for point in run.curve]
    assert len(losses) < 60
    best = losses.index(min(losses)) + 1
    assert best < len(losses)
    toys.assert_same_bits(toys.weights(replace(recipe, epochs=best).fit(task, PlainRun()).model), toys.weights(fitted.model))
    last = replace(recipe, checkpoint="last").fit(task, PlainRun()).model
    assert given_loss(last, task.val, functional.cross_entropy) == pytest.approx(losses[-1])
    assert given_loss(fitted.model, task.val, functional.cross_entropy) == pytest.approx(min(losses))
    again = toys.StoringRun(resume=run.stored)
    toys.assert_same_bits(toys.weights(fitted.model), toys.weights(recipe.fit(task, again).model))
    assert again.curve == []


def test_validation_passes_are_counted(toys):
    recipe = replace(QUICK, epochs=4, stop_patience=9, until_train_acc=1.0, check_every=2)
    run = PlainRun()
    recipe.fit(toys.make_task(), run)
    assert toys.passes(run) == (4 * 80 + 2 * 80 + 4 * 20, 4 * 80)
    forecast = recipe.forecast(Sizes(train=80, val=20))
    assert (forecast.forwards, forecast.backwards) == toys.passes(run)


def test_early_stopping_without_validation_samples_is_refused(toys):
    task = toys.make_task()
    empty = replace(task, val=task.val.subset(torch.arange(0)))
    for recipe in (replace(QUICK, stop_patience=3), replace(QUICK, checkpoint="best")):
        with pytest.raises(UserError, match="validation samples, but this task has none"):
            recipe.fit(empty, PlainRun())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stop_patience": 0}, "stop_patience=0 is too small"),
        ({"stop_patience": 3, "stop_delta": -0.1}, "stop_delta=-0.1 is too small"),
        ({"stop_delta": 0.1}, "stop_delta=0.1 has no effect without early stopping; set trainer.stop_patience"),
        ({"learning_rate": 0.0}, r"learning_rate=0 is out of range; it must lie in \(0, inf\)"),
        ({"learning_rate": float("nan")}, "learning_rate=nan is out of range"),
        ({"decay_rate": 1.5}, r"decay_rate=1.5 is out of range; it must lie in \(0, 1\]"),
        ({"momentum": 1.0}, r"momentum=1 is out of range; it must lie in \[0, 1\)"),
        ({"momentum": 0.0}, "nesterov=true requires momentum"),
        ({"weight_decay": -1.0}, "weight_decay=-1 is too small"),
        ({"until_train_acc": -0.5}, "until_train_acc=-0.5 is too small"),
    ],
)
def test_invalid_values_are_named(given, message):
    with pytest.raises(UserError, match=message):
        SGD(**given)

"""The epoch loop with methods of other kinds: two networks that teach each other, per-sample state, double backward."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional

from sap_core.api import Fitted, Stopped
from sap_core.models.ensemble import Ensemble
from sap_core.run import PlainRun
from sap_core.seeding import stream
from trainers import optim
from trainers.loop import EpochContext, EpochEnd, StepReport, Training, TrainingState, one_pass, train

EPOCHS = 4


def fit_two_networks(task, run):
    """Each network learns from the samples that the other finds easy; the fraction decreases with the epochs."""
    nets = {"first": task.build(0), "second": task.build(1)}
    optimisers = {name: optim.sgd(net.parameters(), 0.05, 0.9, 1e-4) for name, net in nets.items()}

    def batches(context):
        one = task.train.batches(16, context.rng.child("one"), views=("augmented",))
        other = task.train.batches(16, context.rng.child("other"), views=("augmented",))
        return zip(one, other, strict=True)

    def step(pair, context):
        keep = 1 - 0.1 * context.epoch
        total, kept = torch.zeros(()), []
        for batch, (name, net), teacher in zip(pair, nets.items(), reversed(nets.values()), strict=True):
            with torch.no_grad():
                losses = functional.cross_entropy(teacher(batch.inputs), batch.labels, reduction="none")
            chosen = losses.argsort()[: max(1, int(keep * len(losses)))]
            loss = functional.cross_entropy(net(batch.inputs[chosen]), batch.labels[chosen])
            optim.descend(loss, optimisers[name])
            total = total + loss.detach() * len(batch.labels)
            kept.append(batch.index[chosen])
            run.meter.count(forwards=len(batch.labels) + len(chosen), backwards=len(chosen))
        return StepReport(2 * len(pair[0].labels), {"loss": total}, torch.cat(kept).unique())

    ensemble = Ensemble(list(nets.values()))
    training = Training(ensemble, TrainingState(nets, optimisers), batches, step, lambda epoch: optim.cosine(0.05, epoch, EPOCHS))
    train(training, EPOCHS, stream(task.seed, "train"), run, task.device)
    return Fitted(ensemble)


def fit_per_sample_state(task, run):
    """Soft targets per sample, mixed per batch with random partners, a running threshold, and a second backward at a moved point."""
    net = task.build(0)
    optimiser = optim.sgd(net.parameters(), 0.05, 0.9, 1e-4, True)
    targets = torch.zeros(task.train.universe, task.num_outputs)
    targets[task.train.index] = functional.one_hot(task.train.labels, task.num_outputs).float()
    threshold = torch.zeros(())

    def batches(context):
        return task.train.batches(16, context.rng, views=("plain", "augmented"))

    def soft_loss(batch, partner, share):
        soft = share * targets[batch.index] + (1 - share) * targets[batch.index[partner]]
        plain, augmented = batch.views
        return -(soft * net(share * augmented + (1 - share) * plain[partner]).log_softmax(1)).sum(1)

    def step(batch, context):
        partner = context.rng.child("partner").permutation(len(batch.labels))
        share = torch.rand((), generator=context.rng.child("share").generator())
        losses = soft_loss(batch, partner, share)
        gradients = torch.autograd.grad(losses.mean(), list(net.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(net.parameters(), gradients, strict=True):
                parameter.add_(gradient, alpha=0.01)
        moved = soft_loss(batch, partner, share)
        optimiser.zero_grad()
        moved.mean().backward()
        with torch.no_grad():
            for parameter, gradient in zip(net.parameters(), gradients, strict=True):
                parameter.sub_(gradient, alpha=0.01)
            optimiser.step()
            threshold.mul_(0.5).add_(losses.median() * 0.5)
            targets[batch.index] = 0.9 * targets[batch.index] + 0.1 * net(batch.views[0]).softmax(1)
        return StepReport(len(batch.labels), {"loss": losses.detach().sum()}, batch.index[losses < threshold])

    parts = TrainingState({"net": net}, {"net": optimiser}, {"targets": targets, "threshold": threshold})
    train(Training(net, parts, batches, step, lambda epoch: 0.05), EPOCHS, stream(task.seed, "train"), run, task.device)
    return Fitted(net, {"targets": targets, "threshold": threshold})


METHODS = {"two networks": fit_two_networks, "per-sample state": fit_per_sample_state}


@pytest.mark.parametrize(("method", "net"), list(itertools.product(METHODS, ["batch_norm", "dropout"])))
def test_stopped_and_continued_gives_the_same_bits(toys, method, net):
    fit = METHODS[method]
    task = toys.make_task(net, augment="crop_flip")
    whole = fit(task, reference := toys.StoringRun())
    with pytest.raises(Stopped):
        fit(task, first := toys.StoringRun(stop_after=2))
    broken = toys.StoringRun(resume=first.stored)
    passes_per_epoch = 2 if method == "two networks" else 1
    with pytest.raises(ConnectionError):
        fit(toys.breaking(task, 2 * passes_per_epoch), broken)
    assert [point["epoch"] for point in broken.curve] == [3]
    last = toys.StoringRun(resume=broken.stored)
    continued = fit(task, last)
    toys.assert_same_bits(toys.weights(whole.model), toys.weights(continued.model))
    toys.assert_same_bits(dict(whole.per_sample), dict(continued.per_sample))
    assert first.curve + broken.curve + last.curve == reference.curve


def test_the_stand_ins_learn(toys):
    for fit in METHODS.values():
        run = PlainRun()
        fit(toys.make_task(), run)
        assert run.curve[-1]["loss"] < run.curve[0]["loss"]


def test_kept_samples_reach_the_curve(toys):
    run = toys.StoringRun()
    fit_two_networks(toys.make_task(), run)
    assert len(run.kept) == EPOCHS
    assert run.curve[0]["num_kept"] > run.curve[-1]["num_kept"] > 0


def test_means_are_per_sample_and_counts_add_up():
    context = EpochContext(1, stream(1, "train", 1))
    totals = one_pass([1, 3], lambda n, _: StepReport(n, {"loss": torch.tensor(2.0 * n)}), context, torch.device("cpu"))
    assert totals.samples == 4
    assert totals.means == {"loss": 2.0}
    assert totals.kept is None


def test_every_step_has_its_own_stream_and_global_draws_are_keyed_and_restored():
    seen, drawn = [], []

    def step(batch, context):
        seen.append(context.rng.number())
        drawn.append(float(torch.rand(())))
        return StepReport(1, {})

    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    for _ in range(2):
        one_pass(range(3), step, EpochContext(1, stream(1, "train", 1)), torch.device("cpu"))
    assert torch.equal(before, torch.random.get_rng_state())
    assert len(set(seen[:3])) == 3
    assert seen[:3] == seen[3:]
    assert drawn[:3] == drawn[3:]


def test_a_training_that_ended_early_is_not_continued(toys):
    task = toys.make_task()
    net = task.build(0)
    steps = []

    def training():
        return Training(
            net, TrainingState({"net": net}), lambda context: [context.epoch], lambda batch, _: steps.append(batch) or StepReport(1, {}),
            lambda epoch: 0.0, lambda context, totals: EpochEnd(stop=context.epoch == 2),
        )  # fmt: skip

    run = toys.StoringRun()
    train(training(), 10, stream(1, "train"), run, task.device)
    train(training(), 10, stream(1, "train"), toys.StoringRun(resume=run.stored), task.device)
    assert steps == [1, 2]


def test_ensemble_is_the_mean_of_the_logits(toys):
    nets = [toys.BatchNormNet(3).eval() for _ in range(3)]
    images = torch.randn(5, 1, 8, 8)
    expected = sum(net(images) for net in nets) / 3
    torch.testing.assert_close(Ensemble(nets)(images), expected)

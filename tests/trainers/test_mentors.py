"""MentorNet and MentorMix against their algorithms, written out sample by sample."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch.distributions import Beta
from torch.nn import functional

from sap_core.errors import UserError
from sap_core.run import PlainRun
from sap_core.seeding import stream
from trainers.mentormix import MentorMix
from trainers.mentornet import Mentor, MentorNet
from trainers.sgd import SGD

EPOCHS, RATE = 5, 0.05
RECIPE = SGD(epochs=EPOCHS, learning_rate=RATE, batch_size=16, schedule="constant")


def cross_entropies(logits, labels):
    return torch.stack([z.exp().sum().log() - z[y] for z, y in zip(logits, labels, strict=True)])


class PlainMentor:
    """The rule with Python's sorting and plain numbers."""

    def __init__(self, percentile, ema, burn_in):
        self.percentile, self.ema, self.burn_in, self.threshold = percentile, ema, burn_in, 0.0

    def judge(self, losses, epoch, rng):
        ranked = sorted(losses.tolist())
        quantile = ranked[min(int(len(ranked) * self.percentile), len(ranked) - 1)]
        self.threshold = self.ema * self.threshold + (1 - self.ema) * quantile
        if epoch - 1 < self.burn_in:
            return torch.rand(len(ranked), generator=rng.generator()) < 0.5
        return torch.tensor([loss < self.threshold for loss in losses.tolist()])


def scoring_losses(net, batch):
    """On a copy, so that running statistics do not change."""
    return cross_entropies(copy.deepcopy(net)(batch.inputs), batch.labels).detach()


def plain_mentornet(mentor, kept):
    def gradients_of(net, batch, epoch, rng):
        trusted = mentor.judge(scoring_losses(net, batch), epoch, rng.child("burn_in"))
        kept.setdefault(epoch, []).extend(batch.index[trusted].tolist())
        losses = cross_entropies(net(batch.inputs), batch.labels)
        chosen = sum((loss for loss, v in zip(losses, trusted, strict=True) if v), 0 * losses[0])  # nothing may be trusted
        return torch.autograd.grad(chosen / len(losses), list(net.parameters()))

    return gradients_of


@pytest.mark.parametrize("net", ["batch_norm", "dropout"])
@pytest.mark.parametrize(("percentile", "ema", "burn_in"), [(0.7, 0.05, 10), (0.5, 0.9, 0), (1.0, 0.0, 1)])
def test_mentornet_equals_the_plain_loop(toys, plain, net, percentile, ema, burn_in):
    task = toys.make_task(net, augment="crop_flip")
    run = toys.StoringRun()
    fitted = MentorNet(percentile, ema, burn_in, recipe=RECIPE).fit(task, run)
    kept = {}
    mentor = PlainMentor(percentile, ema, min(burn_in, 0.2 * EPOCHS))
    expected = plain.training(task, EPOCHS, RATE, plain_mentornet(mentor, kept))
    toys.assert_close(toys.weights(fitted.model), toys.weights(expected), rtol=1e-3, atol=2e-5)
    assert [sorted(indices.tolist()) for indices in run.kept] == [sorted(kept[epoch]) for epoch in range(1, EPOCHS + 1)]
    assert float(run.stored["state"]["tables"]["threshold"]) == pytest.approx(mentor.threshold, rel=1e-4)


def plain_mentormix(first, second, alpha, batches_kept):
    def gradients_of(net, batch, epoch, rng):
        count = len(batch.labels)
        trusted = first.judge(scoring_losses(net, batch), epoch, rng.child("burn_in"))
        batches_kept.setdefault(epoch, []).extend(batch.index[trusted].tolist())
        weights = [torch.e if v else 1.0 for v in trusted]
        drawn = torch.rand(count, generator=rng.child("partner").generator(), dtype=torch.float64)
        partners = [next(j for j in range(count) if sum(weights[: j + 1]) / sum(weights) > u) for u in drawn.tolist()]
        with rng.child("share").scope():
            shares = Beta(torch.full((count,), alpha).double(), torch.full((count,), alpha).double()).sample().float()
        inputs, losses, own = [], [], []
        for i, j in enumerate(partners):
            larger = max(shares[i], 1 - shares[i])
            own.append(larger if trusted[i] else 1 - larger)
            inputs.append(own[i] * batch.inputs[i] + (1 - own[i]) * batch.inputs[j])
        logits = net(torch.stack(inputs))
        to_own, to_partner = cross_entropies(logits, batch.labels), cross_entropies(logits, batch.labels[partners])
        losses = torch.stack([own[i] * to_own[i] + (1 - own[i]) * to_partner[i] for i in range(count)])
        if second is not None:
            losses = losses * second.judge(losses.detach(), epoch, rng.child("burn_in_second"))
        return torch.autograd.grad(losses.sum() / count, list(net.parameters()))

    return gradients_of


@pytest.mark.parametrize("net", ["batch_norm", "dropout"])
@pytest.mark.parametrize("second", [True, False])
def test_mentormix_equals_the_plain_loop(toys, plain, net, second):
    task = toys.make_task(net, augment="flip")
    run = toys.StoringRun()
    fitted = MentorMix(0.7, 0.4, 0.1, 10, second, recipe=RECIPE).fit(task, run)
    mentors = [PlainMentor(0.7, 0.1, 0.2 * EPOCHS) for _ in range(2)]
    kept = {}
    gradients_of = plain_mentormix(mentors[0], mentors[1] if second else None, 0.4, kept)
    expected = plain.training(task, EPOCHS, RATE, gradients_of)
    toys.assert_close(toys.weights(fitted.model), toys.weights(expected), rtol=1e-3, atol=2e-5)
    assert [sorted(indices.tolist()) for indices in run.kept] == [sorted(kept[epoch]) for epoch in range(1, EPOCHS + 1)]
    stored = run.stored["state"]["tables"]["thresholds"].tolist()
    assert stored == pytest.approx([mentor.threshold for mentor in mentors], rel=1e-4)


def test_one_pass_has_the_same_numbers_without_dropout(toys):
    task = toys.make_task("batch_norm")
    one, two = (MentorNet(burn_in=0, one_pass=one_pass, recipe=RECIPE).fit(task, PlainRun()) for one_pass in (True, False))
    toys.assert_same_bits(toys.weights(one.model), toys.weights(two.model))


def test_the_scoring_pass_keeps_running_statistics(toys):
    for trainer in (MentorNet(recipe=RECIPE), MentorMix(recipe=RECIPE)):
        model = trainer.fit(toys.make_task("batch_norm"), PlainRun()).model
        assert int(model.norm.num_batches_tracked) == EPOCHS * 5


def test_wrong_labels_are_trusted_less_after_burn_in(toys):
    run = toys.StoringRun()
    MentorNet(percentile=0.7, recipe=replace(RECIPE, epochs=20)).fit(toys.make_task(), run)
    wrong = [float((kept % 4 == 0).double().mean()) for kept in run.kept]
    assert sum(wrong[4:8]) / 4 < 0.15  # 0.25 of all samples


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_batch_in_which_nothing_is_trusted_moves_nothing_but_momentum_and_decay(epoch):
    threshold = torch.tensor(0.0)
    trusted = Mentor(1.0, 0.0, 0).judge(torch.ones(6), threshold, epoch, stream(1, "train"))
    assert not trusted.any(), "no loss lies below the largest"
    z = torch.zeros(6, requires_grad=True)
    (trusted * functional.softplus(z)).mean().backward()
    assert torch.equal(z.grad, torch.zeros(6))


@pytest.mark.parametrize("trainer", [MentorNet, MentorMix])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"percentile": 0.0}, r"percentile=0 is out of range; it must lie in \(0, 1\]"),
        ({"percentile": 1.1}, "percentile=1.1 is out of range"),
        ({"ema": 1.0}, r"ema=1 is out of range; it must lie in \[0, 1\)"),
        ({"burn_in": -1}, "burn_in=-1 is too small"),
    ],
)
def test_values_out_of_range_are_named(trainer, given, message):
    with pytest.raises(UserError, match=message):
        trainer(**given)


def test_mentormix_needs_a_law_of_shares():
    with pytest.raises(UserError, match="alpha=0 is out of range"):
        MentorMix(alpha=0.0)

"""Trainers defined by a loss per sample: each loss against its formula, and each training against a plain loop."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from sap_core.errors import UserError
from sap_core.run import PlainRun
from trainers.bootstrapping import Bootstrapping
from trainers.elr import ELR
from trainers.gce import GCE
from trainers.gls import GLS
from trainers.logit_clip import LogitClip
from trainers.mae import MAE
from trainers.sce import SCE
from trainers.sgd import SGD

EPOCHS, RATE = 3, 0.05
RECIPE = SGD(epochs=EPOCHS, learning_rate=RATE, batch_size=16, schedule="constant")


def per_row(of_row):
    """(logits, labels) -> (B,) from a formula for one sample's probabilities p and label y."""

    def losses(logits, labels):
        probabilities = logits.exp() / logits.exp().sum(1, keepdim=True)
        return torch.stack([of_row(p, int(y)) for p, y in zip(probabilities, labels, strict=True)])

    return losses


def clipped(tau, power, length):
    """Cross-entropy of logits that are shortened to `length` where they are longer than tau."""

    def losses(logits, labels):
        found = []
        for z, y in zip(logits, labels, strict=True):
            norm = (z.abs() ** power).sum() ** (1 / power)
            z = z * length / norm if norm.item() > tau else z
            found.append(z.exp().sum().log() - z[y])
        return torch.stack(found)

    return losses


def gls(rate):
    return per_row(lambda p, y: -(1 - rate) * p[y].log() - rate * p.log().sum() / len(p))


def sce(alpha, beta, log_zero):
    def of_row(p, y):
        reverse = sum((-p[c] * log_zero for c in range(len(p)) if c != y), torch.zeros(()))
        return -alpha * p[y].log() + beta * reverse

    return per_row(of_row)


CASES = {
    "gls negative": (GLS(rate=-0.4, recipe=RECIPE), gls(-0.4)),
    "gls positive": (GLS(rate=0.3, recipe=RECIPE), gls(0.3)),
    "logit_clip": (LogitClip(tau=0.6, recipe=RECIPE), clipped(0.6, 2, 0.6)),
    "logit_clip p=3": (LogitClip(tau=0.6, p=3.0, recipe=RECIPE), clipped(0.6, 3, 0.6)),
    "logit_clip released": (LogitClip(tau=0.6, form="released", recipe=RECIPE), clipped(0.6, 2, 1 / 0.6)),
    "sce": (SCE(alpha=0.3, beta=0.7, log_zero=-5.0, recipe=RECIPE), sce(0.3, 0.7, -5.0)),
    "mae": (MAE(recipe=RECIPE), per_row(lambda p, y: sum(abs(p[c] - float(c == y)) for c in range(len(p))))),
    "bootstrapping": (Bootstrapping(weight=0.7, recipe=RECIPE), per_row(lambda p, y: -0.7 * p[y].log() - 0.3 * p.max().log())),
    "gce": (GCE(q=0.6, recipe=RECIPE), per_row(lambda p, y: (1 - p[y] ** 0.6) / 0.6)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("net", ["batch_norm", "dropout"])
def test_equals_the_plain_loop(toys, plain, case, net):
    trainer, losses = CASES[case]
    task = toys.make_task(net, augment="crop_flip")
    fitted = trainer.fit(task, PlainRun())
    expected = plain.training(task, EPOCHS, RATE, plain.of_losses(lambda logits, batch, epoch: losses(logits, batch.labels)))
    toys.assert_close(toys.weights(fitted.model), toys.weights(expected), rtol=1e-3, atol=2e-5)


def test_gls_warms_up_with_plain_cross_entropy(toys, plain):
    task = toys.make_task()
    fitted = GLS(rate=-0.4, warmup_epochs=2, recipe=RECIPE).fit(task, PlainRun())

    def losses(logits, batch, epoch):
        return gls(0.0 if epoch <= 2 else -0.4)(logits, batch.labels)

    toys.assert_close(toys.weights(fitted.model), toys.weights(plain.training(task, EPOCHS, RATE, plain.of_losses(losses))), 1e-3, 2e-5)
    all_plain = GLS(rate=-0.4, warmup_epochs=3, recipe=RECIPE).fit(task, PlainRun()).model
    toys.assert_close(toys.weights(all_plain), toys.weights(RECIPE.fit(task, PlainRun()).model), 1e-3, 2e-5)


def some_logits(scale=1.0):
    generator = torch.Generator().manual_seed(3)
    return scale * torch.randn(32, 5, generator=generator), torch.randint(0, 5, (32,), generator=generator)


class Labelled:
    """The fields of a mini-batch that a loss reads."""

    def __init__(self, labels):
        self.labels = labels


class AtEpoch:
    """The fields of a context that a loss reads."""

    epoch = 1


def losses_of(trainer, logits, labels):
    return trainer.losses(logits, Labelled(labels), AtEpoch())


def test_a_rate_from_zero_to_one_is_torchs_label_smoothing():
    logits, labels = some_logits()
    for rate in (0.0, 0.1, 0.9):
        expected = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=rate)
        torch.testing.assert_close(losses_of(GLS(rate=rate), logits, labels), expected)


def test_clipped_logits_keep_their_direction_and_their_norm_is_bounded():
    logits, _ = some_logits(scale=3.0)
    logits[0] = 0.0
    logits[1] *= 1e-3
    for tau in (0.5, 1.5):
        clipped_logits = LogitClip(tau=tau).clip(logits)
        norms = clipped_logits.norm(dim=1)
        assert float(norms.max()) <= tau * (1 + 1e-6)
        torch.testing.assert_close(clipped_logits[2:].argmax(1), logits[2:].argmax(1))
        assert torch.equal(clipped_logits[:2], logits[:2])
        assert float(norms[2:].min()) == pytest.approx(tau, rel=1e-5)
    long = torch.tensor([[9.0, 0.0, 0.0, 0.0, 0.0]])
    assert float(LogitClip(tau=2.0, form="released").clip(long).norm()) == pytest.approx(0.5)


def test_clipping_gives_the_loss_the_floor_that_the_class_states():
    floor = math.log(1 + 4 * math.exp(-1.5 * math.sqrt(5 / 4)))
    best = torch.full((1, 5), -1.0)
    best[0, 2] = 4.0
    loss = losses_of(LogitClip(tau=1.5), 100 * best, torch.tensor([2]))
    assert float(loss) == pytest.approx(floor, rel=1e-5)


def test_gce_lies_between_cross_entropy_and_absolute_error():
    logits, labels = some_logits()
    torch.testing.assert_close(losses_of(GCE(q=1.0), logits, labels), losses_of(MAE(), logits, labels) / 2)
    near = losses_of(GCE(q=1e-3), logits, labels)
    torch.testing.assert_close(near, functional.cross_entropy(logits, labels, reduction="none"), rtol=5e-3, atol=1e-3)


def test_losses_have_finite_gradients_where_the_given_class_has_no_probability_left():
    for trainer in (GCE(), MAE(), SCE(), GLS(), LogitClip()):
        logits = torch.tensor([[200.0, 0.0, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
        loss = losses_of(trainer, logits, torch.tensor([1, 1])).mean()
        loss.backward()
        assert math.isfinite(loss.item()), trainer
        assert logits.grad.isfinite().all(), trainer


@pytest.mark.parametrize("net", ["batch_norm", "dropout"])
def test_elr_equals_the_plain_loop_and_hands_out_its_targets(toys, plain, net):
    task = toys.make_task(net, augment="flip")
    fitted = ELR(beta=0.6, strength=2.0, recipe=RECIPE).fit(task, PlainRun())
    targets = {position: torch.zeros(4) for position in range(80)}

    def losses(logits, batch, epoch):
        found = []
        for z, y, position in zip(logits, batch.labels, batch.index.tolist(), strict=True):
            p = (z.exp() / z.exp().sum()).clamp(1e-4, 1 - 1e-4)
            predicted = p.detach() / p.detach().sum()
            targets[position] = 0.6 * targets[position] + 0.4 * predicted
            found.append(-(z - z.exp().sum().log())[y] + 2.0 * torch.log(1 - (targets[position] * p).sum()))
        return torch.stack(found)

    expected = plain.training(task, EPOCHS, RATE, plain.of_losses(losses))
    toys.assert_close(toys.weights(fitted.model), toys.weights(expected), rtol=1e-3, atol=2e-5)
    torch.testing.assert_close(fitted.per_sample["targets"], torch.stack(list(targets.values())), rtol=1e-3, atol=1e-5)


def test_elr_knows_samples_by_their_place_in_the_universe(toys):
    from dataclasses import replace

    task = toys.make_task()
    part = replace(task, train=task.train.subset(torch.arange(40, 80)))
    targets = ELR(recipe=RECIPE).fit(part, PlainRun()).per_sample["targets"]
    assert targets.shape == (80, 4)
    assert torch.equal(targets[:40], torch.zeros(40, 4))
    torch.testing.assert_close(targets[40:].sum(1), torch.full((40,), 1 - 0.7**EPOCHS))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GLS(rate=1.0), r"trainer.rate=1 is out of range; it must lie in \(-inf, 1\)"),
        (lambda: GLS(warmup_epochs=-1), "warmup_epochs=-1 is too small"),
        (lambda: LogitClip(tau=0.0), "tau=0 is out of range"),
        (lambda: LogitClip(p=0.5), r"p=0.5 is out of range; it must lie in \[1, inf\)"),
        (lambda: SCE(alpha=-0.1), "alpha=-0.1 is out of range"),
        (lambda: SCE(log_zero=0.0), r"log_zero=0 is out of range; it must lie in \(-inf, 0\)"),
        (lambda: GCE(q=0.0), r"q=0 is out of range; it must lie in \(0, 1\]"),
        (lambda: ELR(beta=1.0), r"beta=1 is out of range; it must lie in \[0, 1\)"),
        (lambda: ELR(strength=-1.0), "strength=-1 is out of range"),
    ],
)
def test_values_out_of_range_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()

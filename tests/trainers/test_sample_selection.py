"""PRL, co-teaching and self-paced learning against the published update, written out sample by sample with plain sorting."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch.distributions import Beta

from sap_core.errors import UserError
from sap_core.run import PlainRun
from sap_core.seeding import stream
from trainers.co_prl_g import CoPRL_G
from trainers.co_prl_l import CoPRL_L
from trainers.coteaching import CoTeaching
from trainers.learner import Learner
from trainers.losses import losses_for
from trainers.prl_g import PRL_G
from trainers.prl_l import PRL_L, loss_gradient
from trainers.sample_selection import BatchSelection
from trainers.self_paced import SelfPaced
from trainers.sgd import SGD

EPOCHS, RATE = 4, 0.05
SEED = 1  # with the toys' usual one an activation lies so near 0 that rounding decides whether ReLU lets it through
RECIPE = SGD(epochs=EPOCHS, learning_rate=RATE, batch_size=16, schedule="constant")
KEEP = BatchSelection(rate=0.4, ramp=3)
SHARES = [0.0, 0.2, 0.4, 0.4]  # left out in epochs 1 to 4


def loss_of(output, label, kind):
    if kind == "regression":
        return (output[0] - label) ** 2
    return output.exp().sum().log() - output[label]


def small_loss(net, output, label, kind, x):
    return float(loss_of(output, label, kind))


def loss_layer(net, output, label, kind, x):
    """The gradient at the outputs, by autograd."""
    leaf = output.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss_of(leaf, label, kind), leaf)
    return float((gradient**2).sum())


def all_weights(net, output, label, kind, x):
    """One backward pass for one sample."""
    gradients = torch.autograd.grad(loss_of(net(x[None])[0], label, kind), list(net.parameters()))
    return sum(float((g**2).sum()) for g in gradients)


def plain(task, networks, score, reforward, mixup=0.0, kept_of=None):
    """The published loop: rank, keep, exchange where there are two networks, step. Nesterov's SGD by hand."""
    nets = [task.build(k).train() for k in range(networks)]
    velocities = [[torch.zeros_like(p) for p in net.parameters()] for net in nets]
    for epoch in range(1, EPOCHS + 1):
        rng = stream(task.seed, "train", epoch)
        for number, batch in enumerate(task.train.batches(16, rng, views=("augmented",))):
            picks = []
            for net in nets:
                outputs = (copy.deepcopy(net) if reforward else net)(batch.inputs)  # the scoring pass leaves no trace in running statistics
                scores = [score(net, o, y, task.kind, x) for o, y, x in zip(outputs.detach(), batch.labels, batch.inputs, strict=True)]
                count = int(round((1 - SHARES[epoch - 1]) * 16, 6))
                picks.append((sorted(sorted(range(16), key=lambda i: scores[i])[:count]), outputs))
            if networks == 2:
                picks = [(picks[1][0], picks[0][1]), (picks[0][0], picks[1][1])]
            if kept_of is not None:
                kept_of.setdefault(epoch, []).extend(batch.index[picks[0][0]].tolist())
            for which, (net, velocity, (pick, outputs)) in enumerate(zip(nets, velocities, picks, strict=True)):
                x, y = batch.inputs[pick], batch.labels[pick]
                if mixup:
                    with rng.child("step", number).child("share", which).scope():
                        law = torch.full((1,), mixup).double()
                        lam = float(Beta(law, law).sample())
                    before = [i - 1 for i in range(len(pick))]
                    outputs = net(torch.stack([lam * x[i] + (1 - lam) * x[j] for i, j in enumerate(before)]))
                    losses = [
                        lam * loss_of(o, y[i], task.kind) + (1 - lam) * loss_of(o, y[i - 1], task.kind) for i, o in enumerate(outputs)
                    ]
                else:
                    outputs = net(x) if reforward else outputs[pick]
                    losses = [loss_of(o, label, task.kind) for o, label in zip(outputs, y, strict=True)]
                gradients = torch.autograd.grad(sum(losses) / len(losses), list(net.parameters()))
                with torch.no_grad():
                    for place, (p, g) in enumerate(zip(net.parameters(), gradients, strict=True)):
                        g = g + 5e-4 * p
                        velocity[place] = 0.9 * velocity[place] + g
                        p -= RATE * (g + 0.9 * velocity[place])
    return nets


CASES = {
    "prl_l": (PRL_L, 1, loss_layer, "batch_norm"),
    "co_prl_l": (CoPRL_L, 2, loss_layer, "batch_norm"),
    "prl_g": (PRL_G, 1, all_weights, "group_norm"),
    "co_prl_g": (CoPRL_G, 2, all_weights, "group_norm"),
    "coteaching": (CoTeaching, 2, small_loss, "batch_norm"),
    "self_paced": (SelfPaced, 1, small_loss, "batch_norm"),
}


@pytest.mark.parametrize("reforward", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_equals_the_published_update(toys, name, reforward):
    trainer, networks, score, net = CASES[name]
    task = toys.make_task(net, augment="crop_flip", seed=SEED)
    run = toys.StoringRun()
    fitted = trainer(replace(KEEP, reforward=reforward), RECIPE).fit(task, run)
    kept = {}
    nets = plain(task, networks, score, reforward, kept_of=kept)
    assert [sorted(indices.tolist()) for indices in run.kept] == [sorted(kept[epoch]) for epoch in range(1, EPOCHS + 1)]
    assert [len(indices) for indices in run.kept] == [80, 5 * 12, 5 * 9, 5 * 9]
    toys.assert_close(toys.weights(fitted.model), toys.weights(nets[0]), rtol=1e-4, atol=1e-5)
    stored = run.stored["state"]["models"]
    assert list(stored) == ["net", "net1"][:networks]
    for which, net in enumerate(nets):
        toys.assert_close(stored["net1" if which else "net"], toys.weights(net), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["prl_l", "co_prl_g"])
def test_numbers_equal_the_published_update_too(toys, name):
    trainer, networks, score, net = CASES[name]
    task = toys.make_task(net, kind="regression")
    fitted = trainer(KEEP, RECIPE).fit(task, PlainRun())
    expected = plain(task, networks, score, True)[0]
    toys.assert_close(toys.weights(fitted.model), toys.weights(expected), rtol=1e-4, atol=1e-5)


def test_mixup_is_among_the_kept_samples(toys):
    task = toys.make_task("batch_norm", augment="flip")
    fitted = CoPRL_L(replace(KEEP, mixup=0.4), RECIPE).fit(task, PlainRun())
    expected = plain(task, 2, loss_layer, True, mixup=0.4)[0]
    toys.assert_close(toys.weights(fitted.model), toys.weights(expected), rtol=1e-4, atol=1e-5)


def test_the_ramp_by_hand():
    keep = BatchSelection(rate=0.4, factor=1.5, ramp=4)
    assert [keep.drop_rate(epoch) for epoch in range(1, 7)] == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.6, 0.6])
    assert [BatchSelection(rate=0.4, ramp=ramp).drop_rate(1) for ramp in (0, 1)] == [0.4, 0.0]
    assert BatchSelection(rate=0.4, ramp=3, exponent=2.0).drop_rate(2) == pytest.approx(0.1)
    assert [BatchSelection(rate=0.45, ramp=0).num_kept(batch, 1) for batch in (128, 16, 3, 2)] == [70, 8, 2, 2]
    assert BatchSelection(rate=0.8, ramp=0).num_kept(20, 1) == 4  # (1 - 0.8) * 20 is 3.9999999999999996


def test_ranking_by_gradient_is_not_ranking_by_loss_but_for_two_classes(toys):
    learner = Learner(None, None, None, True, None, losses_for("classification"))
    labels = torch.zeros(2, dtype=torch.int64)
    logits = torch.log(torch.tensor([[0.3, 0.7, 1e-6], [0.29, 0.355, 0.355]]))  # concentrated on a wrong class, and spread
    gradients, losses = loss_gradient(learner, logits, labels), learner.loss_per_sample(logits, labels)
    assert losses[0] < losses[1]
    assert gradients[0] > gradients[1]
    pairs = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(50) % 2
    assert torch.equal(loss_gradient(learner, pairs, labels).argsort(), learner.loss_per_sample(pairs, labels).argsort())


def test_wrong_labels_are_left_out(toys):
    run = toys.StoringRun()
    PRL_L(BatchSelection(rate=0.3, ramp=5), replace(RECIPE, epochs=20)).fit(toys.make_task(), run)
    wrong = [float((kept % 4 == 0).double().mean()) for kept in run.kept]
    assert wrong[0] == 0.25  # of all samples
    assert sum(wrong[-5:]) / 5 < 0.08


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rate": 1.0}, r"rate=1 is out of range; it must lie in \[0, 1\)"),
        ({"rate": 0.6, "factor": 1.7}, r"rate=0\.6 times trainer\.factor=1\.7 leaves out every sample"),
        ({"factor": 0.0}, r"factor=0 is out of range"),
        ({"ramp": -1}, "ramp=-1 is too small"),
        ({"mixup": 0.2, "reforward": False}, r"set trainer\.reforward=true or mixup=0"),
    ],
)
def test_invalid_values_are_named(given, message):
    with pytest.raises(UserError, match=message):
        BatchSelection(**given)

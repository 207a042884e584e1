"""SOP, SOP+, ELR+ and DivideMix against plain loops over their published updates, sample by sample where that is fast enough."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch
from sklearn.mixture import GaussianMixture

from sap_core.api import Sizes
from sap_core.errors import UserError
from sap_core.models.ensemble import Ensemble
from sap_core.run import PlainRun
from sap_core.seeding import stream
from trainers import random_draws
from trainers.dividemix import DivideMix, low_component, scaled, sharpened
from trainers.elr_plus import ELRPlus
from trainers.sgd import SGD
from trainers.sop import SOP

EPOCHS, RATE, SIZE, C = 3, 0.05, 16, 4
RECIPE = SGD(epochs=EPOCHS, learning_rate=RATE, batch_size=SIZE, schedule="constant")


class Nesterov:
    """v <- 0.9 v + g, w <- w - rate (g + 0.9 v), g with weight decay 5e-4."""

    def __init__(self, net):
        self.net, self.velocity = net, [torch.zeros_like(p) for p in net.parameters()]

    def descend(self, loss):
        gradients = torch.autograd.grad(loss, list(self.net.parameters()))
        with torch.no_grad():
            for place, (p, g) in enumerate(zip(self.net.parameters(), gradients, strict=True)):
                g = g + 5e-4 * p
                self.velocity[place] = 0.9 * self.velocity[place] + g
                p -= RATE * (g + 0.9 * self.velocity[place])


def probabilities(logits):
    return logits.exp() / logits.exp().sum(-1, keepdim=True)


def frozen_norms(net, inputs):
    """Outputs in train mode that leave the running statistics as they were."""
    before = deepcopy(net.state_dict())
    outputs = net(inputs)
    net.load_state_dict(before)
    return outputs


@pytest.mark.parametrize("net", ["batch_norm", "dropout"])
@pytest.mark.parametrize(("consistency", "balance", "second"), [(0.0, 0.0, "strong"), (0.9, 0.1, "strong"), (0.9, 0.1, "augmented")])
def test_sop_equals_the_plain_loop(toys, net, consistency, balance, second):
    task = toys.make_task(net, augment="crop_flip")
    trainer = SOP(rate_u=3.0, rate_v=20.0, consistency=consistency, balance=balance, second_view=second, recipe=RECIPE)
    fitted = trainer.fit(task, PlainRun())
    u, v = (
        1e-8 * torch.randn(shape, generator=stream(task.seed, "init", "sop", name).generator())
        for name, shape in (("u", (80, 1)), ("v", (80, C)))
    )
    u, v = [row.clone() for row in u], [row.clone() for row in v]
    model = task.build(0).train()
    optimiser = Nesterov(model)
    views = ("augmented", second) if consistency else ("augmented",)
    for epoch in range(1, EPOCHS + 1):
        rng = stream(task.seed, "train", epoch)
        with rng.child("layers").scope():
            for batch in task.train.batches(SIZE, rng, views):
                rows = batch.index.tolist()
                logits = model(torch.cat(batch.views))
                size = len(rows)
                leaves_u, leaves_v = ([table[i].clone().requires_grad_() for i in rows] for table in (u, v))
                entropy, squares, qs, divergence = [], [], [], []
                for b in range(size):
                    y = torch.eye(C)[batch.labels[b]]
                    p = probabilities(logits[b])
                    given = (leaves_u[b] ** 2 * y).clamp(0, 1)
                    other = (leaves_v[b] ** 2 * (1 - y)).clamp(0, 1)
                    q = (p + given - other.detach()).clamp(min=1e-4)
                    q = (q / q.abs().sum()).clamp(1e-4, 1)
                    qs.append(q)
                    entropy.append(-q[batch.labels[b]].log())
                    squares.append(((torch.eye(C)[p.argmax()] + given - other - y) ** 2).sum())
                    if consistency:
                        second = probabilities(logits[size + b])
                        divergence.append((p.detach() * (p.detach() / second).log()).sum())
                loss = sum(entropy) / size + sum(squares) / size
                if consistency:
                    mean = sum(qs) / size
                    loss = loss - balance * sum(mean[c].log() for c in range(C)) / C + consistency * sum(divergence) / size
                steps = torch.autograd.grad(loss, [*leaves_u, *leaves_v], retain_graph=True)
                optimiser.descend(loss)
                for b, i in enumerate(rows):
                    u[i], v[i] = u[i] - 3.0 * steps[b], v[i] - 20.0 * steps[size + b]
    toys.assert_close(toys.weights(fitted.model), toys.weights(model), rtol=1e-3, atol=5e-5)
    for name, table in (("u", u), ("v", v)):
        torch.testing.assert_close(fitted.per_sample[name], torch.stack(table), rtol=5e-3, atol=1e-9)
        assert float(fitted.per_sample[name].abs().max()) > 1e-7, "it has grown"


def test_two_views_are_two_draws_and_one_is_as_ever(toys):
    task = toys.make_task(augment="crop_flip")
    alone = list(task.train.batches(16, stream(1, "train"), ("augmented",)))
    pairs = list(task.train.batches(16, stream(1, "train"), ("augmented", "plain", "augmented")))
    for one, many in zip(alone, pairs, strict=True):
        assert torch.equal(one.inputs, many.views[0])
        assert not torch.equal(many.views[0], many.views[2])
        (plain,) = (view for view in many.views[1:2])
        expected = next(task.train.subset(many.index).batches(80))
        assert torch.equal(plain, expected.inputs)


@pytest.mark.parametrize("net", ["batch_norm", "dropout"])
@pytest.mark.parametrize(("sharpen", "averaging"), [(False, "ramp"), (True, "mean")])
def test_elr_plus_equals_the_plain_loop(toys, net, sharpen, averaging):
    task = toys.make_task(net, augment="flip")
    options = {"beta": 0.6, "strength": 2.0, "decay": 0.9, "decay_steps": 8, "ramp_steps": 10, "sharpen": sharpen, "averaging": averaging}
    fitted = ELRPlus(recipe=RECIPE, **options).fit(task, PlainRun())
    nets = [task.build(k).train() for k in range(2)]
    averages = [deepcopy(net) for net in nets]
    optimisers = [Nesterov(net) for net in nets]
    targets = torch.zeros(2, 80, C)
    steps = 0
    for epoch in range(1, EPOCHS + 1):
        rng = stream(task.seed, "train", epoch)
        with rng.child("layers").scope():
            for number, batch in enumerate(task.train.batches(SIZE, rng, ("augmented",))):
                steps += 1
                for k in range(2):
                    here = rng.child("step", number).child(k)
                    with torch.no_grad():
                        predicted = probabilities(averages[1 - k](batch.inputs))
                    for b, i in enumerate(batch.index.tolist()):
                        targets[k, i] = 0.6 * targets[k, i] + 0.4 * predicted[b]
                    share = float(random_draws.beta(here.child("mix"), 1.0, 1))
                    share = max(share, 1 - share)
                    partner = here.child("partner").permutation(len(batch.labels))
                    inputs = share * batch.inputs + (1 - share) * batch.inputs[partner]
                    logits = nets[k](inputs)
                    losses = []
                    for b, j in enumerate(partner.tolist()):
                        y = share * torch.eye(C)[batch.labels[b]] + (1 - share) * torch.eye(C)[batch.labels[j]]
                        q = share * targets[k, batch.index[b]] + (1 - share) * targets[k, batch.index[j]]
                        if sharpen:
                            y = y * q / (y * q).sum()
                        p = probabilities(logits[b])
                        ramp = math.exp(-5 * (1 - min(steps, 10) / 10) ** 2)
                        losses.append(-(y * p.log()).sum() + ramp * 2.0 * (1 - (q * p.clamp(1e-4, 1 - 1e-4)).sum()).log())
                    optimisers[k].descend(sum(losses) / len(losses))
                    a = 0.9 * math.exp(-5 * (1 - min(steps + 1, 8) / 8) ** 2) if averaging == "ramp" else min(1 - 1 / (steps + 1), 0.9)
                    with torch.no_grad():
                        for average, weight in zip(averages[k].parameters(), nets[k].parameters(), strict=True):
                            average.copy_(a * average + (1 - a) * weight)
    assert isinstance(fitted.model, Ensemble)
    toys.assert_close(toys.weights(fitted.model), toys.weights(Ensemble(nets)), rtol=1e-3, atol=5e-5)
    for k in range(2):
        torch.testing.assert_close(fitted.per_sample[f"targets{k}"], targets[k], rtol=1e-3, atol=1e-5)


def plain_dividemix(task, net_count, warmup, alpha, lambda_u, penalty, remember, ramp_epochs):
    """DivideMix, with draws from the same streams as the trainer's."""
    nets = [task.build(k).train() for k in range(2)]
    optimisers = [Nesterov(net) for net in nets]
    history = []
    trust = None
    for epoch in range(1, EPOCHS + 1):
        rng = stream(task.seed, "train", epoch)
        number = 0
        with rng.child("layers").scope():
            if epoch <= warmup:
                for batch in task.train.batches(SIZE, rng, ("augmented",)):
                    for net, optimiser in zip(nets, optimisers, strict=True):
                        p = probabilities(net(batch.inputs))
                        loss = -p[torch.arange(len(p)), batch.labels].log().mean()
                        optimiser.descend(loss + (p * p.log()).sum(1).mean() * penalty)
                continue
            losses = torch.zeros(2, 80, dtype=torch.float64)
            (whole,) = task.train.batches(80)
            for k, net in enumerate(nets):
                net.eval()
                with torch.no_grad():
                    p = probabilities(net(whole.inputs).double())
                net.train()
                losses[k] = -p[torch.arange(80), whole.labels].log()
                losses[k] = (losses[k] - losses[k].min()) / (losses[k].max() - losses[k].min())
            history = [losses, *history][:remember]
            trust = torch.zeros(2, 80, dtype=torch.float64)
            for k in range(2):
                scored = sum(past[k] for past in history) / len(history)
                scored = scored.reshape(-1, 1).numpy()
                seed = rng.child("mixture", k).number() % 2**32
                mixture = GaussianMixture(n_components=2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=seed).fit(scored)
                trust[k] = torch.from_numpy(mixture.predict_proba(scored)[:, mixture.means_.argmin()])
            for k in range(2):
                w = trust[1 - k]
                mine = rng.child("network", k)
                labelled, rest = task.train.subset((w > 0.5).nonzero()[:, 0]), task.train.subset((w <= 0.5).nonzero()[:, 0])
                assert 0 < len(rest) < 80
                laps = (batch for lap in range(99) for batch in rest.batches(SIZE, mine.child("unlabelled").child(lap), ("augmented",) * 2))
                steps = math.ceil(len(labelled) / SIZE)
                for place, x in enumerate(labelled.batches(SIZE, mine.child("labelled"), ("augmented",) * 2)):
                    u = next(laps)
                    step = rng.child("step", number)
                    number += 1
                    with torch.no_grad():
                        own = (probabilities(frozen_norms(nets[k], x.views[0])) + probabilities(frozen_norms(nets[k], x.views[1]))) / 2
                        tx = []
                        for b, i in enumerate(x.index.tolist()):
                            t = w[i].float() * torch.eye(C)[x.labels[b]] + (1 - w[i].float()) * own[b]
                            tx.append(t**2 / (t**2).sum())
                        predicted = [probabilities(frozen_norms(nets[k], view)) for view in u.views]
                        nets[1 - k].eval()
                        predicted += [probabilities(nets[1 - k](view)) for view in u.views]
                        nets[1 - k].train()
                        tu = [t**2 / (t**2).sum() for t in sum(predicted) / 4]
                    inputs = torch.cat([*x.views, *u.views])
                    goals = torch.stack([*tx, *tx, *tu, *tu])
                    share = float(random_draws.beta(step.child("mix"), alpha, 1))
                    share = max(share, 1 - share)
                    partner = step.child("partner").permutation(len(inputs))
                    inputs, goals = share * inputs + (1 - share) * inputs[partner], share * goals + (1 - share) * goals[partner]
                    if not lambda_u:
                        inputs, goals = inputs[: 2 * len(tx)], goals[: 2 * len(tx)]
                    p = probabilities(nets[k](inputs))
                    first = 2 * len(tx)
                    loss = -(goals[:first] * p[:first].log()).sum(1).mean()
                    if lambda_u:
                        ramp = min(max((epoch - 1 + place / steps - warmup) / ramp_epochs, 0), 1) if ramp_epochs else 1
                        loss = loss + lambda_u * ramp * ((p[first:] - goals[first:]) ** 2).mean()
                    mean = p.mean(0)
                    loss = loss + sum(0.25 * torch.log(0.25 / mean[c]) for c in range(C))
                    optimisers[k].descend(loss)
    return Ensemble(nets), trust


@pytest.mark.parametrize("net", ["batch_norm", "no dropout"])
@pytest.mark.parametrize(("lambda_u", "penalty", "remember", "ramp_epochs"), [(25.0, False, 1, 16), (0.0, True, 2, 16), (1.0, False, 2, 0)])
def test_dividemix_equals_the_plain_loop(toys, net, lambda_u, penalty, remember, ramp_epochs):
    """Dropout would draw in the order of the passes, which differs here, so the second network has none."""
    task = toys.make_task("batch_norm" if net == "batch_norm" else "dropout", augment="crop_flip")
    if net != "batch_norm":
        task = without_dropout(task)
    options = {"warmup_epochs": 1, "alpha": 2.0, "lambda_u": lambda_u, "confidence_penalty": penalty, "remember": remember}
    options["ramp_epochs"] = ramp_epochs
    fitted = DivideMix(recipe=RECIPE, **options).fit(task, PlainRun())
    expected, trust = plain_dividemix(task, 2, 1, 2.0, lambda_u, penalty, remember, ramp_epochs)
    toys.assert_close(toys.weights(fitted.model), toys.weights(expected), rtol=2e-3, atol=1e-4)
    torch.testing.assert_close(fitted.per_sample["trust"].T, trust, rtol=1e-2, atol=1e-3)


def without_dropout(task):
    from dataclasses import replace

    def build(k):
        net = task.build(k)
        net.drop.p = 0.0
        return net

    return replace(task, build=build)


def test_dividemix_trusts_right_labels_more(toys):
    """Every fourth label is wrong."""
    task = toys.make_task()
    trainer = DivideMix(warmup_epochs=2, recipe=SGD(epochs=8, learning_rate=RATE, batch_size=SIZE, schedule="constant"))
    trust = trainer.fit(task, PlainRun()).per_sample["trust"].mean(1)
    wrong = torch.arange(80) % 4 == 0
    assert trust[~wrong].mean() > trust[wrong].mean() + 0.3


@pytest.mark.parametrize("trusted", ["none", "all"])
def test_dividemix_goes_on_where_no_sample_or_every_sample_is_trusted(toys, monkeypatch, trusted):
    value = 0.0 if trusted == "none" else 1.0
    monkeypatch.setattr("trainers.dividemix.low_component", lambda losses, rng: torch.full((80,), value, dtype=torch.float64))
    run = PlainRun()
    trainer = DivideMix(warmup_epochs=1, recipe=RECIPE)
    fitted = trainer.fit(toys.make_task(), run)
    assert all(weight.isfinite().all() for weight in fitted.model.state_dict().values())
    bound = trainer.forecast(Sizes(80, 20, 4))
    forwards, backwards = toys.passes(run)
    assert forwards <= bound.forwards
    assert backwards <= bound.backwards
    expected = 2 * 80 + 2 * (160 + 2 * 80) if trusted == "none" else 2 * 80 + 2 * (160 + 2 * 4 * 80)
    assert forwards == expected


def test_the_mixture_finds_the_lower_of_two_heaps_and_bears_equal_losses():
    rng = stream(3, "train", 1)
    heaps = torch.cat([torch.linspace(0.0, 0.4, 50), torch.linspace(2.5, 3.5, 30)]).double()
    trust = low_component(scaled(torch.stack([heaps, heaps.flip(0)], dim=1))[:, 0], rng)
    assert (trust[:50] > 0.95).all()
    assert (trust[50:] < 0.05).all()
    assert low_component(torch.ones(20, dtype=torch.float64), rng).isfinite().all()


def test_losses_are_scaled_column_by_column():
    losses = torch.tensor([[1.0, 5.0], [3.0, 5.0], [2.0, 5.0]], dtype=torch.float64)
    assert scaled(losses).tolist() == [[0.0, 0.0], [1.0, 0.0], [0.5, 0.0]]
    with pytest.raises(FloatingPointError, match="diverged"):
        scaled(torch.tensor([[1.0, 1.0], [1.0, math.nan]], dtype=torch.float64))


def test_the_mean_of_weights_counts_the_first_steps_equally():
    """After 3,000 steps an average that began at 0.9999 would be 74 % initial weights; the published rule leaves 1 in 3,001."""
    trainer, share = ELRPlus(decay=0.9999, averaging="mean"), 1.0
    for step in range(1, 3001):
        share *= trainer.average_decay(step)
    assert share == pytest.approx(1 / 3001)
    assert trainer.average_decay(20_000) == 0.9999


def test_sharpening_by_hand():
    torch.testing.assert_close(sharpened(torch.tensor([[0.6, 0.4]]), 0.5), torch.tensor([[0.36 / 0.52, 0.16 / 0.52]]))
    torch.testing.assert_close(sharpened(torch.tensor([[0.6, 0.4]]), 1.0), torch.tensor([[0.6, 0.4]]))


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        (lambda: SOP(rate_u=0.0), "trainer.rate_u=0 is out of range"),
        (lambda: SOP(consistency=-1.0), "trainer.consistency=-1 is too small"),
        (lambda: ELRPlus(decay=1.0), "trainer.decay=1 is out of range"),
        (lambda: DivideMix(threshold=1.0), "trainer.threshold=1 is out of range"),
        (lambda: DivideMix(warmup_epochs=0), "trainer.warmup_epochs=0 is too small"),
        (lambda: DivideMix(recipe=SGD(trim=0.1)), "trim"),
    ],
)
def test_bad_settings_are_refused(trainer, message):
    with pytest.raises(UserError, match=message):
        trainer()

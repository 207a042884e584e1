"""Plain optimisers and losses for the reference implementations of methods."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch


class Momentum:
    """v <- mu v + g + wd w, w <- w - rate v, for the named parameters."""

    def __init__(self, net, names=None, momentum=0.9, decay=5e-4):
        self.weights = {name: p for name, p in net.named_parameters() if names is None or name in names}
        self.velocity = {name: torch.zeros_like(p) for name, p in self.weights.items()}
        self.net, self.momentum, self.decay = net, momentum, decay

    def step(self, loss, rate):
        self.net.zero_grad()
        loss.backward()
        with torch.no_grad():
            for name, p in self.weights.items():
                self.velocity[name] = self.momentum * self.velocity[name] + p.grad + self.decay * p
                p -= rate * self.velocity[name]


class Adam:
    """Kingma and Ba's algorithm 1 with the usual constants."""

    def __init__(self, net):
        self.net, self.t = net, 0
        self.m = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
        self.v = {name: torch.zeros_like(p) for name, p in net.named_parameters()}

    def step(self, loss, rate):
        self.net.zero_grad()
        loss.backward()
        self.t += 1
        with torch.no_grad():
            for name, p in self.net.named_parameters():
                self.m[name] = 0.9 * self.m[name] + 0.1 * p.grad
                self.v[name] = 0.999 * self.v[name] + 0.001 * p.grad**2
                p -= rate * (self.m[name] / (1 - 0.9**self.t)) / ((self.v[name] / (1 - 0.999**self.t)).sqrt() + 1e-8)


def cross_entropy(out, labels):
    return -out.log_softmax(1)[torch.arange(len(out)), labels].mean()


def corrected(toys, settings, model, task, run):
    """Position -> copy of the weights, in the order yielded."""
    found = type(settings[0]).correct(settings, model, task.allow(settings[0].needs()), run)
    return {position: toys.weights(net) for position, net in found}


def noisy_model(task, k=0):
    """A network whose weights and running statistics have moved away from their initial values."""
    net = task.build(k).train()
    with task_scope(task):
        for _ in range(3):
            descent = Momentum(net)
            for batch in task.train.batches(16):
                descent.step(cross_entropy(net(batch.inputs), batch.labels), 0.05)
    return net.eval()


def task_scope(task):
    from sap_core.seeding import stream

    return stream(task.seed, "train", "toy").scope()


@pytest.fixture(scope="session")
def plain():
    """All of the above by name."""
    return SimpleNamespace(Momentum=Momentum, Adam=Adam, cross_entropy=cross_entropy, corrected=corrected, noisy_model=noisy_model)

"""Plain reference implementations of trainers, in the fixture `plain`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from sap_core.api import Batch, Task
from sap_core.seeding import Stream, stream

Gradients = Callable[[nn.Module, Batch, int, Stream], Sequence[Tensor]]
"""(network, mini-batch, epoch, the step's stream) -> one gradient per parameter."""


def training(task: Task, epochs: int, rate: float, gradients_of: Gradients, size: int = 16) -> nn.Module:
    """Nesterov's method written out: v <- mu v + g, w <- w - rate (g + mu v), with g the method's gradient plus weight decay."""
    momentum, weight_decay = 0.9, 5e-4
    net = task.build(0).train()
    velocity = [torch.zeros_like(p) for p in net.parameters()]
    for epoch in range(1, epochs + 1):
        rng = stream(task.seed, "train", epoch)
        with rng.child("layers").scope():
            for number, batch in enumerate(task.train.batches(size, rng, views=("augmented",))):
                gradients = gradients_of(net, batch, epoch, rng.child("step", number))
                with torch.no_grad():
                    for place, (p, g) in enumerate(zip(net.parameters(), gradients, strict=True)):
                        g = g + weight_decay * p
                        velocity[place] = momentum * velocity[place] + g
                        p -= rate * (g + momentum * velocity[place])
    return net.eval()


def of_losses(losses_of: Callable[[Tensor, Batch, int], Tensor]) -> Gradients:
    """Gradients of the mean of a loss per sample: (logits, mini-batch, epoch) -> (B,)."""

    def gradients_of(net: nn.Module, batch: Batch, epoch: int, rng: Stream) -> Sequence[Tensor]:
        return torch.autograd.grad(losses_of(net(batch.inputs), batch, epoch).mean(), list(net.parameters()))

    return gradients_of


@pytest.fixture(scope="session")
def plain() -> SimpleNamespace:
    """The functions above by name."""
    return SimpleNamespace(training=training, of_losses=of_losses)

"""MixUp against its definition: cross-entropy with the mixed one-hot label."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from sap_core.errors import UserError
from sap_core.run import PlainRun
from trainers.mixup import MixUp
from trainers.sgd import SGD

EPOCHS, RATE = 3, 0.05
RECIPE = SGD(epochs=EPOCHS, learning_rate=RATE, batch_size=16, schedule="constant")


def mixed_gradients(alpha, shares):
    def gradients_of(net, batch, epoch, rng):
        with rng.child("share").scope():
            share = float(torch.distributions.Beta(torch.tensor([alpha]).double(), torch.tensor([alpha]).double()).sample().float())
        shares.append(share)
        count = len(batch.labels)
        partner = [(place - 1) % count for place in range(count)]
        outputs = net(share * batch.inputs + (1 - share) * batch.inputs[partner])
        if batch.labels.is_floating_point():
            loss = ((outputs[:, 0] - (share * batch.labels + (1 - share) * batch.labels[partner])) ** 2).mean()
        else:
            one_hot = functional.one_hot(batch.labels, 4).float()
            loss = -((share * one_hot + (1 - share) * one_hot[partner]) * outputs.log_softmax(1)).sum(1).mean()
        return torch.autograd.grad(loss, list(net.parameters()))

    return gradients_of


@pytest.mark.parametrize("net", ["batch_norm", "dropout"])
@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_equals_the_plain_loop(toys, plain, net, kind):
    task = toys.make_task(net, augment="crop_flip", kind=kind)
    run = PlainRun()
    fitted = MixUp(alpha=0.7, recipe=RECIPE).fit(task, run)
    shares = []
    expected = plain.training(task, EPOCHS, RATE, mixed_gradients(0.7, shares))
    toys.assert_close(toys.weights(fitted.model), toys.weights(expected), rtol=1e-3, atol=2e-5)
    assert len(set(shares)) == len(shares), "every mini-batch has a share of its own"
    assert min(shares) < 0.5 < max(shares), "shares are not folded"
    assert all("running_acc" not in point for point in run.curve), "an accuracy of mixed images means nothing"


def test_a_share_must_have_a_law():
    with pytest.raises(UserError, match="alpha=0 is out of range"):
        MixUp(alpha=0.0)

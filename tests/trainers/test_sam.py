"""SAM against its two equations written out."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional

from sap_core.errors import UserError
from sap_core.run import PlainRun
from trainers.sam import SAM
from trainers.sgd import SGD

EPOCHS, RATE = 3, 0.05
RECIPE = SGD(epochs=EPOCHS, learning_rate=RATE, batch_size=16, schedule="constant")


def plain_sam(rho, adaptive, statistics_twice):
    """For `plain.training`: the gradient at w + e, taken on a copy of the network that is moved there."""

    def gradients_of(net, batch, epoch, rng):
        def loss_of(network):
            outputs = network(batch.inputs)
            return (
                ((outputs[:, 0] - batch.labels) ** 2).mean() if outputs.shape[1] == 1 else functional.cross_entropy(outputs, batch.labels)
            )

        first = torch.autograd.grad(loss_of(net), list(net.parameters()))
        flat_g = torch.cat([g.flatten() for g in first])
        flat_w = torch.cat([p.detach().flatten() for p in net.parameters()])
        if adaptive:
            ascent = rho * flat_w**2 * flat_g / ((flat_w.abs() * flat_g) ** 2).sum().sqrt()
        else:
            ascent = rho * flat_g / (flat_g**2).sum().sqrt()
        moved = copy.deepcopy(net)
        place = 0
        with torch.no_grad():
            for p in moved.parameters():
                p += ascent[place : place + p.numel()].view_as(p)
                place += p.numel()
        second = torch.autograd.grad(loss_of(moved), list(moved.parameters()))
        if statistics_twice:
            net.load_state_dict({**net.state_dict(), **dict(moved.named_buffers())})
        return second

    return gradients_of


@pytest.mark.parametrize("net", ["batch_norm", "dropout"])
@pytest.mark.parametrize(("rho", "adaptive", "updates"), [(0.3, False, "first"), (0.3, False, "both"), (2.0, True, "first")])
def test_equals_the_plain_loop(toys, plain, net, rho, adaptive, updates):
    task = toys.make_task(net, augment="crop_flip")
    fitted = SAM(rho=rho, adaptive=adaptive, norm_updates=updates, recipe=RECIPE).fit(task, PlainRun())
    expected = plain.training(task, EPOCHS, RATE, plain_sam(rho, adaptive, updates == "both"))
    toys.assert_close(toys.weights(fitted.model), toys.weights(expected), rtol=1e-3, atol=2e-5)


def test_works_for_numbers(toys, plain):
    task = toys.make_task(kind="regression")
    fitted = SAM(rho=0.3, recipe=RECIPE).fit(task, PlainRun())
    expected = plain.training(task, EPOCHS, RATE, plain_sam(0.3, False, False))
    toys.assert_close(toys.weights(fitted.model), toys.weights(expected), rtol=1e-3, atol=2e-5)


def test_running_statistics_are_updated_once_per_batch_unless_asked(toys):
    task = toys.make_task("batch_norm")
    steps = EPOCHS * 5
    for updates, count in (("first", steps), ("both", 2 * steps)):
        model = SAM(norm_updates=updates, recipe=RECIPE).fit(task, PlainRun()).model
        assert int(model.norm.num_batches_tracked) == count
        assert model.norm.track_running_stats


def test_a_tiny_ball_is_plain_training_and_no_gradient_no_perturbation(toys):
    task = toys.make_task()
    near = SAM(rho=1e-9, recipe=RECIPE).fit(task, PlainRun()).model
    toys.assert_close(toys.weights(near), toys.weights(RECIPE.fit(task, PlainRun()).model), rtol=1e-3, atol=1e-5)
    parameter = torch.nn.Parameter(torch.ones(3))
    parameter.grad = torch.zeros(3)
    assert torch.equal(SAM().perturbation([parameter])[0], torch.zeros(3))


def test_the_curve_shows_the_loss_of_the_first_pass(toys):
    task = toys.make_task()
    plain, sharp = PlainRun(), PlainRun()
    SGD(epochs=1, learning_rate=1e-12, batch_size=16, schedule="constant").fit(task, plain)
    SAM(rho=5.0, recipe=SGD(epochs=1, learning_rate=1e-12, batch_size=16, schedule="constant")).fit(task, sharp)
    assert sharp.curve[0]["loss"] == pytest.approx(plain.curve[0]["loss"], rel=1e-6)


def test_a_ball_needs_a_radius():
    with pytest.raises(UserError, match="rho=0 is out of range"):
        SAM(rho=0.0)

"""CF-k and EU-k against plain loops, and the definition of the last k layers."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from baselines.cf_k import CFk
from baselines.eu_k import EUk
from baselines.last_layers import all_but_last, layer_names
from sap_core.api import Corrector, Need, Sizes
from sap_core.errors import UserError
from sap_core.models.ensemble import Ensemble
from sap_core.models.resnet_cifar import ResNet18
from sap_core.run import PlainRun
from sap_core.seeding import stream

OLD = CFk(k=2, learning_rate=0.05, epochs=3, batch_size=8, num_retain=24)
NEW = EUk(k=2, learning_rate=0.05, epochs=3, batch_size=8, num_retain=24)
TRAINED = {
    ("batch_norm", 1): ["head.weight", "head.bias"],
    ("batch_norm", 2): ["second.weight", "second.bias", "head.weight", "head.bias"],
    ("batch_norm", 3): None,
    ("dropout", 1): ["head.weight", "head.bias"],
}


def plain_loop(setting, net, task, plain, names, frozen_norm):
    """Epochs of descent on the named parameters; a norm before them, and dropout before them, stay in evaluation mode."""
    retain = task.allow(frozenset({Need.RETAIN})).verified(Need.RETAIN, 24)
    descent = plain.Momentum(net, names)
    for epoch in range(1, setting.epochs + 1):
        rng = stream(task.seed, "correct", epoch, "retain")
        net.train()
        if frozen_norm:
            net.norm.eval()
        if isinstance(getattr(net, "drop", None), nn.Dropout):
            net.drop.eval()
        with rng.child("layers").scope():
            for batch in retain.batches(8, rng):
                descent.step(plain.cross_entropy(net(batch.inputs), batch.labels), setting.learning_rate)
    return net


@pytest.mark.parametrize(("net", "k"), TRAINED)
def test_cf_k_equals_the_plain_loop(toys, plain, net, k):
    task = toys.make_task(net)
    model = plain.noisy_model(task)
    before = toys.weights(model)
    setting = replace(OLD, k=k)
    ours = plain.corrected(toys, [setting], model, task, PlainRun())[0]
    expected = plain_loop(setting, copy.deepcopy(model), task, plain, TRAINED[net, k], net == "batch_norm" and k < 3)
    toys.assert_close(ours, toys.weights(expected), rtol=1e-4, atol=1e-5)
    toys.assert_same_bits(before, toys.weights(model))
    for name, value in before.items():
        frozen = TRAINED[net, k] is not None and name not in TRAINED[net, k]
        assert torch.equal(ours[name], value) == frozen, name
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(("net", "k"), TRAINED)
def test_eu_k_starts_from_fresh_layers(toys, plain, net, k):
    task = toys.make_task(net)
    model = plain.noisy_model(task)
    setting = replace(NEW, k=k)
    ours = plain.corrected(toys, [setting], model, task, PlainRun())[0]
    start, fresh = copy.deepcopy(model), task.build(1)
    names = TRAINED[net, k]
    state = {name: value for name, value in fresh.state_dict().items() if names is None or name in names}
    state |= {name: torch.zeros_like(value) for name, value in state.items() if name.endswith("bias")}
    start.load_state_dict({**start.state_dict(), **state})
    expected = plain_loop(setting, start, task, plain, names, net == "batch_norm" and k < 3)
    toys.assert_close(ours, toys.weights(expected), rtol=1e-4, atol=1e-5)
    assert not torch.equal(ours["head.weight"], plain.corrected(toys, [replace(OLD, k=k)], model, task, PlainRun())[0]["head.weight"])


@pytest.mark.parametrize("setting", [OLD, NEW], ids=["cf_k", "eu_k"])
def test_epochs_share_one_trajectory(toys, plain, setting):
    task = toys.make_task()
    model = plain.noisy_model(task)
    nested = [replace(setting, epochs=epochs) for epochs in (4, 1, 2)]
    run = PlainRun(3)
    shared = plain.corrected(toys, nested, model, task, run)
    for position, one in enumerate(nested):
        toys.assert_same_bits(shared[position], plain.corrected(toys, [one], model, task, PlainRun())[0])
    forecast = type(setting).forecast(nested, Sizes(80, 20))
    assert toys.passes(run) == (forecast.forwards, forecast.backwards) == (96, 96)
    assert isinstance(setting, Corrector)
    assert replace(setting, k=1).family() != setting.family()


def test_a_diverged_trajectory_leaves_no_sound_weights(toys, plain):
    task = toys.make_task()
    wild = plain.corrected(toys, [replace(OLD, learning_rate=1e18)], plain.noisy_model(task), task, PlainRun())[0]
    assert wild["head.weight"].isnan().all()


def test_more_layers_than_there_are_are_refused(toys):
    task = toys.make_task()
    too_deep = CFk.correct([replace(OLD, k=4)], task.build(0), task.allow(OLD.needs()), PlainRun())
    with pytest.raises(UserError, match=r"cf_k\.k=4 exceeds the number of layers of the network, 3"):
        next(too_deep)
    with pytest.raises(UserError, match=r"eu_k\.k=4"):
        replace(NEW, k=4).refuse("classification", task.build(0))
    with pytest.raises(UserError, match="at least 1"):
        CFk(k=0)


def test_layers_of_a_resnet():
    net = ResNet18(10, (3, 8, 8))
    assert len(layer_names(net)) == 21
    last_block = all_but_last(net, 3, "cf_k")
    trained = [name for name, _ in net.named_parameters() if name not in last_block.parameters]
    assert trained == [
        f"layer4.1.{name}" for name in ("conv1.weight", "bn1.weight", "bn1.bias", "conv2.weight", "bn2.weight", "bn2.bias")
    ] + [
        "fc.weight",
        "fc.bias",
    ]
    assert "layer4.0.bn2" in last_block.modules
    assert not {"layer4", "layer4.1", "layer4.1.bn1"} & last_block.modules


def test_every_network_of_an_ensemble_trains_its_last_layers(toys, plain):
    task = toys.make_task()
    model = Ensemble([plain.noisy_model(task, 0), plain.noisy_model(task, 1)]).eval()
    for setting in (OLD, NEW):
        ours = plain.corrected(toys, [setting], model, task, PlainRun())[0]
        moved = {name for name, value in model.state_dict().items() if not torch.equal(value, ours[name])}
        assert moved == {f"nets.{n}.{name}" for n in range(2) for name in TRAINED["batch_norm", 2]}

"""Networks that do not run on torch's meta device, or not at all, when a sweep is planned."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sap_core.api import Passes
from sap_core.cost import flops_per_sample
from sap_core.errors import UserError
from sweeper.plan.flops import flops_of
from sweeper.plan.probe import new_network, probe

SHAPE, CLASSES = (3, 8, 8), 4


class Plain(nn.Module):
    """A convolution, a norm and a head."""

    def __init__(self, num_outputs):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Linear(6, num_outputs)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).relu().mean((2, 3)))


class Item(Plain):
    def __init__(self, num_outputs):
        super().__init__(num_outputs)
        self.rates = [rate.item() for rate in torch.linspace(0, 0.1, 4)]


class Branch(Plain):
    def forward(self, x):
        if torch.isnan(x).any() or x.std() == 0:
            raise ValueError("bad images")
        return super().forward(x)


class Printing(Plain):
    def __init__(self, num_outputs):
        print("building")
        torch.manual_seed(3)
        super().__init__(num_outputs)


class ReadsFile(Plain):
    def __init__(self, num_outputs, path: str):
        super().__init__(num_outputs)
        self.fc.bias.data = torch.load(path, weights_only=True).clone()
        assert self.fc.bias[0].item() == 5.0


class NoStatistics(nn.Sequential):
    def __init__(self, num_outputs):
        norm = nn.BatchNorm2d(6, track_running_stats=False)
        super().__init__(nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(1), norm, nn.Flatten(), nn.Linear(6, num_outputs))


class Squeezing(Plain):
    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3), keepdim=True).squeeze())


class Uncounted(nn.Module):
    """Nothing in it is a product of matrices, which torch could count."""

    def __init__(self, num_outputs):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(num_outputs))

    def forward(self, x):
        return torch.fft.fft2(x).abs().mean((1, 2, 3))[:, None] * self.scale


class OneWay(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise NotImplementedError


class NoBackward(Plain):
    def forward(self, x):
        return OneWay.apply(super().forward(x))


class AtLeast31(nn.Module):
    def __init__(self, num_outputs):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 7, stride=4), nn.Conv2d(4, 4, 7), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(4, num_outputs)

    def forward(self, x):
        return self.fc(self.net(x))


class Only32(nn.Sequential):
    def __init__(self, num_outputs):
        super().__init__(nn.Flatten(), nn.Linear(3 * 32 * 32, num_outputs))


class Failing(Plain):
    def forward(self, x):
        raise RuntimeError("shape mismatch\nin layer 3")


class FailingConstructor(Plain):
    def __init__(self, num_outputs):
        raise OSError("no such file")


class SevenClasses(Plain):
    def __init__(self):
        super().__init__(7)


def replaced(num_outputs):
    model = Plain(num_outputs)
    model.forward = lambda x: model.fc(model.conv(x).mean((2, 3)))
    return model


def scripted(num_outputs):
    return torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(192, num_outputs)))


def network(name, **settings):
    target = f"{__name__}.{name}"
    return SimpleNamespace(entry={"target": target, "settings": settings}, target=target, name="mine", settings=settings)


def images(shape=SHAPE, **settings):
    instance = SimpleNamespace(shape=shape, classes=SimpleNamespace(num=CLASSES))
    return SimpleNamespace(entry={"shape": list(shape)}, name="pictures", settings=settings, instance=instance)


@pytest.mark.parametrize(
    ("name", "device"), [("Plain", "meta"), ("Item", "cpu"), ("Branch", "cpu"), ("Squeezing", "meta"), ("NoStatistics", "meta")]
)
def test_what_runs_is_accepted_and_counted_where_it_runs(name, device, monkeypatch):
    monkeypatch.setattr("sweeper.plan.probe._SMALL_PIXELS", 0)
    monkeypatch.setattr("sweeper.plan.probe._CACHE", {})
    state, found = torch.get_rng_state(), probe(network(name), images())
    assert torch.equal(state, torch.get_rng_state())
    assert found.device == device
    assert next(found.network.parameters()).device.type == device
    assert next(new_network(network(name), images()).parameters()).device.type == device
    if name in ("Item", "Branch"):
        assert (found.forward, found.backward) == flops_per_sample(Plain(CLASSES), SHAPE)
    assert found.forward > 0
    assert found.backward > 0


@pytest.mark.parametrize("name", ["Plain", "Squeezing", "NoStatistics", "sap_core.models.small_cnn.SmallCNN"])
def test_small_networks_run_on_the_cpu_with_the_same_counts(name, monkeypatch):
    target = name if "." in name else f"{__name__}.{name}"
    model = SimpleNamespace(entry={"target": target, "settings": {}}, target=target, name="mine", settings={})
    threads, found = torch.get_num_threads(), []
    for pixels in (64, 0):
        monkeypatch.setattr("sweeper.plan.probe._SMALL_PIXELS", pixels)
        monkeypatch.setattr("sweeper.plan.probe._CACHE", {})
        found.append(probe(model, images()))
    assert [one.device for one in found] == ["cpu", "meta"]
    assert (found[0].forward, found[0].backward) == (found[1].forward, found[1].backward)
    assert torch.get_num_threads() == threads


def test_a_constructor_may_print_read_files_and_set_the_seed(tmp_path, capsys):
    torch.save(torch.tensor([5.0, 0, 0, 0]), tmp_path / "bias.pt")
    assert probe(network("Printing"), images()).sets_seed
    assert not probe(network("ReadsFile", path=str(tmp_path / "bias.pt")), images()).sets_seed
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["regnet_y_400mf", "regnet_x_400mf"])
def test_the_regnets_of_torchvision_are_accepted(name):
    entry = {"target": "sap_core.models.torchvision_net.Torchvision", "settings": {"network": name}}
    model = SimpleNamespace(entry=entry, target=entry["target"], name="torchvision", settings=entry["settings"])
    assert flops_of(model, images((3, 32, 32))).forward > 1e6


@pytest.mark.parametrize(
    ("name", "forward", "backward"), [("Uncounted", None, None), ("NoBackward", float, None), ("scripted", float, float)]
)
def test_what_cannot_be_counted_is_unknown(name, forward, backward):
    found = flops_of(network(name), images())
    assert (found.forward is None) == (forward is None)
    assert (found.backward is None) == (backward is None)
    assert found.total(Passes()) == 0
    assert (found.total(Passes(forwards=2)) is None) == (forward is None)
    assert (found.total(Passes(forwards=2, backwards=1)) is None) == (backward is None)


class TrainsOnLargeImages(Plain):
    """An auxiliary head that only training uses, as Inception's."""

    def __init__(self, num_outputs):
        super().__init__(num_outputs)
        self.aux = nn.Conv2d(6, num_outputs, 12)

    def forward(self, x):
        return (super().forward(x), self.aux(self.conv(x)).flatten(1)) if self.training else super().forward(x)


def test_what_does_not_run_in_training_mode_is_known_and_accepted():
    found = probe(network("TrainsOnLargeImages"), images())
    assert "Kernel size" in found.training_error
    assert not any(module.training is False for module in found.network.modules())
    assert probe(network("TrainsOnLargeImages"), images((3, 16, 16))).training_error is None


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("AtLeast31", {"size": 8}, r"cannot run on inputs of shape \(3, 8, 8\) of dataset=pictures \(RuntimeError: .*\); it needs"),
        ("AtLeast31", {"size": 8}, r"it needs images of at least 31 x 31 pixels; set dataset\.size=31, or choose another model$"),
        ("AtLeast31", {}, r"at least 31 x 31 pixels; choose another model or data set$"),
        ("Only32", {"size": 8}, r"\(2x192 and 3072x4\)\); it needs images of 32 x 32 pixels; set dataset\.size=32"),
        ("Failing", {}, r"\(RuntimeError: shape mismatch in layer 3\); choose another model, or correct its options"),
        ("FailingConstructor", {}, r"model=mine cannot be built for inputs of shape .* \(OSError: no such file\)"),
        ("SevenClasses", {}, r"model=mine on dataset=pictures: .* logits of shape \(2, 4\) .* a tensor of shape \(2, 7\)"),
        ("replaced", {}, r"a copy of model=mine computes with the original's weights"),
    ],
)  # fmt: skip
def test_what_cannot_run_is_refused_with_torchs_message(name, settings, said):
    with pytest.raises(UserError, match=said) as error:
        probe(network(name), images(**settings))
    assert "\n" not in str(error.value)

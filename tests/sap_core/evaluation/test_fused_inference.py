"""A fused inference copy computes the same as its network, which is not changed."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sap_core.evaluation import fused_inference as quick
from sap_core.evaluation.fused_inference import FusionPlan, fused_copy, fusion_plan_for
from sap_core.models.cnn9 import CNN9
from sap_core.models.ensemble import Ensemble
from sap_core.models.lenet5 import LeNet5
from sap_core.models.preact_resnet import PreActResNet18
from sap_core.models.resnet32 import ResNet32, ResNet32_GN
from sap_core.models.resnet_cifar import ResNet18
from sap_core.models.small_cnn import SmallCNN
from sap_core.models.vgg import VGG11_BN


def lived_in(network, seed=0):
    """Gives its norms statistics and scales that are no longer those of the first day; in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if getattr(module, "running_mean", None) is not None:
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator))
            module.running_var.copy_(0.2 + torch.rand(module.num_features, generator=generator))
            if module.weight is not None:
                with torch.no_grad():
                    module.weight.copy_(torch.randn(module.num_features, generator=generator))
                    module.bias.copy_(torch.randn(module.num_features, generator=generator))
    return network.eval()


def norms(network):
    return sum(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in network.modules())


def check(network, inputs, left):
    """Equal outputs and predictions, an untouched network, and `left` norms in the fused copy."""
    network = lived_in(network).train()
    before = copy.deepcopy(network.state_dict())
    kinds = [type(module) for module in network.modules()]
    fast = fused_copy(network, inputs[:1])
    assert not fast.training
    assert all(module.training for module in network.modules())
    assert [type(module) for module in network.modules()] == kinds
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    owned = {tensor.data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    assert not owned & {tensor.data_ptr() for tensor in (*fast.parameters(), *fast.buffers())}
    with torch.no_grad():
        wanted, said = network.eval()(inputs), fast(inputs)
    assert (said - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    assert torch.equal(said.argmax(1), wanted.argmax(1))
    assert norms(fast) == left
    return fast


@pytest.mark.parametrize(
    ("build", "shape", "left"),
    [
        (lambda: SmallCNN(10, (1, 8, 8)), (1, 8, 8), 0),
        (lambda: LeNet5(10, (1, 28, 28)), (1, 28, 28), 0),
        (lambda: VGG11_BN(10, (3, 32, 32)), (3, 32, 32), 0),
        (lambda: ResNet18(10, (3, 32, 32)), (3, 32, 32), 0),
        (lambda: ResNet32(10, (3, 32, 32)), (3, 32, 32), 0),
        (lambda: ResNet32_GN(10, (3, 32, 32)), (3, 32, 32), 0),
        (lambda: CNN9(10, (3, 32, 32)), (3, 32, 32), 0),
        (lambda: PreActResNet18(10, (3, 32, 32)), (3, 32, 32), 8),  # the norms that open a block follow an addition
        (lambda: Ensemble([SmallCNN(10, (1, 8, 8)), SmallCNN(10, (1, 8, 8))]), (1, 8, 8), 0),
    ],
    ids=["small_cnn", "lenet5", "vgg11_bn", "resnet18", "resnet32", "resnet32_gn", "cnn9", "preact_resnet18", "ensemble"],
)
def test_our_networks(build, shape, left):
    torch.manual_seed(0)
    fast = check(build(), torch.randn(6, *shape), left)
    weights = [module.weight for module in fast.modules() if isinstance(module, nn.Conv2d)]
    assert weights
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


class Net(nn.Module):
    """A convolution and its norm, and what a test does with them."""

    def __init__(self, norm=None, groups=1):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1, groups=groups, bias=False), norm or nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def out(self, maps):
        return self.head(maps.mean((2, 3)))

    def forward(self, x):
        return self.out(self.norm(self.conv(x)))


class Branch(Net):
    def forward(self, x):
        maps = self.conv(x)
        return self.out(self.norm(maps) + maps)


class CalledTwice(Net):
    def forward(self, x):
        return self.out(self.conv(self.norm(self.conv(x))))


class NormCalledTwice(Net):
    def forward(self, x):
        return self.out(self.norm(self.norm(self.conv(x))))


class TwoNames(Net):
    """The convolution has a second name, under which it is used without its norm."""

    def __init__(self):
        super().__init__()
        self.again = self.conv

    def forward(self, x):
        return self.out(self.norm(self.conv(x))) + self.out(self.again(x))


class TiedWeights(Net):
    def __init__(self):
        super().__init__()
        self.other = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.other.weight = self.conv.weight

    def forward(self, x):
        return self.out(self.norm(self.conv(x))) + self.out(self.other(x))


class ReadsItsWeights(Net):
    def forward(self, x):
        return self.out(self.norm(self.conv(x))) * self.conv.weight.mean() + self.norm.running_mean.sum()


class Untraceable(Net):
    def forward(self, x):
        return super().forward(x if x.sum() > 0 else 2 * x)


class LooksAtItsNorm(Net):
    """Traceable, but only with the norm where it was."""

    def forward(self, x):
        return super().forward(x) * self.norm.eps * 1e5


class Noisy(Net):
    """Draws numbers in its forward pass, so that tracing would freeze them."""

    def forward(self, x):
        return super().forward(x) + 0 * torch.rand(3)


class Changed(nn.Conv2d):
    """A subclass may do anything."""

    def forward(self, x):
        return super().forward(x).relu()


def hooked():
    network = Net()
    network.conv.register_forward_hook(lambda module, given, maps: maps.relu())
    return network


def replaced():
    network = Net()
    network.conv = Changed(4, 4, 3)
    return network


@pytest.mark.parametrize(
    ("build", "left"),
    [
        (Net, 0),
        (lambda: Net(groups=2), 0),
        (lambda: Net(groups=4), 0),
        (lambda: Net(nn.BatchNorm2d(4, affine=False)), 0),
        (lambda: Net(nn.BatchNorm2d(4, eps=0.5)), 0),
        (Noisy, 0),
        (lambda: Net(nn.BatchNorm2d(4, track_running_stats=False)), 1),
        (Branch, 1),
        (CalledTwice, 1),
        (NormCalledTwice, 1),
        (TwoNames, 1),
        (TiedWeights, 1),
        (ReadsItsWeights, 1),
        (Untraceable, 1),
        (LooksAtItsNorm, 1),
        (hooked, 1),
        (replaced, 1),
    ],
)
def test_awkward_networks(build, left):
    torch.manual_seed(0)
    check(build(), torch.randn(5, 4, 6, 6), left)


def test_linear_layers_with_norms():
    torch.manual_seed(0)
    check(
        nn.Sequential(nn.Linear(7, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3, bias=False), nn.BatchNorm1d(3)), torch.randn(5, 7), 0
    )
    check(nn.Sequential(nn.Linear(7, 4), nn.BatchNorm1d(5), nn.Flatten()), torch.randn(5, 5, 7), 1)  # normalises another dimension


def test_a_norm_over_another_dimension_of_equal_size_is_found_out():
    torch.manual_seed(0)
    check(nn.Sequential(nn.Linear(7, 5), nn.BatchNorm1d(5), nn.Flatten()), torch.randn(4, 5, 7), 1)


def test_the_form_is_found_once_per_structure(monkeypatch):
    quick.PLANS.clear()
    found = []
    find = quick.find_plan
    monkeypatch.setattr(quick, "find_plan", lambda *given: found.append(1) or find(*given))
    inputs = torch.randn(1, 1, 8, 8)
    for seed in range(3):
        fused_copy(lived_in(SmallCNN(10, (1, 8, 8)), seed), inputs)
    assert len(found) == 1
    fused_copy(SmallCNN(10, (1, 8, 8), width=8), inputs)
    assert len(found) == 2


def test_the_form_does_not_depend_on_a_candidates_numbers():
    quick.PLANS.clear()
    network = lived_in(SmallCNN(10, (1, 8, 8)))
    with torch.no_grad():
        network.classifier.weight.fill_(torch.nan)
    plan = fusion_plan_for(network, torch.randn(1, 1, 8, 8))
    assert len(plan.folds) == 3
    assert plan.channels_last


def test_a_network_whose_fused_copy_would_deviate_is_not_fused():
    assert fusion_plan_for(LooksAtItsNorm(), torch.randn(1, 4, 6, 6)) == FusionPlan()


def test_the_global_generator_stays_where_it_is():
    quick.PLANS.clear()
    network = Noisy()
    torch.manual_seed(3)
    wanted = torch.rand(3)
    torch.manual_seed(3)
    fusion_plan_for(network, torch.ones(1, 4, 6, 6))
    assert torch.equal(torch.rand(3), wanted)

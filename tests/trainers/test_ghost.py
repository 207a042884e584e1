"""Ghost norms against torch.func's per-sample gradients, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from sap_core.errors import UserError
from sap_core.models.cnn9 import CNN9
from sap_core.models.linear5 import Linear5
from sap_core.models.resnet32 import ResNet32_GN
from trainers import ghost


def expected(model, inputs, labels):
    """(B,) squared norms, computed from all per-sample gradients."""
    weights = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}

    def loss(weights, x, y):
        return functional.cross_entropy(functional_call(model, weights, (x[None],)), y[None])

    gradients = vmap(grad(loss), in_dims=(None, 0, 0))(weights, inputs, labels)
    return sum(gradient.flatten(1).square().sum(1) for gradient in gradients.values())


def found(model, inputs, labels):
    return ghost.squared_norms(model, model, inputs, lambda outputs: functional.cross_entropy(outputs, labels, reduction="none"))[0]


class Pooled(nn.Module):
    """Layers of all kinds, and a linear head on the mean over positions."""

    def __init__(self, *layers, width):
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        x = self.layers(x)
        return self.head(x.flatten(2).mean(2) if x.ndim > 2 else x)


CONVOLUTIONS = {
    "plain": lambda: nn.Conv2d(4, 6, 3),
    "strided": lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False),
    "oblong": lambda: nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding=(2, 0), dilation=(2, 1)),
    "grouped": lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2),
    "depthwise": lambda: nn.Conv2d(4, 6 * 2, 3, padding="same", groups=4),
    "reflected": lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
    "circular": lambda: nn.Conv2d(4, 6, 4, padding="same", padding_mode="circular"),
    "pointwise": lambda: nn.Conv2d(4, 6, 1),
    "whole": lambda: nn.Conv2d(4, 6, 7),
}


@pytest.mark.parametrize("piece", [ghost.CHUNK, 200])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(monkeypatch, name, piece):
    monkeypatch.setattr(ghost, "CHUNK", piece)
    torch.manual_seed(1)
    conv = CONVOLUTIONS[name]()
    model = Pooled(conv, nn.ReLU(inplace=True), width=conv.out_channels).double()
    inputs, labels = torch.randn(5, 4, 7, 7, dtype=torch.float64), torch.randint(3, (5,))
    torch.testing.assert_close(found(model, inputs, labels), expected(model, inputs, labels), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("groups", [1, 3, 6])
def test_group_norm(groups, affine):
    torch.manual_seed(2)
    norm = nn.GroupNorm(groups, 6, affine=affine)
    model = Pooled(nn.Conv2d(2, 6, 3), norm, nn.Tanh(), width=6).double()
    inputs, labels = torch.randn(4, 2, 6, 6, dtype=torch.float64), torch.randint(3, (4,))
    torch.testing.assert_close(found(model, inputs, labels), expected(model, inputs, labels), rtol=1e-10, atol=1e-14)


def test_linear_layers_over_positions_and_frozen_weights():
    """A linear layer applied at several positions sums over them; frozen parameters do not count."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 7, bias=False), nn.Tanh(), nn.Flatten(), nn.Linear(28, 3)).double()
    model[2].weight.requires_grad_(False)
    model[5].bias.requires_grad_(False)
    inputs, labels = torch.randn(6, 4, 5, dtype=torch.float64), torch.randint(3, (6,))
    torch.testing.assert_close(found(model, inputs, labels), expected(model, inputs, labels), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("shapes", [(3, 2, 50), (40, 30, 4)])
def test_both_forms_of_a_product_are_the_norm(shapes):
    """Many positions use the product, few the two Gram matrices."""
    outputs, inputs, positions = shapes
    back, read = (torch.randn(6, rows, positions, dtype=torch.float64) for rows in (outputs, inputs))
    plain = torch.stack([(b @ r.T).square().sum() for b, r in zip(back, read, strict=True)])
    torch.testing.assert_close(ghost.product_norms(back, read), plain, rtol=1e-12, atol=0)


def test_prls_network_with_group_norm():
    torch.manual_seed(4)
    model = ResNet32_GN(10, (3, 8, 8)).double()
    inputs, labels = torch.randn(3, 3, 8, 8, dtype=torch.float64), torch.randint(10, (3,))
    torch.testing.assert_close(found(model, inputs, labels), expected(model, inputs, labels), rtol=1e-9, atol=0)


def test_weights_get_no_gradient_and_hooks_are_gone():
    model = Linear5(3, (6,), width=4)
    norms = found(model, torch.randn(4, 6), torch.randint(3, (4,)))
    assert norms.shape == (4,)
    assert not norms.requires_grad
    assert all(p.grad is None for p in model.parameters())
    assert not any(layer._forward_hooks for layer in model.modules())  # noqa: SLF001 - torch has no other way to ask


def test_batch_norm_is_refused_with_the_cure():
    with pytest.raises(UserError, match=r"'prl_g' .* batch norm \('.*'\) .* use a network with group norm, such as model=resnet32_gn"):
        ghost.check(CNN9(10, (3, 32, 32)), "prl_g")
    ghost.check(ResNet32_GN(10, (3, 32, 32)), "prl_g")


def test_other_layers_with_weights_and_shared_weights_are_refused_by_name():
    with pytest.raises(UserError, match=r"'1' is a LayerNorm with weights; use another model, or trainer=co_prl_l"):
        ghost.check(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), "co_prl_g")
    ghost.check(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2, elementwise_affine=False)), "prl_g")
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    with pytest.raises(UserError, match="a weight shared by '0' and '1'"):
        ghost.check(tied, "prl_g")


def test_a_layer_that_is_used_twice_is_refused():
    layer = nn.Linear(2, 2)
    twice = nn.Sequential(layer, nn.ReLU(), layer)
    with pytest.raises(UserError, match="layers that are called once per forward pass"):
        found(twice, torch.randn(3, 2), torch.zeros(3, dtype=torch.int64))

"""Networks whose copies are no networks of their own."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from torch import nn
from torch.nn import functional

from sap_core.errors import UserError
from sap_core.models.copies import check_copies, copied

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Plain(nn.Module):
    """A convolution, a norm and a head."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, 4)

    def features(self, x):
        return self.norm(self.conv(x)).relu().mean((2, 3))

    def forward(self, x):
        return self.fc(self.features(x))


def with_forward():
    model = Plain()
    model.forward = lambda x: model.fc(model.features(x))
    return model


def with_wrapped_forward():
    model = Plain()
    original = model.forward
    model.forward = lambda x: 2 * original(x)
    return model


def with_forward_of_a_part():
    model = Plain()
    layer = model.fc
    layer.forward = lambda x: functional.linear(x, layer.weight, layer.bias)
    return model


def with_a_detached_weight():
    model = Plain()
    weight = model.fc.weight.detach()
    model.fc.forward = lambda x: x @ weight.mT
    return model


def with_a_norm_of_the_original():
    model = Plain()
    norm = model.norm
    norm.forward = lambda x: functional.batch_norm(x, norm.running_mean, norm.running_var)
    return model


def with_a_hook():
    model = Plain()
    model.conv.register_forward_hook(lambda module, args, output: output * model.conv.weight.mean())
    return model


def with_fixed_weights():
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    weight = model[1].weight.detach().clone()
    model.forward = lambda x: x.flatten(1) @ weight.mT
    return model


class InALambda(Plain):
    def __init__(self):
        super().__init__()
        self.head = lambda x: self.fc(x)

    def forward(self, x):
        return self.head(self.features(x))


class ThroughTheOriginal(Plain):
    """Its hook stores what it saw in the original, whoever runs."""

    def __init__(self):
        super().__init__()
        original = self

        def keep(module, args, output):
            original.seen = output

        self.norm.register_forward_hook(keep)

    def forward(self, x):
        self.norm(self.conv(x))
        return self.fc(self.seen.mean((2, 3)))


class CopiedAsItself(Plain):
    def __deepcopy__(self, memo):
        return self


class WithALock(Plain):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (with_forward, r"computes with the original's weights \('conv.weight'\)"),
        (with_wrapped_forward, "computes with the original's weights"),
        (with_forward_of_a_part, r"computes with the original's weights \('fc.weight'\)"),
        (with_a_detached_weight, r"computes with the original's weights \('fc.weight'\)"),
        (with_a_norm_of_the_original, r"computes with the original's weights \('norm.running_mean'\)"),
        (with_a_hook, r"computes with the original's weights \('conv.weight'\)"),
        (with_fixed_weights, "does not compute with its own parameters"),
        (InALambda, r"computes with the original's weights \('fc.weight'\)"),
        (ThroughTheOriginal, "computes something else than the original"),
        (CopiedAsItself, "computes with the original's weights"),
        (WithALock, r"cannot be copied \(TypeError: cannot pickle"),
    ],
)
def test_they_are_refused_and_not_changed(make, said):
    model = make()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with pytest.raises(UserError, match=said) as error:
        check_copies(model, IMAGES, "model=mine")
    assert "model=mine" in str(error.value)
    assert "\n" not in str(error.value)
    assert all(torch.equal(now, then) for now, then in zip(model.parameters(), before, strict=True))


class KeepsResults(Plain):
    """Keeps activations, as networks do whose attention maps are drawn."""

    def forward(self, x):
        self.kept = [self.features(x)]
        self.last = self.kept[0] * 2
        return self.fc(self.kept[0])


class MethodAsHook(Plain):
    def __init__(self):
        super().__init__()
        self.norm.register_forward_hook(self.keep)

    def keep(self, module, args, output):
        self.seen = output

    def forward(self, x):
        self.norm(self.conv(x))
        return self.fc(self.seen.mean((2, 3)))


def recording():
    model, shapes = Plain(), []
    model.conv.register_forward_hook(lambda module, args, output: shapes.append(output.shape))
    return model


class Random(Plain):
    def forward(self, x):
        return super().forward(x) + torch.rand(1)


class ZeroHead(Plain):
    def __init__(self):
        super().__init__()
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)


class Nothing(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :4]


@pytest.mark.parametrize(
    "make",
    [
        Plain, KeepsResults, MethodAsHook, recording, Random, ZeroHead, Nothing,
        lambda: torch.jit.trace(Plain().eval(), IMAGES), lambda: nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(192, 4)),
        lambda: Plain().requires_grad_(False),
    ],
)  # fmt: skip
def test_others_are_accepted(make):
    state = torch.get_rng_state()
    model = make()
    between = torch.get_rng_state()
    check_copies(model, IMAGES, "model=mine")
    assert torch.equal(torch.get_rng_state(), between)
    torch.set_rng_state(state)


def test_results_of_the_last_pass_can_be_copied_while_they_belong_to_a_graph():
    model = KeepsResults()
    model(IMAGES).sum().backward()
    with pytest.raises(RuntimeError):
        copy.deepcopy(model)
    twin = copied(model)
    assert torch.equal(twin.last, model.last)
    assert not twin.last.requires_grad
    assert torch.equal(twin.eval()(IMAGES), model.eval()(IMAGES))
    assert not {id(p) for p in twin.parameters()} & {id(p) for p in model.parameters()}


class Masked(nn.Module):
    """A transformer that ignores some tokens; torch's fused kernel gives them other outputs than its separate operators."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder, self.fc = nn.TransformerEncoder(layer, 1), nn.Linear(8, 4)

    def forward(self, x):
        tokens = x.flatten(2).mT.reshape(len(x), -1, 8)
        ignored = torch.zeros(tokens.shape[:2], dtype=torch.bool).index_fill(1, torch.tensor([3]), True)
        return self.fc(self.encoder(tokens, src_key_padding_mask=ignored).mean(1))


def test_masked_transformers_are_accepted():
    check_copies(Masked(), IMAGES, "the network")

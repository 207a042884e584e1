"""Which weights are corrected, on tiny networks, against the network with projected inputs."""

from __future__ import annotations

import copy

import pytest
import torch
from small_networks import Net, draw
from torch import nn
from torch.nn import functional

from benchmarks.projected_inputs import projected_outputs
from sap_core import sap_project
from sap_core.errors import UserError
from sap_core.sap.refusal import find_weights
from sap_core.sap.weights import classify

torch.set_num_threads(1)

ALPHA = 5.0


TOKENS = draw(8, 5, 6, seed=1)
IMAGES = draw(4, 4, 6, 6, seed=2)


def parts_of(found):
    return set(found.sites), set(found.left), set(found.unreached), set(found.refused)


def corrects(model, x, names, meta=True, tolerance=1e-9):
    """The named weights, and no others, are corrected as if their inputs were projected."""
    torch.manual_seed(3)
    found = classify(model, x)
    assert not found.refused
    assert list(found.sites) == names
    parameters = {site.region.parameter for site in found.sites.values()}
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        corrected = sap_project(model, x, ALPHA, batch_size=3)
        expected, vanilla = projected_outputs(model, x, parameters, ALPHA), model(x)
        torch.testing.assert_close(corrected(x), expected, rtol=tolerance, atol=tolerance)
    assert (expected - vanilla).abs().max() > 1e-4
    own = dict(corrected.named_parameters())
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name])
        assert torch.equal(value, own[name]) != (name in parameters), name
    # Shapes suffice to decide, so a plan decides as the run does.
    if meta:
        assert parts_of(classify(copy.deepcopy(model).to("meta"), x.to("meta"))) == parts_of(found)
    return found


class Odd(nn.Linear):
    """A subclass."""


def in_two_orders(self, x):
    return self.a(x) + functional.linear(x.flip(1) ** 2, self.a.weight)


MATRICES = {
    "Linear": (lambda self, x: self.a(x), {"a": nn.Linear(6, 3)}, ["a"]),
    "Linear, called twice": (lambda self, x: self.a(self.a(x).tanh()), {"a": nn.Linear(6, 6)}, ["a"]),
    "Linear, subclass": (lambda self, x: self.a(x), {"a": Odd(6, 3)}, ["a"]),
    "Linear, called and used": (in_two_orders, {"a": nn.Linear(6, 3)}, ["a"]),
    "Linear without a call": (lambda self, x: functional.linear(x, self.a.weight, self.a.bias), {"a": nn.Linear(6, 3)}, ["a"]),
    "functional.linear": (lambda self, x: functional.linear(x, self.w), {"w": draw(3, 6)}, ["w"]),
    "@": (lambda self, x: x @ self.w, {"w": draw(6, 3)}, ["w"]),
    "@ from the left": (lambda self, x: self.w @ x.mT, {"w": draw(3, 6)}, ["w"]),
    "@ a vector": (lambda self, x: x @ self.w, {"w": draw(6)}, ["w"]),
    "@ of one sample each": (lambda self, x: torch.bmm(x, self.w.expand(len(x), 6, 3)), {"w": draw(6, 3)}, ["w"]),
    "one matrix per head": (lambda self, x: x.unsqueeze(1) @ self.w, {"w": draw(2, 6, 3)}, ["w"]),
    "einsum": (lambda self, x: torch.einsum("bnd,de->bne", x, self.w), {"w": draw(6, 3)}, ["w"]),
    "einsum, heads first": (lambda self, x: torch.einsum("bnd,hde->bhne", x, self.w), {"w": draw(2, 6, 3)}, ["w"]),
    "einsum, heads in the middle": (lambda self, x: torch.einsum("bnd,dhe->bhne", x, self.w), {"w": draw(6, 2, 3)}, ["w"]),
    "einsum, per head": (
        lambda self, x: torch.einsum("bnhd,hde->bnhe", x.unflatten(2, (2, 3)), self.w), {"w": draw(2, 3, 4)}, ["w"],
    ),
    "tensordot": (lambda self, x: torch.tensordot(x, self.w, dims=1), {"w": draw(6, 3)}, ["w"]),
    "addmm": (
        lambda self, x: torch.addmm(self.b, x.flatten(0, 1), self.w).unflatten(0, x.shape[:2]), {"w": draw(6, 3), "b": draw(3)}, ["w"],
    ),
    "parts of one parameter": (
        lambda self, x: torch.cat([functional.linear(x, self.w[:2]), functional.linear(x**2, self.w[2:])], -1), {"w": draw(6, 6)},
        ["w.0", "w.1"],
    ),
    "cast by automatic mixed precision": (
        lambda self, x: functional.linear(x, self.w.float().double()), {"w": draw(3, 6).float().double()}, ["w"],
    ),
    "NonDynamicallyQuantizableLinear": (
        lambda self, x: self.a(x), {"a": nn.modules.linear.NonDynamicallyQuantizableLinear(6, 3)}, ["a"],
    ),
    "recurrent cell": (lambda self, x: self.a(x[:, 1], self.a(x[:, 0])), {"a": nn.RNNCell(6, 6)}, ["a.weight_ih", "a.weight_hh"]),
    "Conv1d": (lambda self, x: self.a(x), {"a": nn.Conv1d(5, 4, 3, padding=2, stride=2, dilation=2)}, ["a"]),
    "Conv1d, circular": (lambda self, x: self.a(x), {"a": nn.Conv1d(5, 4, 3, padding=1, padding_mode="circular")}, ["a"]),
    "attention, subclass": (
        lambda self, x: self.a(x, x, x)[0], {"a": type("Own", (nn.MultiheadAttention,), {})(6, 2, batch_first=True)},
        ["a.in_proj_weight", "a.out_proj"],
    ),
    "attention across, subclass": (
        lambda self, x: self.a(x, x**2, x**2)[0], {"a": type("Own", (nn.MultiheadAttention,), {})(6, 2, batch_first=True)},
        ["a.in_proj_weight.0", "a.in_proj_weight.1", "a.in_proj_weight.2", "a.out_proj"],
    ),
    "attention of a function": (
        lambda self, x: functional.multi_head_attention_forward(
            *3 * [x.transpose(0, 1)], 6, 2, self.w, None, None, None, False, 0.0, self.o, None, training=False
        )[0].transpose(0, 1),
        {"w": draw(18, 6), "o": draw(6, 6)}, ["w", "o"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MATRICES, ids=MATRICES.keys())
def test_a_matrix_of_weights_is_corrected_wherever_it_is_multiplied(case):
    torch.manual_seed(0)
    forward, parts, names = MATRICES[case]
    corrects(Net(forward, **copy.deepcopy(parts)), TOKENS, names, tolerance=1e-5 if "precision" in case else 1e-9)


CONVOLUTIONS = {
    "same": nn.Conv2d(4, 6, (3, 2), padding="same", dilation=2),
    "reflect": nn.Conv2d(4, 6, 3, padding=2, padding_mode="reflect"),
    "circular, groups": nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular", groups=2, stride=2),
    "subclass": type("Own", (nn.Conv2d,), {})(4, 6, 3, padding=1),
    "subclass, groups and stride": type("Own", (nn.Conv2d,), {})(4, 8, 3, padding=1, groups=4, stride=(2, 1), dilation=(1, 2)),
    "transposed": nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1),
    "transposed, groups": nn.ConvTranspose2d(4, 6, 3, groups=2, stride=2, dilation=2),
    "channels last": nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last),
    "channels last, subclass": type("Own", (nn.Conv2d,), {})(4, 6, 3).to(memory_format=torch.channels_last),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")  # of torch, about its speed
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_convolutions_of_every_kind_are_corrected(kind):
    corrects(Net(lambda self, x: self.a(x), a=copy.deepcopy(CONVOLUTIONS[kind])), IMAGES, ["a"])


@pytest.mark.parametrize(
    "conv",
    [nn.Conv3d(2, 4, (1, 2, 3), padding=(0, 1, 2), stride=(1, 1, 2), groups=2), nn.ConvTranspose1d(4, 2, 3), nn.ConvTranspose3d(2, 3, 2)],
)
def test_convolutions_of_one_and_three_dimensions(conv):
    """Against unfolded patches, by hand."""
    torch.manual_seed(0)
    dimensions = conv.weight.ndim - 2
    x = draw(3, conv.in_channels, *(4, 5, 6)[:dimensions])
    model = Net(lambda self, x: self.a(x), a=conv)
    corrected = sap_project(model, x, ALPHA).a
    if conv.transposed:
        rows, matrix = x.movedim(1, -1).flatten(0, -2), conv.weight.flatten(1).T
        expected = (matrix @ projector(rows)).T.reshape(conv.weight.shape)
    else:
        sides = [side for sides in reversed(conv.padding) for side in (sides, sides)]
        padded = functional.pad(x, sides)
        expected = torch.empty_like(conv.weight)
        for group in range(conv.groups):
            patches = padded.chunk(conv.groups, 1)[group]
            for axis, (size, step) in enumerate(zip(conv.kernel_size, conv.stride, strict=True), start=2):
                patches = patches.unfold(axis, size, step)
            rows = patches.movedim(1, dimensions + 1).flatten(0, dimensions).flatten(1)
            weight = conv.weight.chunk(conv.groups, 0)[group]
            expected.data[group * len(weight) :][: len(weight)] = (weight.flatten(1) @ projector(rows)).view_as(weight)
    torch.testing.assert_close(corrected.weight, expected, rtol=1e-9, atol=1e-10)


def projector(rows_ND):
    _, values, directions = torch.linalg.svd(rows_ND, full_matrices=False)
    energy = values**2 / (values**2).sum()
    return directions.T @ torch.diag(ALPHA * energy / ((ALPHA - 1) * energy + 1)) @ directions


def test_tied_layers_get_the_inputs_of_both():
    first, second = nn.Linear(6, 6), nn.Linear(6, 6)
    second.weight = first.weight
    model = Net(lambda self, x: self.second(self.first(x).tanh()), first=first, second=second)
    found = corrects(model, TOKENS, ["first"], meta=False)  # `to` unties parameters
    assert found.sites["first"].calls == (("first", ""), ("second", ""))
    corrected = sap_project(model, TOKENS, ALPHA)
    assert corrected.first.weight is corrected.second.weight
    hidden = first(TOKENS).tanh().detach()
    rows = torch.cat([TOKENS, hidden]).flatten(0, 1)
    torch.testing.assert_close(corrected.first.weight, first.weight @ projector(rows), rtol=1e-9, atol=1e-9)


def test_parameters_in_one_memory_are_told_apart():
    model = Net(lambda self, x: self.b(self.a(x)), a=nn.Linear(6, 4), b=nn.Linear(4, 3))
    nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(model.parameters()), model.parameters())
    corrects(model, TOKENS, ["a", "b"])


def with_constants(self, x):
    x = torch.cat([self.token.expand(len(x), 1, 6), x + self.position], 1)
    x = functional.layer_norm(x, (6, 6), self.norm) * self.scale
    score = (x @ x.mT) * self.logit_scale + self.bias_table[self.index].view(6, 6)
    x = x + self.gamma * self.a(score @ x) + self.moved(self.coordinates)
    query = self.ask(self.latent).expand(len(x), 2, 6)
    return self.head(functional.scaled_dot_product_attention(query, x, x, attn_mask=self.mask))


def test_additive_and_elementwise_parameters_of_any_shape_are_left():
    torch.manual_seed(0)
    model = Net(
        with_constants, a=nn.Linear(6, 6), head=nn.Linear(6, 3), token=draw(1, 1, 6), position=draw(1, 5, 6), norm=draw(6, 6),
        scale=draw(6, 1), gamma=draw(1, 1, 6), logit_scale=draw(1, 1, 1), bias_table=draw(11, 1), mask=draw(2, 6), moved=nn.Linear(2, 6),
        ask=nn.Linear(6, 6), latent=draw(1, 2, 6),
    )  # fmt: skip
    model.register_buffer("index", torch.arange(36) % 11)
    model.register_buffer("coordinates", draw(6, 2))
    found = corrects(model, TOKENS, ["a", "head"])
    added = {"token", "position", "norm", "scale", "gamma", "logit_scale", "bias_table", "mask", "latent"}
    constant = {"moved.weight", "ask.weight"}
    assert set(found.left) == added | constant
    assert {name for name, reason in found.left.items() if reason == "multiplies constants"} == constant | {"latent"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_corrected_with_moments_in_double_precision(dtype):
    model = nn.Sequential(nn.Linear(6, 4), Odd(4, 3)).to(dtype)
    x = TOKENS.to(dtype)
    corrected = sap_project(model, x, ALPHA)
    for layer, rows in ((0, x), (1, model[0](x))):
        expected = model[layer].weight.double() @ projector(rows.double().flatten(0, 1))
        assert corrected[layer].weight.dtype == dtype
        torch.testing.assert_close(corrected[layer].weight, expected.to(dtype))


def test_the_pass_changes_nothing_that_can_be_seen():
    """Random state, flags, hooks and an input that the network overwrites."""
    model = Net(lambda self, x: self.a(x.mul_(2)) + 0 * torch.rand(1), a=Odd(6, 3)).train()
    x, state = TOKENS.clone(), torch.random.get_rng_state()
    classify(model, x)
    assert torch.equal(x, TOKENS)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())  # noqa: SLF001


@pytest.mark.parametrize("wrap", [torch.no_grad, torch.inference_mode])
def test_passes_without_gradients_of_their_own(wrap):
    corrects(Net(lambda self, x: wrap()(lambda: self.b(self.a(x)) + 0)(), a=nn.Linear(6, 4), b=Odd(4, 3)), TOKENS, ["a", "b"])


def test_checkpointed_frozen_and_wrapped_networks():
    from torch.utils.checkpoint import checkpoint

    model = Net(lambda self, x: self.b(checkpoint(self.a, x, use_reentrant=False)), a=nn.Linear(6, 4), b=Odd(4, 3))
    corrects(model.requires_grad_(False), TOKENS, ["a", "b"])
    assert sap_project(nn.DataParallel(model, device_ids=[]), TOKENS, ALPHA).state_dict().keys() == model.state_dict().keys()
    wrapped = nn.DataParallel(model, device_ids=[])
    wrapped.device_ids = [0, 1]
    with pytest.raises(UserError, match=r"wrapped in DataParallel, .* give it the network inside, model.module"):
        find_weights(wrapped, TOKENS)

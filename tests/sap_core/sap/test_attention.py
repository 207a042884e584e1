"""Inputs of the weights of torch's attention, against attention written out."""

import math

import pytest
import torch
from torch import nn

from sap_core.sap import gram
from sap_core.sap.attention import out_proj_inputs, qkv_inputs
from sap_core.sap.layers import LinearInputs
from sap_core.sap.library import sap_project
from sap_core.sap.project import with_weights
from sap_core.sap.weights import classify

torch.set_num_threads(1)


class Net(nn.Module):
    """One attention whose three inputs are made from the network's, and a head."""

    def __init__(self, attention, arguments):
        super().__init__()
        self.attention, self.arguments = attention, arguments
        self.head = nn.Linear(attention.embed_dim, 3, dtype=torch.float64)

    def forward(self, x):
        args, kwargs = self.arguments(x)
        return self.head(self.attention(*args, **kwargs)[0].mean(-2))


def attention(width=6, heads=2, **options):
    torch.manual_seed(0)
    made = nn.MultiheadAttention(width, heads, batch_first=True, dtype=torch.float64, **options).eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter)
    return made


def tokens(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def written_out(module, query, key, value, mask=None):
    """(B, T, E) what the heads gather: softmax(q k^T / sqrt(width)) v, head by head."""
    width = module.embed_dim // module.num_heads
    biases = [0, 0, 0] if module.in_proj_bias is None else module.in_proj_bias.chunk(3)
    weights = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
    if module.in_proj_weight is not None:
        weights = module.in_proj_weight.chunk(3)
    q, k, v = (x @ w.T + b for x, w, b in zip((query, key, value), weights, biases, strict=True))
    heads = []
    for first in range(0, module.embed_dim, width):
        columns = slice(first, first + width)
        score = q[..., columns] @ k[..., columns].mT / math.sqrt(width)
        heads.append((score if mask is None else score.masked_fill(mask, -math.inf)).softmax(-1) @ v[..., columns])
    return torch.cat(heads, dim=-1)


X, Y = tokens(4, 5, 6), tokens(4, 7, 6)
PADDED = torch.arange(5).expand(4, 5) >= torch.tensor([[5], [4], [3], [2]])
CAUSAL = torch.ones(5, 5, dtype=torch.bool).triu(1)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("heads", [2, 3])  # torch's fused kernel takes even numbers only
@pytest.mark.parametrize(
    ("args", "kwargs", "mask"),
    [
        ((X, X, X), {}, None),
        ((X, X, X), {"need_weights": False}, None),
        ((), {"query": X, "key": X, "value": X}, None),
        ((X, Y, Y), {"need_weights": False}, None),
        ((X, X, X), {"key_padding_mask": PADDED}, PADDED[:, None]),
        ((X, X, X), {"attn_mask": CAUSAL, "need_weights": False}, CAUSAL),
        ((X[0], X[0], X[0]), {}, None),
    ],
)
def test_the_heads_are_those_written_out(bias, heads, args, kwargs, mask):
    module = attention(heads=heads, bias=bias)
    with torch.no_grad():
        query, key, value = qkv_inputs(module, args, kwargs)
        expected = written_out(module, query, key, value, mask)
        torch.testing.assert_close(out_proj_inputs(module, args, kwargs), expected, rtol=1e-12, atol=1e-12)
        out = module(*args, **kwargs)[0]
    torch.testing.assert_close(module.out_proj(expected), out, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", [{"add_bias_kv": True}, {"add_zero_attn": True}, {"kdim": 5, "vdim": 4}])
def test_out_proj_inputs_give_the_output_for_every_kind_of_keys(options):
    module = attention(**options)
    args = (X, tokens(4, 7, module.kdim), tokens(4, 7, module.vdim))
    with torch.no_grad():
        torch.testing.assert_close(module.out_proj(out_proj_inputs(module, args, {})), module(*args)[0], rtol=1e-12, atol=1e-12)


def test_the_repeated_call_changes_neither_module_nor_hooks():
    module, seen = attention(), []
    module.register_forward_pre_hook(lambda *_: seen.append(1))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    out_proj_inputs(module, (X, X, X), {})
    assert not seen
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def moments_of(module, arguments):
    model = Net(module, arguments)
    sites = classify(model, X).sites
    return model, gram.observe(model, sites, gram.init_moments(sites), X)


def test_self_attention_shares_one_gram_and_counts_it_once(monkeypatch):
    calls, plain = [], LinearInputs.partial_gram
    monkeypatch.setattr(LinearInputs, "partial_gram", lambda self, x: calls.append(self.inputs) or plain(self, x))
    model, seen = moments_of(attention(), lambda x: ((x, x, x), {"need_weights": False}))
    assert list(seen) == ["attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.out_proj", "head"]
    assert seen["attention.q_proj"] is seen["attention.k_proj"] is seen["attention.v_proj"] is not seen["attention.out_proj"]
    assert len(calls) == 2, "the head saw fewer rows than inputs"
    rows = X.reshape(-1, 6)
    torch.testing.assert_close(seen["attention.q_proj"].gram[0], rows.T @ rows)
    heads = written_out(model.attention, X, X, X).reshape(-1, 6)
    torch.testing.assert_close(seen["attention.out_proj"].gram[0], heads.T @ heads)
    assert gram.total_flops(seen) == 2 * 20 * 2 * 6**2


def test_attention_across_two_sequences_has_a_gram_for_each():
    _, seen = moments_of(attention(), lambda x, y=Y: ((x, *2 * [y[: len(x)]]), {}))
    assert seen["attention.q_proj"] is not seen["attention.k_proj"] is seen["attention.v_proj"]
    torch.testing.assert_close(seen["attention.k_proj"].gram[0], Y.reshape(-1, 6).T @ Y.reshape(-1, 6))
    assert [seen[f"attention.{letter}_proj"].count for letter in "qkv"] == [20, 28, 28]


@pytest.mark.parametrize("options", [{}, {"kdim": 5, "vdim": 4}])
def test_weights_are_the_rows_and_parameters_they_name(options):
    wide = attention(**options)
    model = Net(wide, lambda x: ((x, x[..., : wide.kdim], x[..., : wide.vdim]), {}))
    found = classify(model, X).sites
    assert [site.calls[0][0] for site in found.values()] == ["attention"] * 4 + ["head"]
    shapes = {name: site.region.read(dict(model.named_parameters())) for name, site in found.items()}
    marked = with_weights(model, found, {name: torch.full_like(each, float(place)) for place, (name, each) in enumerate(shapes.items())})
    module = marked.attention
    blocks = module.in_proj_weight.chunk(3) if not options else (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
    for place, weight in enumerate((*blocks, module.out_proj.weight, marked.head.weight)):
        assert (weight == place).all()
    torch.testing.assert_close(marked.attention.in_proj_bias, model.attention.in_proj_bias, rtol=0, atol=0)


def projector(columns_ND, alpha):
    """(D, D) by the definition, from a singular value decomposition."""
    _, values, directions = torch.linalg.svd(columns_ND, full_matrices=False)
    energy = values**2 / (values**2).sum()
    return directions.T @ torch.diag(alpha * energy / ((alpha - 1) * energy + 1)) @ directions


@pytest.mark.parametrize(
    "arguments",
    [lambda x: ((x, x, x), {"need_weights": False}), lambda x, y=Y: ((x, *2 * [y[: len(x)]]), {}), lambda x: ((x, x.flip(1), x), {})],
)
def test_projected_weights_do_what_projected_inputs_do(arguments):
    model = Net(attention(), arguments)
    alpha = 5.0
    with torch.no_grad():
        corrected = sap_project(model, X, alpha)(X)
        query, key, value = qkv_inputs(model.attention, *arguments(X))
        heads = written_out(model.attention, query, key, value)
        pooled = model.attention.out_proj(heads).mean(-2)
        query, key, value = (x @ projector(x.reshape(-1, 6), alpha) for x in (query, key, value))
        through = written_out(model.attention, query, key, value) @ projector(heads.reshape(-1, 6), alpha)
        expected = model.head(model.attention.out_proj(through).mean(-2) @ projector(pooled, alpha))
        vanilla = model(X)
    torch.testing.assert_close(corrected, expected, rtol=1e-10, atol=1e-10)
    assert (corrected - vanilla).abs().max() > 1e-3


def test_an_encoder_layer_is_supported():
    """torch's own `TransformerEncoderLayer` leaves its fused path when hooks are attached."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), nn.Linear(6, 2)).double()
    corrected = sap_project(model, X, 10.0)
    assert not torch.equal(corrected[0].self_attn.in_proj_weight, model[0].self_attn.in_proj_weight)
    assert torch.equal(corrected[0].norm1.weight, model[0].norm1.weight)

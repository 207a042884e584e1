"""What SAP refuses or leaves: by name, with reasons, and with remedies that work as they are written."""

from __future__ import annotations

import re
import warnings
from fnmatch import fnmatch

import pytest
import torch
from small_networks import Net, draw
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune

from sap_core import sap_project
from sap_core.errors import UserError
from sap_core.sap.weights import classify

torch.set_num_threads(1)

ALPHA = 5.0


TOKENS = draw(8, 5, 6, seed=1)


class Scaled(nn.Linear):
    """A subclass that multiplies with a computed weight."""

    def forward(self, x):
        return functional.linear(x, self.weight * 2, self.bias)


class Heads(nn.Module):
    """An auxiliary head that only a pass in training mode reaches."""

    def __init__(self):
        super().__init__()
        self.body, self.aux, self.head = nn.Linear(6, 4), nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x):
        x = self.body(x)
        return (self.head(x), self.aux(x)) if self.training else self.head(x)


def test_layers_that_no_pass_reaches_are_left_with_one_warning():
    model, x = Heads(), torch.randn(8, 6)
    with pytest.warns(UserWarning, match=r"no pass in evaluation mode reaches aux\.weight, so SAP leaves") as seen:
        corrected = sap_project(model.train(), x, ALPHA)
    assert len(seen) == 1
    assert torch.equal(corrected.aux.weight, model.aux.weight)
    assert not torch.equal(corrected.body.weight, model.body.weight)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sap_project(model, x, ALPHA, leave=("aux.*",))


def tied_both_ways(self, x):
    return functional.linear(functional.linear(x, self.w).tanh(), self.w.T)


def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of TorchScript
        return torch.jit.script(nn.Linear(6, 3).double())


REFUSED = {
    "Embedding": (lambda self, x: self.odd((x > 0).long()).sum(2), lambda: nn.Embedding(3, 2), "odd.weight", "activations select its rows"),
    "Bilinear": (lambda self, x: self.odd(x, x), lambda: nn.Bilinear(6, 6, 2), "odd.weight", "torch's operator _trilinear reads it"),
    "GRU": (lambda self, x: self.odd(x)[0], lambda: nn.GRU(6, 2), "odd.weight_ih_l0", "it belongs to a recurrent layer"),
    "weight norm": (
        lambda self, x: self.odd(x), lambda: parametrizations.weight_norm(nn.Linear(6, 2)), "odd.parametrizations.weight.original0",
        "a matrix computed from it is multiplied with activations",
    ),
    "spectral norm": (
        lambda self, x: self.odd(x), lambda: parametrizations.spectral_norm(nn.Linear(6, 2)), "odd.parametrizations.weight.original",
        "a matrix computed from it is multiplied with activations",
    ),
    "subclass": (lambda self, x: self.odd(x), lambda: Scaled(6, 2), "odd.weight", "a matrix computed from it"),
    "both sides": (tied_both_ways, lambda: None, "w", "it is multiplied with activations in different ways"),
    "matrix and bias": (lambda self, x: x[:, :3] @ self.w.T + self.w.mean(), lambda: None, "w", "and also added"),
    "query": (
        lambda self, x: functional.scaled_dot_product_attention(self.w.expand(len(x), 3, 6), x, x), lambda: None, "w",
        "it is a query, key or value of attention",
    ),
    "distance": (lambda self, x: torch.cdist(x, self.w), lambda: None, "w", "torch's operator _euclidean_dist|_cdist_forward"),
    "low rank": (lambda self, x: functional.linear(x, self.w.T @ self.w), lambda: None, "w", "a matrix computed from it"),
    "generated": (
        lambda self, x: functional.linear(x, self.odd(self.w)), lambda: nn.Linear(6, 6), "odd.weight", "a matrix computed from it",
    ),
    "circulant": (
        lambda self, x: functional.linear(x, self.v[(torch.arange(6) - torch.arange(6)[:, None]) % 6]), lambda: None, "v",
        "a matrix computed from it",
    ),
    "complex": (lambda self, x: (x.cfloat() @ self.c).real, lambda: None, "c", "it is complex"),
    "TorchScript": (lambda self, x: self.odd(x), scripted, "odd.weight", "it belongs to a TorchScript module"),
}  # fmt: skip


def refused_net(kind):
    torch.manual_seed(0)
    forward, part, _, _ = REFUSED[kind]
    model = Net(lambda self, x: self.fine(x).sum(-1).mean() + forward(self, x).sum(-1), fine=nn.Linear(6, 2))
    if (odd := part()) is not None:
        model.odd = odd.double()
    for name, parameter in {"w": draw(3, 6) if kind != "generated" else draw(6, 6), "v": draw(6)}.items():
        setattr(model, name, nn.Parameter(parameter))
    if kind == "complex":
        model.c = nn.Parameter(torch.complex(draw(6, 3), draw(6, 3)).cfloat())
    return model


def pruned():
    model = nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 2))
    for layer in model:
        prune.random_unstructured(layer, "weight", 0.5)
    return model


WHOLE = {
    "pruned": (pruned, "torch.nn.utils.prune.remove(module, 'weight')"),
    "weight norm": (
        lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 2))),
        "torch.nn.utils.parametrize.remove_parametrizations(module, 'weight')",
    ),
    "TorchScript": (lambda: nn.Sequential(scripted()), "use the network from which torch.jit made it"),
    "cosine": (lambda: Net(lambda self, x: x @ functional.normalize(self.w), w=draw(6, 3)), "; use another network"),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_network_of_which_nothing_could_be_corrected_is_refused_with_that_reason(kind):
    make, remedy = WHOLE[kind]
    with pytest.raises(UserError) as error:
        sap_project(make().double(), TOKENS, ALPHA)
    assert remedy in str(error.value)
    assert re.search(r"use another network, since with leave=\(.*,\) nothing would be left to correct$", str(error.value))


def hides(forward, **parts):
    return Net(lambda self, x: self.head(forward(self, x)), head=nn.Linear(6, 2), **parts)


def listed(self, x):
    return self.layers[0](x)


HIDDEN = {
    "list": (listed, {"layers": [nn.Linear(6, 6).double()]}, "layers.0.weight"),
    "dict": (lambda self, x: self.layers["a"][0](x), {"layers": {"a": (nn.Linear(6, 6).double(),)}}, "layers.a.0.weight"),
    "tensor": (lambda self, x: x @ self.layers[0], {"layers": [draw(6, 6).requires_grad_()]}, "layers.0"),
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_weights_that_are_no_parameters_are_refused_where_they_are_used(kind):
    forward, parts, name = HIDDEN[kind]
    model = hides(forward, **parts)
    with pytest.raises(UserError, match=re.escape(f"'{name}' of Net (it is no parameter of the network")) as error:
        sap_project(model, TOKENS, ALPHA)
    assert f"leave=('{name}',)" in str(error.value)
    sap_project(model, TOKENS, ALPHA, leave=(name,))
    # A teacher that is hidden from the optimiser, or a second list of registered layers, is no part of the pass.
    unused = hides(lambda self, x: x, **parts)
    unused.registered = [unused.head]
    sap_project(unused, TOKENS, ALPHA)


def test_a_matrix_product_by_multiplication_and_sum_is_refused():
    model = hides(lambda self, x: (x[..., None, :] * self.w).sum(-1), w=draw(6, 6))
    with pytest.raises(UserError, match=r"'w' of Net \(it is multiplied element by element with repeated activations\)"):
        sap_project(model, TOKENS, ALPHA)


@pytest.mark.parametrize("shape", [(6,), (5, 6), (1, 5, 6), (5, 1), (1, 1)])
def test_scales_of_activations_are_left(shape):
    model = hides(lambda self, x: x * self.w, w=draw(*shape))
    assert "w" not in classify(model, TOKENS).refused


@pytest.mark.parametrize("kind", REFUSED)
def test_anything_else_is_refused_by_name_with_the_option_that_leaves_it(kind):
    model = refused_net(kind)
    _, _, name, reason = REFUSED[kind]
    with pytest.raises(UserError, match=rf"'{name}' of .*({reason})") as refusal:
        sap_project(model, TOKENS, ALPHA)
    # The remedy works as it is written.
    remedy = str(refusal.value).rpartition("leave=(")[2].partition(")")[0]
    leave = tuple(each.strip("' ") for each in remedy.split(",") if each.strip())
    assert any(fnmatch(name, each) for each in leave)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        corrected = sap_project(model, TOKENS, ALPHA, leave=leave)
    changed = {name for name, value in corrected.named_parameters() if not torch.equal(value, dict(model.named_parameters())[name])}
    assert changed == {"fine.weight"}
    if kind != "TorchScript":
        meta = classify(model.to("meta"), TOKENS.to("meta"))
        assert name in meta.refused


def test_a_computed_weight_of_the_old_kind_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch recommends the parametrisation
        old = nn.utils.weight_norm(nn.Linear(6, 3))
    with pytest.raises(UserError, match=r"'odd.weight_v' of Linear"):
        sap_project(Net(lambda self, x: self.odd(x), odd=old), TOKENS, ALPHA)
    bare = nn.Linear(6, 3)
    del bare.weight
    bare.weight = draw(3, 6)
    with pytest.raises(UserError, match=r"'odd.weight' of Linear \(it is computed and no parameter\)"):
        sap_project(Net(lambda self, x: self.odd(x), odd=bare), TOKENS, ALPHA)


def test_names_that_differ_in_numbers_are_one_pattern():
    blocks = [nn.Sequential(nn.Linear(6, 6), Scaled(6, 6)) for _ in range(3)]
    with pytest.raises(UserError, match=r"'blocks.0.1.weight' of Scaled and 2 more like it") as refusal:
        sap_project(Net(lambda self, x: self.blocks(x), blocks=nn.Sequential(*blocks)), TOKENS, ALPHA)
    # A pattern of all blocks would leave the fine layers, too.
    assert "leave=('blocks.0.1.weight', 'blocks.1.1.weight', 'blocks.2.1.weight',)" in str(refusal.value)


@pytest.mark.parametrize(
    ("leave", "said"),
    [
        (("hed.*",), r"no parameter of the network matches 'hed\.\*'; its parameters are a.weight, a.bias, head.weight"),
        (("*",), "nothing to correct .* shorten leave"),
        ("head.*", r"must be a list of patterns .* leave=\('head"),
    ],
)
def test_patterns_that_leave_nothing_or_all_are_refused(leave, said):
    with pytest.raises(UserError, match=said):
        sap_project(Net(lambda self, x: self.head(self.a(x)), a=nn.Linear(6, 4), head=nn.Linear(4, 3)), TOKENS, ALPHA, leave=leave)


def test_left_layers_stay_and_the_others_are_corrected():
    model = Net(lambda self, x: self.head(self.a(x)), a=nn.Linear(6, 4), head=nn.Linear(4, 3))
    corrected = sap_project(model, TOKENS, ALPHA, leave=["head.*"])
    assert torch.equal(corrected.head.weight, model.head.weight)
    assert torch.equal(corrected.a.weight, sap_project(model, TOKENS, ALPHA).a.weight)


def test_a_network_without_matrices_is_refused():
    with pytest.raises(UserError, match=r"nothing to correct in BatchNorm1d, .* use a network with linear layers or convolutions"):
        sap_project(nn.BatchNorm1d(6), torch.randn(8, 6), ALPHA)


def test_quantised_layers_are_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces another package
        model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Conv1d(5, 2, 1)), {nn.Linear})
        with pytest.raises(UserError, match=r"'0.weight' of Linear \(it is quantised\)"):
            sap_project(model, TOKENS.float(), ALPHA)


def test_a_weight_without_inputs_is_refused_by_name():
    """An expert that no trusted sample reaches."""

    def routed(self, x):
        chosen = x[:, 0] > 1e9 if len(x) != 2 else torch.ones(2, dtype=torch.bool)
        return self.a(x) + self.expert(x[chosen]).sum()

    model = Net(routed, a=nn.Linear(6, 3), expert=nn.Linear(6, 3))
    with pytest.raises(UserError, match="weight 'expert' got no input from the trusted samples"):
        sap_project(model, TOKENS.flatten(0, 1), ALPHA)

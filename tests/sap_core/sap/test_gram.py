"""Second moments against unfolded patches."""

import copy

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from sap_core.im2col import ConvInputs
from sap_core.sap import gram
from sap_core.sap.layers import LinearInputs
from sap_core.sap.weights import classify

torch.set_num_threads(1)


def unfolded(conv, x):
    """(groups, inputs, columns): torch's own unfold on explicitly padded float64 images."""
    x = x.double()
    tall, wide = (d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True))
    if conv.padding == "same":
        pad = (wide // 2, wide - wide // 2, tall // 2, tall - tall // 2)
    elif conv.padding == "valid":
        pad = (0, 0, 0, 0)
    else:
        pad = (conv.padding[1], conv.padding[1], conv.padding[0], conv.padding[0])
    x = functional.pad(x, pad, "constant" if conv.padding_mode == "zeros" else conv.padding_mode)
    columns = functional.unfold(x, conv.kernel_size, conv.dilation, 0, conv.stride)  # (B, channels * taps, L)
    return torch.stack([part.transpose(0, 1).flatten(1) for part in columns.chunk(conv.groups, dim=1)])


def close(a, b, tolerance=1e-12):
    return torch.linalg.norm(a - b) <= tolerance * torch.linalg.norm(b) + 1e-300


@st.composite
def convolutions(draw):
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    small = st.integers(1, 3)
    stride = draw(st.one_of(st.just((1, 1)), st.tuples(small, small)))
    mode = draw(st.sampled_from(["zeros", "zeros", "reflect", "replicate", "circular"]))
    padding = draw(st.one_of(st.tuples(st.integers(0, 2), st.integers(0, 2)), st.sampled_from(["same", "valid"])))
    return nn.Conv2d(
        groups * draw(small),
        groups * draw(small),
        draw(st.one_of(st.just((3, 3)), st.tuples(st.integers(1, 4), st.integers(1, 4)))),
        stride=(1, 1) if padding == "same" else stride,
        padding=padding,
        dilation=draw(st.one_of(st.just((1, 1)), st.tuples(small, small))),
        groups=groups,
        padding_mode=mode,
        dtype=torch.float64,
    )


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")  # of torch, about its speed
@given(convolutions(), st.integers(1, 7), st.integers(1, 7), st.integers(1, 5), st.integers(0, 2**32), st.data())
def test_conv_moments_equal_unfold_for_any_split(conv, height, width, count, seed, data):
    x = torch.randn(count, conv.in_channels, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    try:
        conv(x)
    except RuntimeError:  # the kernel does not fit, or the border is wider than the image
        assume(False)
    columns = unfolded(conv, x)
    moments = gram.Moments(ConvInputs.from_module(conv))
    cuts = sorted(data.draw(st.sets(st.integers(1, count))) | {count})
    start = 0
    for stop in cuts:
        moments = moments.updated(x[start:stop])
        start = stop
    assert moments.count == columns.shape[2]
    if columns.shape[2] < columns.shape[1]:
        assert moments.gram is None
        found = moments.columns @ moments.columns.mT
    else:
        found = moments.gram
    assert close(found, columns @ columns.mT)
    assert close(moments.layout.gram(moments.layout.partial_gram(x)), columns @ columns.mT)


@given(st.sampled_from([1, 2]), st.integers(1, 4), st.integers(1, 8), st.integers(1, 8), st.integers(1, 4), st.booleans())
def test_shifted_correlations_equal_unfold(groups, channels, height, width, count, same):
    conv = nn.Conv2d(groups * channels, groups, 3, padding="same" if same else 1, groups=groups)
    layout = ConvInputs.from_module(conv)
    assert layout.by_correlations
    x = torch.randn(count, conv.in_channels, height, width, dtype=torch.float64) + 1
    columns = unfolded(conv, x)
    assert close(layout.gram(layout.partial_gram(x)), columns @ columns.mT, 1e-13)


@pytest.mark.parametrize("change", [{"stride": 2}, {"dilation": 2}, {"padding": 0}, {"padding": 2}, {"padding_mode": "reflect"}])
def test_other_geometries_go_through_patches(change):
    assert not ConvInputs.from_module(nn.Conv2d(4, 4, 3, **({"padding": 1} | change))).by_correlations


def test_chunks_do_not_change_the_sum(monkeypatch):
    x = torch.randn(7, 4, 6, 6)
    for conv in (nn.Conv2d(4, 2, 3, padding=1), nn.Conv2d(4, 2, 3, stride=2)):
        whole = ConvInputs.from_module(conv).partial_gram(x)
        with monkeypatch.context() as patch:
            patch.setattr("sap_core.im2col.CHUNK_BYTES", 1)
            patch.setattr("sap_core.im2col.CACHE_BYTES", 1)
            assert close(ConvInputs.from_module(conv).partial_gram(x), whole)
            assert len(list(ConvInputs.from_module(conv).column_chunks(x))) == 7


@given(st.lists(st.integers(1, 4), max_size=3), st.integers(1, 5))
@settings(max_examples=30)
def test_linear_takes_any_leading_dimensions(leading, width):
    x = torch.randn(*leading, width)
    rows = x.double().reshape(-1, width)
    moments = gram.Moments(LinearInputs.from_module(nn.Linear(width, 2))).updated(x)
    assert moments.count == len(rows)
    found = moments.columns @ moments.columns.mT if moments.gram is None else moments.gram
    assert found.dtype == torch.float64
    assert close(found[0], rows.T @ rows)


def test_moments_are_immutable():
    first = gram.Moments(LinearInputs(2)).updated(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    kept = first.gram.clone()
    first.updated(torch.randn(5, 2))
    assert torch.equal(first.gram, kept)


def test_rows_are_kept_only_while_they_are_fewer():
    layout = LinearInputs(4)
    three = gram.Moments(layout).updated(torch.randn(3, 4))
    assert three.gram is None
    assert three.columns.shape == (1, 4, 3)
    assert three.flops == 0
    four = three.updated(torch.randn(1, 4))
    assert four.columns is None
    assert four.stored == ()
    assert four.flops == 4 * 2 * 16


class Net(nn.Module):
    """A network out of named parts with a forward of its own."""

    def __init__(self, forward, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self._forward = forward

    def forward(self, x):
        return self._forward(self, x)


def sites_of(model, x):
    return classify(model, x).sites


def observed(model, x):
    sites = sites_of(model, x)
    return gram.observe(model, sites, gram.init_moments(sites), x)


def test_observe_sees_the_unmodified_model_in_evaluation_mode():
    norm = nn.BatchNorm2d(3)
    norm.running_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
    model = nn.Sequential(norm, nn.Dropout(0.9), nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(8, 2))
    model[0].eval()
    before, flags = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    x = torch.randn(9, 3, 2, 2)
    seen = observed(model, x)
    assert list(seen) == ["2", "4"]
    expected = unfolded(model[2], norm.eval()(x).detach())
    assert close(seen["2"].gram, expected @ expected.mT, 1e-7)
    assert [m.training for m in model.modules()] == flags
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert not any(m._forward_pre_hooks for m in model.modules())  # noqa: SLF001 - torch has no other way to ask


class Branches(nn.Module):
    """Two layers of one kind and one of another read the same tensor, then two read its ReLU, in place or not."""

    def __init__(self, inplace=False, copies=False):
        super().__init__()
        self.copies, self.inplace = copies, inplace
        self.a, self.b, self.wide = (nn.Conv2d(3, 4, kernel, padding=kernel // 2) for kernel in (1, 1, 3))
        self.c, self.d = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

    def forward(self, x):
        def of(x):
            return x.clone() if self.copies else x

        first = self.a(of(x)) + self.b(of(x)) + self.wide(of(x))
        x = x.relu_() if self.inplace else x.relu()
        return first + self.c(of(x)) + self.d(of(x))


def counted(monkeypatch):
    """The kernel sizes of all sums that are computed from now on."""
    calls, plain = [], ConvInputs.partial_gram
    monkeypatch.setattr(ConvInputs, "partial_gram", lambda self, x: calls.append(self.kernel[0]) or plain(self, x))
    return calls


@pytest.mark.parametrize("inplace", [False, True])
def test_layers_fed_by_the_same_tensor_share_one_gram(monkeypatch, inplace):
    batches = torch.randn(3, 5, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    calls = counted(monkeypatch)
    found = []
    for copies in (False, True):
        model = Branches(inplace, copies)
        sites = sites_of(model, batches[0].clone())
        moments = gram.init_moments(sites)
        for batch in batches:
            moments = gram.observe(model, sites, moments, batch.clone())
        found.append(moments)
    shared, apart = found
    assert sorted(calls[:9]) == [1] * 6 + [3] * 3  # per batch: (a, b), wide, (c, d)
    assert len(calls[9:]) == 15
    assert shared["a"] is shared["b"] is not shared["c"] is shared["d"]
    for name in apart:
        assert torch.equal(shared[name].gram, apart[name].gram)
        assert shared[name].count == apart[name].count
    assert not torch.equal(shared["a"].gram, shared["c"].gram)
    assert gram.total_flops(shared) == sum(shared[name].flops for name in ("a", "c", "wide")) < gram.total_flops(apart)


def test_layers_that_once_saw_different_tensors_share_no_more():
    model = Net(lambda self, x: self.a(x) + self.b(x.clone() if len(x) == 4 else x), a=nn.Linear(2, 2), b=nn.Linear(2, 2))
    sites = sites_of(model, torch.ones(2, 2))
    moments = gram.init_moments(sites)
    for count in (5, 4, 5):
        moments = gram.observe(model, sites, moments, torch.ones(count, 2))
        assert (moments["a"] is moments["b"]) == (moments["a"].count == 5)
    assert torch.equal(moments["a"].gram, moments["b"].gram)


def test_tensors_without_a_version_are_not_shared(monkeypatch):
    model, calls = Branches(), counted(monkeypatch)
    with torch.inference_mode():
        seen = observed(model, torch.randn(2, 3, 6, 6))
    assert len(calls) == 5
    assert torch.equal(seen["a"].gram, seen["b"].gram)


def test_inputs_are_kept_as_the_layer_saw_them():
    """A layer with fewer columns than inputs, followed by an in-place layer."""
    model = Net(lambda self, x: self.head(x) + 0 * x.mul_(5).sum(), head=nn.Linear(6, 2))
    x = torch.randn(4, 6)
    seen = observed(model, x.clone())["head"]
    assert torch.equal(seen.columns[0], x.double().T)


@pytest.mark.parametrize("count", [1, 8])
def test_divergence_names_the_layer(count):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    with torch.no_grad():
        model[0].bias[1] = float("inf")
    with pytest.raises(FloatingPointError, match="inputs of layer '1'"):
        gram.check_finite(observed(model, torch.randn(count, 3)))

"""SAP's variants against dense projectors, on both sides."""

import copy

import pytest
import torch
from torch import nn

from sap_core.api import Corrector, Need, Sizes, Task, UndeclaredNeed
from sap_core.data.samples import Preprocess, SampleView, TensorPixels
from sap_core.errors import UserError
from sap_core.run import PlainRun
from sap_core.sap.sap import SAP
from sap_core.sap.variants import SAPVariant

torch.set_num_threads(1)

FORGETTING = ("not_forget", "retain_not_forget", "not_forget_alone")


class Net(nn.Module):
    """Groups with a bias, a layer that sees fewer columns than inputs (deep), a head without bias."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.grouped = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
        self.deep = nn.Linear(96, 5)
        self.head = nn.Linear(5, 3, bias=False)

    def forward(self, x):
        x = self.grouped(self.stem(x).relu()).relu()
        return self.head(self.deep(x.flatten(1)).relu())


LAYERS = ("stem", "grouped", "deep", "head")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (60, 2, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 3, (60,), generator=generator)
    view = SampleView(TensorPixels(images), torch.arange(60), labels, Preprocess((0.5, 0.4), (0.2, 0.3)), torch.device("cpu"))
    return Task(view, view, lambda k: Net(), "classification", 3, 7, torch.device("cpu"))


def small(**changes):
    return SAPVariant(**{"num_trusted": 12, "num_forget": 9, "batch_size": 8, **changes})


def order_of(model, data):
    with torch.no_grad():
        (batch,) = data.train.batches(60)
        return nn.functional.cross_entropy(model(batch.inputs).double(), batch.labels, reduction="none").argsort(stable=True)


def columns(model, images):
    """Per layer and side the vectors it sees, (K, D, N) float64, by plain hooks and unfold."""
    seen = {}

    def keep(name):
        def hook(module, args, output):
            x = args[0]
            if isinstance(module, nn.Conv2d):
                unfolded = nn.functional.unfold(x, module.kernel_size, padding=module.padding, stride=module.stride)
                per_group = unfolded.view(len(x), module.groups, -1, unfolded.shape[-1]).permute(1, 2, 0, 3).flatten(2)
                out = output.view(len(x), module.groups, -1, output[0, 0].numel()).permute(1, 2, 0, 3).flatten(2)
                seen[name] = {"input": per_group.double(), "output": out.double()}
            else:
                seen[name] = {"input": x.T[None].double(), "output": output.T[None].double()}

        return hook

    hooks = [getattr(model, name).register_forward_hook(keep(name)) for name in LAYERS]
    with torch.no_grad():
        model.eval()(images)
    for hook in hooks:
        hook.remove()
    return seen


def matrix(columns_DN, setting, alpha):
    """M from a singular value decomposition."""
    u, s, _ = torch.linalg.svd(columns_DN, full_matrices=True)
    s = torch.cat([s, torch.zeros(len(u) - len(s), dtype=s.dtype)])
    s[s < 1e-7 * s[0]] = 0
    r = s**2 / (s**2).sum()
    if setting.importance == "gpm":
        count = int((r.cumsum(0) < setting.energy).sum()) + 1
        w = (torch.arange(len(r)) < count).double()
    else:
        x = r if setting.importance == "sap" else s / s[0]
        w = alpha * x / ((alpha - 1) * x + 1)
    return u @ torch.diag(w) @ u.T


def projector(setting, retain_DN, forget_DN, alpha, alpha_forget):
    eye, mr = torch.eye(len(retain_DN), dtype=torch.float64), matrix(retain_DN, setting, alpha)
    if setting.projection == "retain":
        return mr
    mf = matrix(forget_DN, setting, alpha_forget)
    return {"not_forget": eye - mf, "retain_not_forget": mr - mr @ mf, "not_forget_alone": eye - mf + mf @ mr}[setting.projection]


def by_hand(model, data, setting):
    """The corrected state, with dense projectors, group by group."""
    order, (batch,) = order_of(model, data), data.train.batches(60)
    model = copy.deepcopy(model)
    alpha, alpha_forget = setting.alpha, setting.alpha if setting.alpha_forget is None else setting.alpha_forget
    for _ in range(setting.rounds):
        retain = columns(model, batch.inputs[order[: setting.num_trusted]])
        forget = columns(model, batch.inputs[order.flip(0)[: setting.num_forget]])
        for name in LAYERS[setting.keep_first : len(LAYERS) - setting.keep_last]:
            layer, groups = getattr(model, name), len(retain[name]["input"])
            weight = layer.weight.detach().double().view(groups, layer.weight.shape[0] // groups, -1).clone()
            bias = None if layer.bias is None else layer.bias.detach().double().view(groups, -1).clone()
            for k in range(groups):
                if setting.side != "output":
                    p = projector(setting, retain[name]["input"][k], forget[name]["input"][k], alpha, alpha_forget)
                    weight[k] = weight[k] @ p.T
                if setting.side != "input":
                    p = projector(setting, retain[name]["output"][k], forget[name]["output"][k], alpha, alpha_forget)
                    weight[k] = p.T @ weight[k]
                    if bias is not None:
                        bias[k] = p.T @ bias[k]
            with torch.no_grad():
                layer.weight.copy_(weight.reshape(layer.weight.shape))
                if bias is not None:
                    layer.bias.copy_(bias.flatten())
        alpha, alpha_forget = alpha * setting.growth, alpha_forget * setting.growth
    return model.state_dict()


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"importance": "sgp", "alpha": 50.0}, {"importance": "gpm", "energy": 0.9}, {"importance": "gpm", "energy": 0.3},
        *({"projection": name, "alpha": 3000.0, "alpha_forget": 40.0} for name in FORGETTING),
        *({"projection": name, "alpha": 200.0, "side": "both"} for name in FORGETTING),
        {"side": "output", "alpha": 30.0}, {"side": "both", "importance": "gpm", "energy": 0.7},
        {"keep_first": 1}, {"keep_last": 1}, {"keep_first": 1, "keep_last": 2, "side": "both", "alpha": 100.0},
        {"rounds": 3, "alpha": 20.0, "growth": 2.0}, {"rounds": 2, "alpha": 20.0, "projection": "not_forget_alone", "side": "both"},
    ],
)  # fmt: skip
def test_equals_dense_projectors(model, data, changes):
    setting = small(**changes)
    ((_, corrected),) = SAPVariant.correct([setting], model, data, PlainRun())
    expected, before = by_hand(model, data, setting), model.state_dict()
    for name, value in corrected.state_dict().items():
        assert torch.linalg.norm(value - expected[name]) < 2e-5 * torch.linalg.norm(before[name]), name
    changed = {name for name, value in corrected.state_dict().items() if not torch.equal(value, before[name])}
    layers = LAYERS[setting.keep_first : len(LAYERS) - setting.keep_last]
    biases = {f"{name}.bias" for name in layers if name != "head"} if setting.side != "input" else set()
    assert changed == {f"{name}.weight" for name in layers} | biases


def test_defaults_are_sap(model, data):
    ((_, plain),) = SAP.correct([SAP(2000.0, 12, batch_size=8)], model, data, PlainRun())
    ((_, variant),) = SAPVariant.correct([small(alpha=2000.0)], model, data, PlainRun())
    for name, value in plain.state_dict().items():
        assert torch.linalg.norm(variant.state_dict()[name] - value) <= 1e-6 * torch.linalg.norm(value), name


def test_a_family_shares_scores_and_activations_and_changes_no_bit(model, data):
    settings = [small(alpha=alpha, projection=name) for name in ("retain", "not_forget") for alpha in (2000.0, 30000.0)]
    settings += [small(rounds=2), small(side="both")]
    assert len({setting.family() for setting in settings}) == 1
    run = PlainRun(len(settings))
    together = {which: copy.deepcopy(found.state_dict()) for which, found in SAPVariant.correct(settings, model, data, run)}
    for which, setting in enumerate(settings):
        ((_, alone),) = SAPVariant.correct([setting], model, data, PlainRun())
        for name, value in alone.state_dict().items():
            assert torch.equal(value, together[which][name]), (which, name)
    passes = SAPVariant.forecast(settings, Sizes(60, 60))
    assert passes.forwards == sum(piece.forwards for piece in run.meter.records) == 60 + 12 + (12 + 9) + 12 + 12
    collects = [piece.used_by for piece in run.meter.records if piece.phase == "collect"]
    assert collects == [(0, 1, 4), (4,), (2, 3), (2, 3), (5,)]


def test_information_declared_by_each_setting(model, data):
    assert isinstance(SAPVariant(), Corrector)
    assert small().needs() == small(projection="not_forget").needs() == frozenset()
    assert small(forget="verified").needs() == frozenset(), "nothing is forgotten"
    verified = small(projection="not_forget", forget="verified")
    assert verified.needs() == {Need.FORGET}
    with pytest.raises(UndeclaredNeed):
        list(SAPVariant.correct([verified], model, data, PlainRun()))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"importance": "svd"}, "importance"), ({"projection": "Mr"}, "projection"), ({"side": "pre"}, "side"), ({"forget": "x"}, "forget"),
        ({"alpha": 0.0}, "alpha"), ({"alpha_forget": -1.0}, "alpha"), ({"energy": 1.0}, "energy"), ({"growth": 0.0}, "growth"),
        ({"rounds": 0}, "rounds"), ({"keep_first": -1}, "keep_first"), ({"num_forget": 0}, "num_forget"), ({"trusted": "los"}, "trusted"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(wrong, said):
    with pytest.raises(UserError, match=said):
        SAPVariant(**wrong)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"keep_first": 2, "keep_last": 2}, "leave none of the network's 4 layers"),
        ({"num_trusted": 40, "num_forget": 21, "projection": "not_forget"}, "together exceed the 60 samples"),
        ({"num_trusted": 61}, "set num_trusted to at most 60"),
    ],
)
def test_what_cannot_be_served_is_refused_before_any_pass(model, data, changes, said):
    run = PlainRun()
    with pytest.raises(UserError, match=said):
        list(SAPVariant.correct([small(**changes)], model, data, run))
    assert run.meter.records == []


def test_attention_has_no_output_side(data):
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

        def forward(self, x):
            tokens = x.flatten(2)[:, :, :8]
            return self.head(self.attention(tokens, tokens, tokens)[0].mean(1))

    list(SAPVariant.correct([small()], Attending(), data, PlainRun()))
    with pytest.raises(UserError, match=r"output side of layer 'attention' \(MultiheadAttention\) cannot be projected; set side=input"):
        list(SAPVariant.correct([small(side="output")], Attending(), data, PlainRun()))


def test_left_layers_and_weights_without_a_layer(model, data):
    ((_, corrected),) = SAPVariant.correct([small(leave=("head.*",))], model, data, PlainRun())
    assert torch.equal(corrected.head.weight, model.head.weight)
    assert not torch.equal(corrected.deep.weight, model.deep.weight)
    assert small(leave=("head.*",)).family() != small().family()

    class Bare(Net):
        """A head by a function."""

        def forward(self, x):
            x = self.grouped(self.stem(x).relu()).relu()
            return nn.functional.linear(self.deep(x.flatten(1)).relu(), self.head.weight)

    bare = Bare()
    bare.load_state_dict(model.state_dict())
    for rounds in (1, 2):
        ((_, known),) = SAPVariant.correct([small(rounds=rounds)], model, data, PlainRun())
        ((_, found),) = SAPVariant.correct([small(rounds=rounds)], bare, data, PlainRun())
        for name, value in known.state_dict().items():
            torch.testing.assert_close(found.state_dict()[name], value, msg=name)
    with pytest.raises(UserError, match=r"output side of layer 'head' \(Linear\) cannot be projected; set side=input"):
        list(SAPVariant.correct([small(side="both")], bare, data, PlainRun()))

"""The corrector against a naive SAP: equal results, equal bits alone and in a family, correct costs."""

import copy
import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional

from sap_core import sap_project
from sap_core.api import Corrector, Need, Passes, Sizes, Task, UndeclaredNeed
from sap_core.cost import tuning
from sap_core.data.samples import Preprocess, SampleView, TensorPixels
from sap_core.errors import UserError
from sap_core.run import PlainRun
from sap_core.sap.sap import SAP

torch.set_num_threads(1)


class Small(nn.Module):
    """Batch norm, a residual, groups, stride, a 1x1 shortcut, a deep layer that sees fewer columns than inputs."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=2)
        self.shortcut = nn.Conv2d(8, 8, 1, stride=2)
        self.deep = nn.Conv2d(8, 6, 4)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = self.norm(self.stem(x)).relu()
        x = (self.grouped(x) + self.shortcut(x)).relu()
        return self.head(self.deep(x).relu().flatten(1))


def task(count=60, kind="classification", **more):
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count + 20, 2, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 3, (count,), generator=generator)
    index = torch.randperm(count + 20, generator=generator)[:count]
    train = SampleView(TensorPixels(images), index, labels, Preprocess((0.5, 0.4), (0.2, 0.3), "flip"), torch.device("cpu"))
    return Task(train, train, lambda k: Small(), kind, 3, 7, torch.device("cpu"), **more)


def network(dtype=torch.float32):
    torch.manual_seed(0)
    model = Small()
    model.norm.running_mean.normal_()
    model.norm.running_var.uniform_(0.5, 2)
    return model.to(dtype)


def plain_inputs(samples, order):
    """The trusted images as the network sees them, by hand."""
    pixels = samples.pixels.tensor[samples.index[order]].float() / 255
    mean, std = (torch.tensor(v).view(1, 2, 1, 1) for v in (samples.preprocess.mean, samples.preprocess.std))
    return (pixels - mean) / std


def naive(model, images, alpha):
    """SAP with everything written out: unfolded patches, float64 SVD, the projector formed, every product dense."""
    model = copy.deepcopy(model).eval()
    weights = {}
    with torch.no_grad():
        stem = model.norm(model.stem(images)).relu()
        middle = (model.grouped(stem) + model.shortcut(stem)).relu()
        last = model.deep(middle).relu().flatten(1)
    seen = {"stem": images, "grouped": stem, "shortcut": stem, "deep": middle, "head": last}
    for name, x in seen.items():
        layer, blocks = model.get_submodule(name), []
        if isinstance(layer, nn.Conv2d):
            x = functional.unfold(x.double(), layer.kernel_size, padding=layer.padding, stride=layer.stride).transpose(0, 1).flatten(1).T
        groups = getattr(layer, "groups", 1)
        for rows, w in zip(x.double().chunk(groups, 1), layer.weight.double().chunk(groups, 0), strict=True):
            _, s, vh = torch.linalg.svd(rows, full_matrices=False)
            energy = s**2 / (s**2).sum()
            projector = vh.T @ torch.diag(alpha * energy / ((alpha - 1) * energy + 1)) @ vh
            blocks.append((w.flatten(1) @ projector).reshape(w.shape))
        weights[name] = torch.cat(blocks).detach()
    return weights


def by_loss(model, samples):
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        losses = functional.cross_entropy(
            model(plain_inputs(samples, torch.arange(len(samples)))).double(), samples.labels, reduction="none"
        )
    return sorted(range(len(samples)), key=lambda k: (losses[k].item(), samples.index[k].item()))


def test_is_a_corrector():
    assert isinstance(SAP(), Corrector)
    assert SAP() == SAP(30000.0, 1000, "loss", False, 256)
    assert SAP(2.0, 5).family() == SAP(3.0, 6).family() != SAP(2.0, 5, batch_size=3).family()


@pytest.mark.parametrize("alpha", [2000.0, 30000.0, 300000.0])
def test_equals_naive_sap(alpha):
    model, data = network(), task()
    setting = SAP(alpha, 25, batch_size=8)
    ((which, corrected),) = SAP.correct([setting], model, data, PlainRun())
    assert which == 0
    expected = naive(model, plain_inputs(data.train, torch.tensor(by_loss(model, data.train)[:25])), alpha)
    for name, weight in expected.items():
        found = corrected.get_parameter(f"{name}.weight")
        assert found.dtype == torch.float32
        assert torch.linalg.norm(found.double() - weight) < 1e-6 * torch.linalg.norm(weight), name
    changed = {f"{name}.weight" for name in expected}
    for name, value in model.state_dict().items():
        assert torch.equal(value, corrected.state_dict()[name]) == (name not in changed), name


def test_float32_build_differs_by_its_rounding_only():
    """Also for a layer that sees fewer columns than inputs (deep), whose basis has directions as short as their energies."""
    model, data = network(), task()
    ((_, exact),) = SAP.correct([SAP(30000.0, 5, batch_size=5)], model, data, PlainRun())
    ((_, rounded),) = SAP.correct([SAP(30000.0, 5, batch_size=5, build="float32")], model, data, PlainRun())
    apart = 0
    for name, weight in exact.named_parameters():
        other = rounded.get_parameter(name)
        assert other.dtype == weight.dtype
        assert torch.linalg.norm(other - weight) <= 1e-6 * torch.linalg.norm(weight), name
        apart += not torch.equal(other, weight)
    assert apart  # another arithmetic was used
    assert SAP(build="float32").family() != SAP().family()


@pytest.mark.parametrize("alpha", [2000.0, 300000.0, 1.0e6])
@pytest.mark.parametrize("count", [1, 4, 40])
def test_library_call_equals_naive_sap_in_float64(alpha, count):
    model = network(torch.float64)
    images = plain_inputs(task().train, torch.arange(count)).double()
    corrected = sap_project(model, images, alpha, batch_size=9)
    for name, weight in naive(model, images, alpha).items():
        assert torch.linalg.norm(corrected.get_parameter(f"{name}.weight") - weight) < 1e-9 * torch.linalg.norm(weight), name


def test_projecting_weights_is_projecting_inputs():
    images = plain_inputs(task().train, torch.arange(30)).double()
    one = nn.Sequential(nn.Flatten(), nn.Linear(128, 5)).double()
    corrected = sap_project(one, images, 500.0)
    u, s, _ = torch.linalg.svd(images.flatten(1).T, full_matrices=False)
    energy = s**2 / (s**2).sum()
    projected = images.flatten(1) @ (u * (500 * energy / (499 * energy + 1))) @ u.T
    assert torch.allclose(corrected(images), one(projected.view_as(images)), atol=1e-12)


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


FAMILIES = {
    "loss": [SAP(a, n, batch_size=8) for n in (1, 5, 8, 20, 23, 24, 60) for a in (2000.0, 300000.0)],
    "unsorted": [SAP(a, n, batch_size=7) for a in (300000.0, 2000.0) for n in (20, 3, 14)],
    "uniform": [SAP(a, n, "uniform", batch_size=8) for n in (5, 20) for a in (2000.0, 300000.0)],
    "curvature": [SAP(a, n, "curvature", batch_size=8) for n in (5, 20) for a in (2000.0, 300000.0)],
    "selections": [SAP(2000.0, n, t, b, 8, s) for t in ("loss",) for n in (4, 20) for b in (False, True) for s in (0.0, 0.1, 0.5)],
    "curved selections": [SAP(2000.0, 9, "curvature", b, 8, s) for b in (True, False) for s in (0.0, 0.25)],
    "balanced": [SAP(a, n, "loss", True, 8) for n in (5, 20) for a in (2000.0, 300000.0)],
}


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
def test_family_gives_the_bits_of_each_setting_alone(family):
    model, data = network(), task()
    before = state(model)
    run = PlainRun(len(family))
    together, order = {}, []
    for which, corrected in SAP.correct(family, model, data, run):
        together[which] = state(corrected)
        order.append(which)
    assert same(state(model), before)
    assert all(module.training for module in model.modules())
    assert sorted(order) == list(range(len(family)))
    selections = list(dict.fromkeys((setting.skip, setting.class_balanced) for setting in family))
    assert order == sorted(order, key=lambda k: (selections.index((family[k].skip, family[k].class_balanced)), family[k].num_trusted, k))
    for which, setting in enumerate(family):
        alone_run = PlainRun()
        ((_, corrected),) = SAP.correct([setting], model, data, alone_run)
        assert same(state(corrected), together[which])
        assert torch.equal(alone_run.trusted_sets[0], run.trusted_sets[which])
        assert len(run.trusted_sets[which]) == setting.num_trusted
        alone, whole = tuning(alone_run.meter.costs()[0].shared), run.meter.costs()[which]
        assert tuning(whole.shared).forwards <= alone.forwards == tuning(whole.standalone).forwards
    assert not same(together[0], together[1])


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
def test_forecast_is_what_the_meter_counts(family):
    data, run = task(), PlainRun(len(family))
    list(SAP.correct(family, network(), data, run))
    forecast = SAP.forecast(family, Sizes(train=len(data.train), val=5))
    assert forecast.forwards == sum(piece.forwards for piece in run.meter.records)
    assert forecast.backwards == sum(piece.backwards for piece in run.meter.records)
    assert sum(piece.phase == "select" for piece in run.meter.records) == 1
    assert sum(tuning(cost.shared).forwards for cost in run.meter.costs()) == pytest.approx(forecast.forwards)
    for which, setting in enumerate(family):
        alone = SAP.forecast([setting], Sizes(len(data.train), 5)).forwards
        assert alone == sum(piece.forwards for piece in run.meter.records if which in piece.used_by)


def test_curvature_costs_eleven_passes_each_way():
    sizes = Sizes(train=60, val=5)
    assert SAP.forecast([SAP(2000.0, 20, "curvature")], sizes) == Passes(60 * 11 + 20, 60 * 11)
    assert SAP.forecast(FAMILIES["curved selections"], sizes) == Passes(60 * 11 + 4 * 9, 60 * 11)


def trusted_of(setting, data):
    """Positions in the training split that a setting trusts."""
    run = PlainRun()
    list(SAP.correct([setting], network(), data, run))
    place = {index: position for position, index in enumerate(data.train.index.tolist())}
    return [place[index] for index in run.trusted_sets[0].tolist()]


def test_skipping_and_balancing_take_from_the_same_order():
    data = task()
    order = by_loss(network(), data.train)
    labels = data.train.labels.tolist()
    assert trusted_of(SAP(2000.0, 20), data) == order[:20]
    assert trusted_of(SAP(2000.0, 20, skip=0.25), data) == order[15:35]
    fair = trusted_of(SAP(2000.0, 20, class_balanced=True, skip=0.25), data)
    for label in range(3):
        members = [k for k in order if labels[k] == label]
        mine = [k for k in fair if labels[k] == label]
        assert mine == members[int(0.25 * len(members)) :][: len(mine)]
        assert len(mine) in (6, 7)


def test_curvature_uses_given_labels_and_true_ones_only_on_request():
    data = task()
    truth = (data.train.labels + 1) % 3
    data = dataclasses.replace(data, verified_source=lambda need, n: data.train.relabel(truth))
    with_truth = dataclasses.replace(data, train=data.train.relabel(truth))
    given, told = (SAP(2000.0, 60, trusted=by) for by in ("curvature", "curvature_true_labels"))
    assert told.needs() == {Need.TRUE_LABELS}
    assert given.needs() == frozenset()
    with pytest.raises(UndeclaredNeed):
        list(SAP.correct([told], network(), data, PlainRun()))
    data = data.allow(told.needs())
    assert trusted_of(told, data) == trusted_of(given, with_truth) != trusted_of(given, data)
    fair = trusted_of(dataclasses.replace(told, class_balanced=True, num_trusted=6), data)
    assert torch.bincount(truth[fair], minlength=3).tolist() == [2, 2, 2]


def test_cost_records_name_their_settings():
    family = [SAP(2000.0, 10, batch_size=8), SAP(2000.0, 20, batch_size=8), SAP(5000.0, 20, batch_size=8)]
    run = PlainRun(3)
    list(SAP.correct(family, network(), task(), run))
    found = [(piece.phase, piece.used_by, piece.forwards) for piece in run.meter.records if piece.forwards]
    assert found == [
        ("select", (0, 1, 2), 60),
        ("collect", (0, 1, 2), 8),
        ("collect", (0,), 2),
        ("collect", (1, 2), 8),
        ("collect", (1, 2), 4),
    ]
    assert [(p.phase, p.used_by) for p in run.meter.records if p.phase in ("factor", "build")] == [
        ("factor", (0,)), ("build", (0,)), ("factor", (1, 2)), ("build", (1,)), ("build", (2,)),
    ]  # fmt: skip
    assert all(piece.flops > 0 for piece in run.meter.records if piece.phase in ("factor", "build"))


def test_closing_early_leaves_the_rest_undone():
    run = PlainRun(2)
    iterator = SAP.correct([SAP(2000.0, 10), SAP(3000.0, 20)], network(), task(), run)
    next(iterator)
    iterator.close()
    assert sum(piece.phase == "build" for piece in run.meter.records) == 1


def test_uniform_is_drawn_once_per_seed():
    data, runs = task(), [PlainRun(), PlainRun(), PlainRun()]
    for seed, run in zip((7, 7, 8), runs, strict=True):
        list(SAP.correct([SAP(2000.0, 10, "uniform")], network(), dataclasses.replace(data, seed=seed), run))
    first, again, other = (run.trusted_sets[0] for run in runs)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert set(first.tolist()) <= set(data.train.index.tolist())


def test_expert_needs_verified_samples():
    data = task()
    known = torch.arange(30).flip(0)
    data = dataclasses.replace(data, verified_source=lambda need, n: data.train.subset(known[:n]))
    setting = SAP(2000.0, 10, "expert")
    assert setting.needs() == {Need.RETAIN}
    assert SAP().needs() == frozenset()
    with pytest.raises(UndeclaredNeed):
        list(SAP.correct([setting], network(), data, PlainRun()))
    run = PlainRun()
    list(SAP.correct([setting], network(), data.allow(setting.needs()), run))
    assert torch.equal(run.trusted_sets[0], data.train.index[known[:10]])
    assert SAP.forecast([setting], Sizes(60, 0)).forwards == 10

    fair = SAP(2000.0, 9, "expert", class_balanced=True)
    assert fair.family() != setting.family()
    labels = data.train.labels
    assert trusted_of(fair, data.allow(fair.needs())) == [
        int(k) for turn in range(3) for k in known if k in [[m for m in known if labels[m] == c][turn] for c in range(3)]
    ]


def test_regression_trusts_the_smallest_residual():
    data = task(kind="regression")
    data = dataclasses.replace(data, train=data.train.relabel(torch.randn(60, 3)))
    run, model = PlainRun(), network()
    list(SAP.correct([SAP(2000.0, 10)], model, data, run))
    model.eval()
    with torch.no_grad():
        residual = ((model(plain_inputs(data.train, torch.arange(60))) - data.train.labels) ** 2).sum(1)
    assert torch.equal(run.trusted_sets[0], data.train.index[residual.argsort()[:10]])
    with pytest.raises(UserError, match="regression"):
        list(SAP.correct([SAP(2000.0, 10, class_balanced=True)], model, data, PlainRun()))


@pytest.mark.parametrize(
    "wrong",
    [
        {"alpha": 0.0}, {"alpha": float("nan")}, {"num_trusted": 0}, {"batch_size": 0}, {"trusted": "los"},
        {"skip": 1.0}, {"skip": -0.1}, {"skip": float("nan")}, {"trusted": "expert", "skip": 0.1}, {"trusted": "uniform", "skip": 0.1},
        {"build": "bfloat16"},
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(UserError):
        SAP(**wrong)


def test_more_trusted_than_there_are_is_refused():
    with pytest.raises(UserError, match="num_trusted is 61, but the training split has 60"):
        list(SAP.correct([SAP(2000.0, 61)], network(), task(), PlainRun()))
    run = PlainRun()
    with pytest.raises(UserError, match=r"num_trusted is 31, .* 60 samples, of which skip=0.5 leaves out 30"):
        list(SAP.correct([SAP(2000.0, 31, "curvature", skip=0.5)], network(), task(), run))
    assert run.meter.records == []
    list(SAP.correct([SAP(2000.0, 30, skip=0.5, class_balanced=True)], network(), task(), run))


def test_settings_of_two_families_are_refused():
    with pytest.raises(ValueError, match="different families"):
        list(SAP.correct([SAP(batch_size=3), SAP(batch_size=4)], network(), task(), PlainRun(2)))


def test_layer_without_handler_is_refused_before_any_pass():
    run = PlainRun()
    recurrent = nn.Sequential(nn.Flatten(2), nn.GRU(64, 1))
    with pytest.raises(UserError, match=r"'1.weight_ih_l0' of GRU .*'method.sap.corrector.leave=\[1.weight_ih_l0,1.weight_hh_l0\]'"):
        list(SAP.correct([SAP()], recurrent, task(), run))
    assert run.meter.records == []


class NoStatistics(nn.Module):
    """Its norm is not defined for a single image."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.head = nn.Conv2d(2, 6, 3, stride=2), nn.BatchNorm2d(6, track_running_stats=False), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.norm(self.conv(x).mean((2, 3), keepdim=True)).flatten(1))


@pytest.mark.parametrize("sizes", [(9,), (8, 9), (9, 13), (8, 9, 12, 13)])
def test_a_remainder_of_one_image_goes_with_the_block_before_it_where_the_norm_needs_two(sizes):
    settings = [SAP(alpha=10.0, num_trusted=size, batch_size=4) for size in sizes]
    together = dict(SAP.correct(settings, NoStatistics(), task(), PlainRun(len(settings))))
    for which, setting in enumerate(settings):
        ((_, alone),) = SAP.correct([setting], NoStatistics(), task(), PlainRun())
        for name, value in alone.state_dict().items():
            assert value.isfinite().all()
            assert torch.equal(value, together[which].state_dict()[name])


def test_one_trusted_image_is_refused_where_the_norm_needs_two():
    with pytest.raises(UserError, match=r"batch norm 'norm' has no running statistics.*at least 2 trusted images"):
        list(SAP.correct([SAP(alpha=10.0, num_trusted=1)], NoStatistics(), task(), PlainRun()))

"""The library functions on plain torch networks."""

import copy

import pytest
import torch
from torch import nn

import sap_core
from sap_core import sap_project, sap_tune
from sap_core.errors import UserError

torch.set_num_threads(1)


def small(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3, stride=2), nn.Flatten(), nn.Linear(36, 3)
    ).to(dtype)


def images(count=20, dtype=torch.float32):
    return torch.randn(count, 2, 8, 8, generator=torch.Generator().manual_seed(1), dtype=dtype)


def test_public_names():
    assert {"sap_project", "sap_tune", "SAP"} <= set(sap_core.__all__)


def test_torchvision_resnet18_goes_through():
    from torchvision.models import resnet18

    torch.manual_seed(0)
    model = resnet18(num_classes=10)
    before, flags = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    x = torch.randn(3, 3, 64, 64)
    corrected = sap_project(model, x, alpha=30000.0)
    assert type(corrected) is type(model)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    assert [m.training for m in model.modules()] == flags
    weights = {name for name, value in before.items() if value.ndim >= 2}
    for name, value in corrected.state_dict().items():
        assert value.dtype == before[name].dtype
        assert value.isfinite().all()
        assert torch.equal(value, before[name]) != (name in weights), name
    assert torch.allclose(corrected.eval()(x), corrected(x))


def test_network_that_is_one_layer():
    layer = nn.Linear(4, 2)
    x = torch.randn(9, 4)
    corrected = sap_project(layer, x, 1.0)
    c = (x.double().T @ x.double()) / x.double().square().sum()
    assert torch.allclose(corrected.weight.double(), layer.weight.double() @ c, atol=1e-7)
    assert torch.equal(corrected.bias, layer.bias)


def weights(model):
    return torch.cat([p.detach().double().flatten() for p in model.parameters()])


def test_batches_do_not_matter_to_rounding():
    model, x = small(torch.float64), images(dtype=torch.float64)
    whole = weights(sap_project(model, x, 30000.0))
    for other in (sap_project(model, x, 30000.0, batch_size=3), sap_project(model, iter([x[:1], x[1:1], x[1:]]), 30000.0)):
        assert torch.linalg.norm(weights(other) - whole) < 1e-9 * torch.linalg.norm(whole)


def test_dead_layer_gets_zero_weights_and_keeps_its_bias():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].bias.fill_(-1e6)
    corrected = sap_project(model, torch.randn(9, 3), 30000.0)
    assert (corrected[2].weight == 0).all()
    assert torch.equal(corrected[2].bias, model[2].bias)


def test_images_are_moved_to_the_networks_type():
    assert torch.equal(weights(sap_project(small(), images().double(), 3000.0)), weights(sap_project(small(), images(), 3000.0)))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (images(0), "no trusted images"),
        ([], "no trusted images"),
        (torch.full((2, 2, 8, 8), float("nan")), "NaN"),
        (torch.zeros(2, 2, 8, 8, dtype=torch.uint8), "uint8"),
        ([(images(), torch.zeros(20))], "tuple"),
    ],
)
def test_bad_images_are_refused(given, said):
    with pytest.raises(UserError, match=said):
        sap_project(small(), given, 30000.0)


@pytest.mark.parametrize("alpha", [0, -3.0, float("nan"), float("inf"), "3000", None, True])
def test_bad_alpha_is_refused(alpha):
    with pytest.raises(UserError, match="alpha"):
        sap_project(small(), images(), alpha)


def test_bad_batch_size_is_refused():
    with pytest.raises(UserError, match="batch_size"):
        sap_project(small(), images(), 1.0, batch_size=0)


def test_a_diverged_network_is_reported():
    model = small()
    with torch.no_grad():
        model[0].bias[0] = float("nan")
    with pytest.raises(FloatingPointError):
        sap_project(model, images(), 1.0)


def accuracy(model, x, y):
    return (model.eval()(x).argmax(1) == y).double().mean().item()


@pytest.mark.parametrize("grid", [[30.0, 1.0, 300000.0], [float(2**k) for k in range(14)]])
def test_tune_equals_trying_every_alpha(grid):
    model, x = small(torch.float64).eval(), images(60, torch.float64)
    with torch.no_grad():
        y = sap_project(model, x[:20], min(grid)).eval()(x).argmax(1)
    found = sap_tune(model, x[:20], x, y, grid, batch_size=7)
    expected = {alpha: accuracy(sap_project(model, x[:20], alpha), x, y) for alpha in grid}
    assert found.scores == pytest.approx(expected)
    assert list(found.scores) == sorted(grid, reverse=True)
    assert found.unmodified == accuracy(model, x, y) < 1
    assert found.alpha == max(grid, key=lambda alpha: (expected[alpha], alpha))
    assert accuracy(found.model, x, y) == max(expected.values()) == 1
    assert (
        str(found)
        == repr(found)
        == (
            f"SAP with alpha={found.alpha:g} has validation accuracy 100.00 %; result.model is the corrected network.\n"
            f"Unmodified network: validation accuracy {100 * found.unmodified:.2f} %.\n"
            f"Tried: {len(grid)} alphas from 1 to {max(grid):g}; result.scores has the accuracy of each."
        )
    )


def test_tune_keeps_the_unmodified_network_on_ties():
    model, x = small().eval(), images(30)
    with torch.no_grad():
        y = model(x).argmax(1)
    found = sap_tune(model, x, x, y, [30000.0, 1.0])
    assert found.alpha is None
    assert found.model is model
    assert str(found).startswith("No alpha is better than the unmodified network (alpha=")
    assert str(found).count("\n") == 2
    with pytest.raises(UserError, match="no alphas"):
        sap_tune(model, x, x, y, [])
    for few in (y[:29], y[:0]):
        with pytest.raises(UserError, match="30 validation images"):
            sap_tune(model, x, x, few, [1.0])


def without_statistics():
    """A network whose norm is not defined for a single image."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(6, track_running_stats=False)
    return nn.Sequential(nn.Conv2d(2, 6, 3, stride=2), nn.AdaptiveAvgPool2d(1), norm, nn.Flatten(), nn.Linear(6, 3))


@pytest.mark.parametrize("given", [images(9), list(images(9).split(4)), list(images(9).split(1)), iter(images(9).split(8))])
def test_a_last_batch_of_one_image_is_merged(given):
    corrected = sap_project(without_statistics(), given, alpha=100.0, batch_size=4)
    assert all(parameter.isfinite().all() for parameter in corrected.parameters())
    tuned = sap_tune(without_statistics(), images(9), images(5), torch.zeros(5, dtype=torch.int64), [100.0], batch_size=2)
    assert 0 <= tuned.unmodified <= 1


def test_a_single_image_is_refused_where_the_norm_needs_two():
    with pytest.raises(UserError, match=r"batch norm '2' has no running statistics.*at least 2 trusted images"):
        sap_project(without_statistics(), images(1), alpha=100.0)


class Answers(nn.Module):
    """Returns features before its logits."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.first, self.head = kind, nn.Linear(128, 7), nn.Linear(7, 3)

    def forward(self, x):
        features = self.first(x.flatten(1)).relu()
        logits = self.head(features)
        return {"tensor": logits, "tuple": (features, logits), "dict": {"features": features, "logits": logits}}[self.kind]


@pytest.mark.parametrize("kind", ["tuple", "dict"])
def test_networks_that_return_more_than_their_logits(kind):
    labels = torch.arange(20) % 3
    plain, other = (sap_tune(Answers(each), images(), images(), labels, [10.0, 1000.0], classes=3) for each in ("tensor", kind))
    assert (plain.alpha, plain.scores, plain.unmodified) == (other.alpha, other.scores, other.unmodified)
    assert isinstance(other.model, Answers)
    if kind == "tuple":
        with pytest.raises(UserError, match=r"\(20, 7\), \(20, 3\)"):
            sap_tune(Answers(kind), images(), images(), labels, [10.0])


@pytest.mark.parametrize("called", [False, True])
@pytest.mark.parametrize("how", ["compile", "in_place", "part", "forward"])
def test_compiled_networks_are_corrected_without_compilation(how, called):
    expected = sap_project(small().eval(), images(), alpha=100.0)
    model = small().eval()
    if how == "compile":
        model = torch.compile(model, backend="eager")
    elif how == "in_place":
        model.compile(backend="eager")
    elif how == "forward":
        model.forward = torch.compile(model.forward, backend="eager")
    else:
        model[0] = torch.compile(model[0], backend="eager")
    if called:
        model(images())
    before = [parameter.detach().clone() for parameter in model.parameters()]
    corrected = sap_project(model, images(), alpha=100.0)
    assert type(corrected) is nn.Sequential
    assert corrected.state_dict().keys() == expected.state_dict().keys()
    for name, value in expected.state_dict().items():
        assert torch.equal(value, corrected.state_dict()[name])
    assert all(torch.equal(now, then) for now, then in zip(model.parameters(), before, strict=True))


def test_a_network_whose_copies_compute_with_its_own_weights_is_refused_before_any_work():
    model = small()
    model.forward = lambda x: model[5](model[4](model[3](model[2](model[1](model[0](x))))))
    with pytest.raises(UserError, match="a copy of the network computes with the original's weights"):
        sap_project(model, images(), alpha=100.0)


def test_integer_and_complex_tensors_stay_as_they_are():
    model = small()
    # Registered by the network itself, hence the first of its parameters.
    model.register_parameter("steps", nn.Parameter(torch.tensor([1, 2]), requires_grad=False))
    model.register_buffer("phase", torch.tensor([1j, 2.0]))
    corrected = sap_project(model, images(), alpha=100.0)
    assert torch.equal(corrected.steps, model.steps)
    assert torch.equal(corrected.phase, model.phase)


class CompiledInClass(nn.Module):
    """A network whose class compiles its forward, so that there is no wrapper to remove."""

    def __init__(self):
        super().__init__()
        self.inside = small()

    @torch.compile(backend="eager")
    def forward(self, x):
        return self.inside(x)


def test_a_class_that_compiles_its_forward_is_observed():
    model = CompiledInClass().eval()
    model(images())
    expected, corrected = sap_project(model.inside, images(), 100.0), sap_project(model, images(), 100.0)
    for name, value in expected.state_dict().items():
        assert torch.equal(value, corrected.inside.state_dict()[name])


class WithAutocast(nn.Module):
    """A network that chooses its precision itself."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.head = nn.Linear(128, 7), nn.Linear(7, 3)

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.head(self.first(x.flatten(1)).relu())


def test_autocast_of_the_network_inside_of_the_callers():
    model = WithAutocast().eval()
    plain = nn.Sequential(nn.Flatten(), model.first, nn.ReLU(), model.head)
    expected = sap_project(plain, images(), 10.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(images())
        corrected = sap_project(model, images(), 10.0)
    torch.testing.assert_close(corrected.first.weight, expected[1].weight, rtol=0.05, atol=0.01)
    torch.testing.assert_close(corrected.head.weight, expected[3].weight, rtol=0.05, atol=0.01)
    assert not torch.allclose(corrected.head.weight, model.head.weight, atol=0.01)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_named_also_in_the_last_layer(value):
    model = nn.Sequential(nn.Flatten(), nn.Linear(128, 3))
    with torch.no_grad():
        model[1].weight[0, 0] = value
    with pytest.raises(FloatingPointError, match=r"'1\.weight' contains NaN or infinity"):
        sap_project(model, images(), 100.0)


def test_lazy_layers_are_refused():
    with pytest.raises(UserError, match=r"'1\.weight' has no values, because a lazy layer"):
        sap_project(nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), images(), 100.0)


class Pair(nn.Module):
    """A network of two inputs, or of images of one size."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(128, 3)

    def forward(self, x, other):
        return self.head((x + other).flatten(1))


class Sized(Pair):
    """Asserts the size of its images, as networks of timm do."""

    def forward(self, x):
        assert x.shape[-1] == 99, "size 99 is needed"
        return self.head(x.flatten(1))


@pytest.mark.parametrize(("model", "said"), [(Pair(), "missing 1 required positional argument"), (Sized(), "size 99 is needed")])
def test_networks_that_do_not_take_the_images_are_refused(model, said):
    with pytest.raises(UserError, match=f"the network cannot process trusted images of shape .*{said}"):
        sap_project(model, images(), 100.0)


def test_labelled_batches_are_refused_as_trusted_images():
    loader = [(images(), torch.zeros(20))]
    with pytest.raises(UserError, match=r"pass the images alone, such as \(images for images, labels in loader\)"):
        sap_project(small(), loader, 100.0)
    sap_project(small().eval(), (batch for batch, labels in loader), 100.0)

"""The function that builds the networks of configurations."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from sap_core.errors import UserError
from sap_core.models.build import build_network, supplied_arguments
from sap_core.models.unwrap import is_wrapped, unwrapped
from sap_core.seeding import stream

SHAPE, CLASSES = (3, 8, 8), 4


class Plain(nn.Module):
    """A convolution, a norm and a head."""

    def __init__(self, num_outputs=CLASSES):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, num_outputs)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).relu().mean((2, 3)))


class NamesBoth(Plain):
    def __init__(self, *, num_outputs, input_shape):
        assert input_shape == SHAPE
        super().__init__(num_outputs)


def names_shape(input_shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(input_shape[0] * 64, CLASSES))


def any_options(*args, **options):
    assert not args
    assert not options
    return Plain()


class Lazy(nn.Sequential):
    def __init__(self):
        super().__init__(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(CLASSES))


class Careless(Plain):
    """Changes every setting of the process that a constructor might."""

    def __init__(self):
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.set_num_threads(3)
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        super().__init__()
        self.register_buffer("phase", torch.full((2,), 1j))
        self.register_buffer("order", torch.arange(3))


class LazyDouble(Lazy):
    def __init__(self):
        torch.set_default_dtype(torch.float64)
        super().__init__()


class Half(Plain):
    def __init__(self):
        super().__init__()
        self.half()


class CastsItself(Plain):
    def __init__(self):
        super().__init__()
        self.double()

    def forward(self, x):
        return super().forward(x.double())


class ByNumpy(Plain):
    def __init__(self):
        super().__init__()
        self.fc.weight.data = torch.tensor(np.random.randn(CLASSES, 6) + random.random()).float()


def compiled():
    return torch.compile(Plain(), backend="eager")


def compiled_in_place():
    model = Plain()
    model.compile(backend="eager")
    return model


def compiled_part():
    inner = Plain()
    inner.conv.compile(backend="eager")
    return nn.Sequential(nn.Sequential(torch.compile(inner, backend="eager")))


def compiled_forward():
    model = Plain()
    model.forward = torch.compile(model.forward, backend="eager")
    return model


def parallel():
    return nn.DataParallel(Plain())


SINGLE = Plain()


def single():
    return SINGLE


def nothing():
    return {"a": 1}


def build(name):
    return build_network({"target": f"{__name__}.{name}", "settings": {}}, CLASSES, SHAPE)


@pytest.mark.parametrize(
    ("name", "passed"),
    [
        ("Plain", ("num_outputs",)),
        ("NamesBoth", ("num_outputs", "input_shape")),
        ("names_shape", ("input_shape",)),
        ("any_options", ()),
        ("single", ()),
    ],
)
def test_arguments_are_passed_by_name(name, passed):
    assert supplied_arguments(f"{__name__}.{name}") == passed
    if name != "single":
        assert build(name)(torch.zeros(2, *SHAPE)).shape == (2, CLASSES)


@pytest.mark.parametrize("name", ["Lazy", "LazyDouble"])
def test_lazy_layers_are_initialised_from_the_seed_of_the_run(name):
    def weights(seed):
        with stream(seed, "init", 0).scope():
            return build(name)[3].weight

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
    assert weights(1).shape == (CLASSES, 4 * 36)


def test_lazy_layers_on_the_meta_device():
    with torch.device("meta"):
        assert build("Lazy")[3].weight.shape == (CLASSES, 4 * 36)


def test_settings_of_the_process_are_put_back():
    before = torch.get_default_dtype(), torch.get_num_threads(), random.getstate(), np.random.get_state()[1].tolist()
    with torch.random.fork_rng():
        model = build("Careless")
    assert torch.is_grad_enabled()
    assert before == (torch.get_default_dtype(), torch.get_num_threads(), random.getstate(), np.random.get_state()[1].tolist())
    assert model(torch.zeros(2, *SHAPE)).dtype == torch.float32
    assert (model.phase.dtype, model.phase[0].item(), model.order.tolist()) == (torch.complex64, 1j, [0, 1, 2])


@pytest.mark.parametrize(("name", "dtype"), [("Half", torch.float32), ("CastsItself", torch.float64), ("Plain", torch.float32)])
def test_weights_are_converted_only_where_images_are_refused(name, dtype):
    model = build(name)
    assert model.fc.weight.dtype == dtype
    assert model(torch.zeros(2, *SHAPE)).shape == (2, CLASSES)


def test_weights_drawn_by_other_generators_follow_from_the_seed_of_the_run():
    def weights(seed):
        with stream(seed, "init", 0).scope():
            return build("ByNumpy").fc.weight

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize("name", ["compiled", "compiled_in_place", "compiled_part", "compiled_forward", "parallel"])
def test_wrappers_are_removed(name):
    model = build(name)
    assert not is_wrapped(model)
    assert not [key for key in model.state_dict() if "_orig_mod" in key or key.startswith("module.")]
    seen = []
    layer = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    layer.register_forward_hook(lambda module, args, output: seen.append(1))
    assert model(torch.zeros(2, *SHAPE)).shape == (2, CLASSES)
    assert seen, "hooks that are registered later are called"


@pytest.mark.parametrize("called", [False, True])
@pytest.mark.parametrize("make", [compiled, compiled_in_place, compiled_part])
def test_a_callers_network_keeps_its_wrappers(make, called):
    model, images = make().eval(), torch.rand(2, *SHAPE)
    if called:
        model(images)
    inside = unwrapped(model)
    assert is_wrapped(model)
    assert not is_wrapped(inside)
    torch.testing.assert_close(inside(images), model(images))
    plain = Plain()
    assert unwrapped(plain) is plain


def test_a_function_that_returns_one_network_again_and_again_is_refused():
    build("single")
    with pytest.raises(UserError, match="returns the same network at every call"):
        build("single")


def test_what_is_no_network_is_refused():
    with pytest.raises(UserError, match=r"builds a dict, which is not a torch\.nn\.Module"):
        build("nothing")

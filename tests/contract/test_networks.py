"""Requirements on every network of `conf/model`; small ones stand in for large ones.

SAP is held against the network written out with projected *inputs*: each layer's inputs are multiplied with the projector of what the layer
saw in the unmodified network, found by a singular value decomposition, while its weights stay as they are.
"""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from torch.nn import functional

from sap_core.construct import construct
from sap_core.cost import flops_per_sample
from sap_core.sap.library import sap_project
from sap_core.seeding import stream
from sweeper.config.component import parse_component

FILES = {path.stem: path for path in sorted((Path(__file__).parents[2] / "conf" / "model").glob("*.yaml"))}
LARGE = {"vit_b_16", "vit_l_16", "vit_l_32", "vit_h_14"}
"""Not built for real: their arithmetic is that of vit_b_32, or of a small stand-in for it."""
SMALL = {"small_cnn": (1, 8, 8), "lenet5": (1, 16, 16), "linear5": (1, 6, 6), "perceptron_bn": (2,), "cnn9": (3, 28, 28)}
SMALL |= {name: (3, 8, 8) for name in FILES if name.startswith(("resnet", "preact")) and not name.endswith("imagenet")}
"""Images as small as each network takes; else 32 x 32 colours."""
DEEP = ("101", "152", "inception", "vgg16", "vgg19")
ALPHA = 20.0


def real():
    """The networks that are built; the deep ones take their time."""
    return [pytest.param(name, marks=deep(name)) for name in FILES if name not in LARGE]


def deep(name):
    return [pytest.mark.slow] if any(word in name for word in DEEP) else []


@pytest.fixture(autouse=True)
def installed(request):
    name = request.node.callspec.params.get("name") if hasattr(request.node, "callspec") else None
    if name == "inception_resnet_v2" and importlib.util.find_spec("timm") is None:
        pytest.skip("needs timm")


def shape_of(name):
    return SMALL.get(name, (3, 32, 32))


def declared(name):
    return parse_component(yaml.safe_load(FILES[name].read_text()), "model", nn.Module)


def build(name, seed=1, outputs=5, shape=None):
    with stream(seed, "init", 0).scope():
        return construct(declared(name).entry, num_outputs=outputs, input_shape=shape or shape_of(name))


@pytest.fixture
def small(monkeypatch):
    """`vit_b_32` becomes a vision transformer of two blocks for 16 x 16 images, in the same wrapper; InceptionResNetV2 sees 96 x 96."""
    from torchvision.models import VisionTransformer, get_model

    def tiny(network, weights, num_classes, **options):
        assert weights is None
        if not network.startswith("vit"):
            return get_model(network, weights=None, num_classes=num_classes, **options)
        return VisionTransformer(16, 8, 2, 2, 12, 16, num_classes=num_classes, **options)

    monkeypatch.setattr("torchvision.models.get_model", tiny)
    monkeypatch.setattr("sap_core.models.vit.SIDE", 16)
    monkeypatch.setattr("sap_core.models.inception_resnet_v2.SIDE", 96)


def test_files_name_and_describe_themselves_and_give_the_defaults():
    for name, path in FILES.items():
        assert path.read_text().startswith("# "), name
        assert len(path.read_text().splitlines()[0]) > 20, name
        found = declared(name)
        assert found.name == name
        assert found.settings == found.defaults, name
        assert found.version >= 1, name


@pytest.mark.parametrize("name", [pytest.param(name, marks=deep(name)) for name in FILES])
def test_it_is_built_and_counted_without_memory(name):
    shape = shape_of(name)
    with torch.device("meta"):
        network = construct(declared(name).entry, num_outputs=5, input_shape=shape)
    forward, backward = flops_per_sample(network, shape, "meta")
    assert 0 < forward < backward * 2
    assert all(parameter.is_meta for parameter in network.parameters())


@pytest.mark.parametrize("name", real())
def test_it_starts_from_its_stream_and_trains(name, small):
    outside = torch.random.get_rng_state()
    model, again, other = (build(name, seed) for seed in (1, 1, 2))
    assert torch.equal(outside, torch.random.get_rng_state())
    weights = [(key, value) for key, value in model.state_dict().items() if value.ndim > 1 and value.any()]
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in weights)
    assert not any(torch.equal(value, other.state_dict()[key]) for key, value in weights)
    trains(model, shape_of(name))


def trains(model, shape):
    with stream(1, "train", 0).scope():
        logits = model.train()(torch.randn(2, *shape))
    assert logits.shape == (2, 5)
    functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
    assert all(parameter.grad.any() for parameter in list(model.parameters())[-2:]), "the head learns"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_b_32"])
def test_a_vision_transformer_of_full_size_trains_on_small_grey_images(name):
    trains(build(name, shape=(1, 8, 8)), (1, 8, 8))


class Written:
    """A network's forward pass with every layer's product written out, on inputs that a projector may meet first."""

    def __init__(self, model):
        self.model = model
        self.seen, self.projectors = {}, None
        self.hooks = []
        for name, module in model.named_modules():
            apply = {nn.Linear: self.linear, nn.Conv2d: self.convolution, nn.MultiheadAttention: self.attention}.get(type(module))
            if apply is not None:
                hook = module.register_forward_hook(lambda m, args, out, name=name, apply=apply: apply(name, m, args[0], out))
                self.hooks.append(hook)

    def met(self, name, rows):
        """(..., D) what the weights of `name` meet instead of `rows`."""
        if self.projectors is None:
            self.seen[name] = rows.reshape(-1, rows.shape[-1])
            return rows
        directions, scale = self.projectors[name]
        return ((rows @ directions.T) * scale) @ directions

    def linear(self, name, module, x, _):
        return functional.linear(self.met(name, x), module.weight, module.bias)

    def convolution(self, name, module, x, out):
        patches = functional.unfold(x, module.kernel_size, module.dilation, module.padding, module.stride).mT  # (B, L, D)
        made = functional.linear(self.met(name, patches), module.weight.flatten(1), module.bias)
        return made.mT.reshape(out.shape)

    def attention(self, name, module, x, _):
        query, key, value = functional.linear(self.met(name, x), module.in_proj_weight, module.in_proj_bias).chunk(3, dim=-1)
        gathered = []
        for q, k, v in zip(*(part.chunk(module.num_heads, dim=-1) for part in (query, key, value)), strict=True):
            gathered.append((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v)
        heads = self.met(name + ".out_proj", torch.cat(gathered, dim=-1))
        return functional.linear(heads, module.out_proj.weight, module.out_proj.bias), None

    def __call__(self, images, project):
        self.projectors = {name: _directions(rows) for name, rows in self.seen.items()} if project else None
        return self.model(images)


def _directions(rows):
    _, values, directions = torch.linalg.svd(rows, full_matrices=False)
    energy = values**2 / (values**2).sum()
    return directions, ALPHA * energy / ((ALPHA - 1) * energy + 1)


@pytest.mark.parametrize("name", real())
@torch.no_grad()
def test_sap_projects_what_each_of_its_layers_meets(name, small):
    model = build(name).double().eval()
    for parameter in model.parameters():  # a ViT's head starts at zero, norms at one
        if not parameter.any() or parameter.ndim < 2:
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    images = torch.randn(2, *shape_of(name), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    before = copy.deepcopy(model.state_dict())
    vanilla, corrected = model(images), sap_project(model, images, ALPHA)(images)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    written = Written(model)
    torch.testing.assert_close(written(images, project=False), vanilla, rtol=1e-9, atol=1e-9)
    expected = written(images, project=True)
    scale = vanilla.abs().max()
    torch.testing.assert_close(corrected / scale, expected / scale, rtol=1e-7, atol=1e-9)
    told_apart = (vanilla[0] - vanilla[1]).abs().max()  # a deep network that was not trained says nearly the same of both images
    assert (corrected - vanilla).abs().max() > 1e-3 * told_apart
    assert told_apart > 1e-5 * scale

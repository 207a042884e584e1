"""Shapes, parameter counts and initialisation of the networks."""

import math
import sys

import pytest
import torch
from torch.nn import functional
from torchvision.models import get_model, get_model_weights

from sap_core.cost import flops_per_sample
from sap_core.errors import UserError
from sap_core.models import resnet_cifar, resnet_imagenet, vgg, vit
from sap_core.models.cnn9 import CNN9
from sap_core.models.inception_resnet_v2 import InceptionResNetV2
from sap_core.models.lenet5 import LeNet5
from sap_core.models.linear5 import Linear5
from sap_core.models.perceptron_bn import PerceptronBN
from sap_core.models.preact_resnet import PreActResNet18, PreActResNet34
from sap_core.models.resnet32 import ResNet32, ResNet32_GN
from sap_core.models.resnet_cifar import ResNet18
from sap_core.models.small_cnn import SmallCNN
from sap_core.models.vgg import VGG11_BN
from sap_core.seeding import stream

torch.set_num_threads(1)


VGG_FEATURES = {11: 9_220_480, 13: 9_404_992, 16: 14_714_688, 19: 20_024_384}
"""torchvision's published counts less its ImageNet head (25088 x 4096, 4096 x 4096, 4096 x 1000, with biases): 132,863,336 and so on."""
VGG_HEAD = 2 * (512 * 512 + 512) + 512 * 10 + 10
NORMS = {11: 5_504, 13: 5_888, 16: 8_448, 19: 11_008}
"""Two numbers per channel; torchvision publishes 132,868,840 for vgg11_bn and so on."""
RESNET_CUT = (49 - 9) * 3 * 64
"""By how much ImageNet's first convolution is larger than CIFAR's."""


@pytest.mark.parametrize(
    ("network", "outputs", "shape", "parameters"),
    [
        (SmallCNN, 10, (1, 8, 8), 15_498),
        (LeNet5, 10, (1, 28, 28), 44_426),  # by hand; SAP's
        (Linear5, 10, (1, 28, 28), 4 * (784 * 784 + 784) + 784 * 10 + 10),
        (PerceptronBN, 2, (2,), 2 * 500 + 8 * 500 * 500 + 9 * 3 * 500 + 500 * 2 + 2),  # as the released demonstration builds it
        (CNN9, 10, (3, 32, 32), 4_434_570),  # by hand, and by others' counts of co-teaching's code
        (ResNet18, 10, (3, 32, 32), 11_173_962),  # published for kuangliu/pytorch-cifar, like the next ones
        (ResNet18, 100, (3, 32, 32), 11_220_132),
        (resnet_cifar.ResNet34, 10, (3, 32, 32), 21_282_122),
        (resnet_cifar.ResNet50, 10, (3, 32, 32), 23_520_842),
        (PreActResNet18, 10, (3, 32, 32), 11_171_146 + 128),  # published for pytorch-cifar, which has no norm after the first convolution
        (PreActResNet34, 10, (3, 32, 32), 21_282_122 - 2 * (64 + 128 + 256) - 2 * (128 + 256 + 512)),  # smaller norms, none in shortcuts
        (ResNet32, 10, (3, 32, 32), 464_154),  # published for akamaster/pytorch_resnet_cifar10, "0.46 M" in the paper
        (ResNet32_GN, 10, (3, 32, 32), 464_154),
        *((getattr(vgg, f"VGG{depth}"), 10, (3, 32, 32), VGG_FEATURES[depth] + VGG_HEAD) for depth in NORMS),
        *((getattr(vgg, f"VGG{depth}_BN"), 10, (3, 32, 32), VGG_FEATURES[depth] + VGG_HEAD + NORMS[depth]) for depth in NORMS),
    ],
)
def test_parameters_are_counted_as_published(network, outputs, shape, parameters):
    assert count(network, outputs, shape) == parameters
    assert network.version == 1


def count(network, outputs, shape):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in network(outputs, shape).parameters())


@pytest.mark.parametrize(
    ("network", "name"),
    [
        *((getattr(resnet_imagenet, f"ResNet{depth}"), f"resnet{depth}") for depth in (18, 34, 50, 101, 152)),
        *((getattr(vit, f"ViT_{size}"), f"vit_{size.lower()}") for size in ("B_16", "B_32", "L_16", "L_32")),
    ],
)
def test_torchvision_publishes_the_same_counts_and_costs(network, name):
    published = get_model_weights(name).DEFAULT.meta
    shape = (3, 224, 224)
    with torch.device("meta"):
        model = network(1000, shape)
    assert sum(parameter.numel() for parameter in model.parameters()) == published["num_params"]
    assert flops_per_sample(model, shape, "meta")[0] == pytest.approx(2e9 * published["_ops"], rel=0.003)  # it counts multiply-adds


def test_the_largest_vision_transformer_has_its_published_size():
    assert count(vit.ViT_H_14, 1000, (3, 224, 224)) == 632_045_800  # torchvision's IMAGENET1K_SWAG_LINEAR_V1


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_resnets_for_cifar_are_those_for_imagenet_but_for_the_stem(depth):
    ours, theirs = (getattr(module, f"ResNet{depth}") for module in (resnet_cifar, resnet_imagenet))
    assert count(ours, 7, (3, 32, 32)) == count(theirs, 7, (3, 32, 32)) - RESNET_CUT


def test_inception_resnet_v2_has_its_published_size():
    pytest.importorskip("timm")
    assert count(InceptionResNetV2, 1000, (3, 299, 299)) == 55_843_464  # timm's table of results


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (SmallCNN, (1, 8, 8)),
        (SmallCNN, (3, 32, 32)),
        (SmallCNN, (2, 5, 9)),
        (LeNet5, (1, 28, 28)),
        (LeNet5, (3, 32, 32)),
        (LeNet5, (1, 16, 20)),
        (VGG11_BN, (1, 32, 40)),
        (ResNet18, (1, 28, 28)),
        (CNN9, (1, 28, 28)),
        (ResNet32_GN, (1, 8, 8)),
        (PreActResNet18, (2, 9, 8)),
        (Linear5, (6,)),
    ],
)
def test_outputs_have_one_column_per_class(network, shape):
    torch.manual_seed(0)  # with some weights all outputs are positive
    model = network(7, shape).eval()
    logits = model(torch.randn(2, *shape))
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()
    assert (logits < 0).any()


def test_the_small_cnn_is_cheap_and_scales_with_its_width():
    assert flops_per_sample(SmallCNN(10, (1, 8, 8)), (1, 8, 8))[0] < 1e6
    assert SmallCNN(10, (1, 8, 8), width=4).features[0].weight.shape == (4, 1, 3, 3)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "vgg11", "vgg13_bn", "vgg16", "vgg19_bn"])
def test_names_are_those_of_torchvision(name):
    ours = getattr(resnet_cifar, name.replace("resnet", "ResNet")) if name.startswith("resnet") else getattr(vgg, name.upper())
    with torch.device("meta"):
        assert list(ours(10, (3, 32, 32)).state_dict()) == list(get_model(name, num_classes=10).state_dict())


@pytest.mark.parametrize("depth", [18, 50])
def test_resnet_computes_what_torchvision_computes_after_its_stem(depth):
    torch.manual_seed(0)
    ours, theirs = getattr(resnet_cifar, f"ResNet{depth}")(10, (3, 16, 16)).eval(), get_model(f"resnet{depth}", num_classes=10).eval()
    state = theirs.state_dict()
    state["conv1.weight"] = ours.conv1.weight
    theirs.conv1, theirs.maxpool = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False), torch.nn.Identity()
    theirs.load_state_dict(state)
    ours.load_state_dict(state)
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(ours(images), theirs(images))


def test_preact_blocks_norm_first_and_their_shortcut_reads_the_activated_input():
    torch.manual_seed(0)
    block = PreActResNet18(10, (3, 8, 8)).eval().layer2[0]
    torch.nn.init.normal_(block.bn1.running_mean)
    x = torch.randn(2, 64, 6, 6)
    active = block.bn1(x).relu()
    expected = block.conv2(block.bn2(block.conv1(active)).relu()) + functional.conv2d(active, block.shortcut.weight, stride=2)
    torch.testing.assert_close(block(x), expected)


def test_resnet32_has_shortcuts_without_weights():
    block = ResNet32(10, (3, 8, 8)).eval().layer2[0]
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.rand(2, 16, 5, 5)
    out = block(x)
    assert out.shape == (2, 32, 3, 3)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2])
    assert not out[:, :8].any()
    assert not out[:, 24:].any()


def test_group_norm_replaces_batch_norm():
    kinds = {norm.num_channels: norm.num_groups for norm in ResNet32_GN(10, (3, 8, 8)).modules() if isinstance(norm, torch.nn.GroupNorm)}
    assert kinds == {16: 16, 32: 32, 64: 32}
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in ResNet32_GN(10, (3, 8, 8)).modules())


@pytest.mark.parametrize("network", [CNN9, Linear5, VGG11_BN])
def test_dropout_is_off_in_evaluation(network):
    """The references of the first two leave it on."""
    model, images = network(10, (3, 32, 32)).eval(), torch.randn(2, 3, 32, 32)
    assert torch.equal(model(images), model(images))
    assert any(isinstance(module, torch.nn.Dropout | torch.nn.Dropout2d) and module.p > 0 for module in model.modules())


def test_vgg_starts_as_the_reference():
    torch.manual_seed(0)
    model = VGG11_BN(10, (3, 32, 32))
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * module.out_channels)), rel=0.05)
            assert not module.bias.any()


@pytest.mark.parametrize(("network", "shape"), [(SmallCNN, (1, 8, 8)), (LeNet5, (1, 28, 28)), (VGG11_BN, (3, 32, 32))])
def test_initialisation_draws_from_the_global_generator_alone(network, shape):
    def fresh(seed):
        with stream(seed, "init", 0).scope():
            return network(10, shape).state_dict()

    first, again, other = fresh(1), fresh(1), fresh(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(
    ("network", "shape"),
    [(LeNet5, (1, 8, 8)), (VGG11_BN, (1, 28, 28)), (VGG11_BN, (3, 64, 64)), (SmallCNN, (1, 3, 3)), (CNN9, (1, 8, 8))],
)
def test_images_of_a_wrong_size_are_refused(network, shape):
    with pytest.raises(UserError, match=f"{shape[1]} x {shape[2]}"):
        network(10, shape)


@pytest.mark.parametrize("network", [LeNet5, VGG11_BN, ResNet18, CNN9, ResNet32, PreActResNet18, resnet_imagenet.ResNet18, vit.ViT_B_32])
def test_inputs_that_are_no_images_are_refused(network):
    with pytest.raises(UserError, match=r"needs images \(channels, height, width\), but .* the shape \(4,\)"):
        network(10, (4,))


def test_a_missing_timm_is_reported_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm.models.inception_resnet_v2", None)
    with pytest.raises(UserError, match=r"needs the package timm, .*pip install 'sap-sweep\[timm\]'"):
        InceptionResNetV2(10, (3, 32, 32))

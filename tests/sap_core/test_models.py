import math

import pytest
import torch
from torchvision.models import resnet18, vgg11_bn

from sap_core.cost import flops_per_sample
from sap_core.errors import UserError
from sap_core.models.lenet5 import LeNet5
from sap_core.models.resnet_cifar import ResNet18
from sap_core.models.small_cnn import SmallCNN
from sap_core.models.vgg import VGG11_BN
from sap_core.seeding import stream

torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("network", "outputs", "shape", "parameters"),
    [
        (SmallCNN, 10, (1, 8, 8), 15_498),
        (LeNet5, 10, (1, 28, 28), 44_426),
        (VGG11_BN, 10, (3, 32, 32), 9_756_426),
        (ResNet18, 10, (3, 32, 32), 11_173_962),
        (ResNet18, 100, (3, 32, 32), 11_220_132),
    ],
)
def test_parameters_are_counted_as_published(network, outputs, shape, parameters):
    assert sum(p.numel() for p in network(outputs, shape).parameters()) == parameters
    assert network.version == 1


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


@pytest.mark.parametrize(("ours", "theirs"), [(ResNet18, resnet18), (VGG11_BN, vgg11_bn)])
def test_names_are_those_of_torchvision(ours, theirs):
    assert list(ours(10, (3, 32, 32)).state_dict()) == list(theirs(num_classes=10).state_dict())


def test_resnet18_computes_what_torchvision_computes_after_its_stem():
    torch.manual_seed(0)
    ours, theirs = ResNet18(10, (3, 16, 16)).eval(), resnet18(num_classes=10).eval()
    state = theirs.state_dict()
    state["conv1.weight"] = ours.conv1.weight
    theirs.conv1, theirs.maxpool = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False), torch.nn.Identity()
    theirs.load_state_dict(state)
    ours.load_state_dict(state)
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(ours(images), theirs(images))


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
    ("network", "shape"), [(LeNet5, (1, 8, 8)), (VGG11_BN, (1, 28, 28)), (VGG11_BN, (3, 64, 64)), (SmallCNN, (1, 3, 3))]
)
def test_images_of_a_wrong_size_are_refused(network, shape):
    with pytest.raises(UserError, match=f"{shape[1]} x {shape[2]}"):
        network(10, shape)

"""Resizing of images in networks of a fixed size, and loading of weights."""

import warnings

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional
from torchvision.models import get_model
from torchvision.transforms.v2.functional import resize

from sap_core.errors import UserError
from sap_core.models import resnet_imagenet, vit
from sap_core.models.inputs import FitImages
from sap_core.models.pretrained import load_pretrained

torch.set_num_threads(1)


@pytest.mark.parametrize(("size", "side"), [((32, 32), 224), ((8, 8), 299), ((28, 20), 32), ((64, 64), 24), ((300, 200), 96)])
def test_images_are_resized_as_torchvision_resizes_tensors(size, side):
    images = torch.randn(2, 3, *size)
    torch.testing.assert_close(FitImages("net", (3, *size), side)(images), resize(images, [side, side], antialias=True))


def test_resizing_and_normalising_can_change_places():
    images, fit = torch.rand(2, 3, 8, 8), FitImages("net", (3, 8, 8), 20)
    torch.testing.assert_close(fit((images - 0.4) / 0.2), (fit(images) - 0.4) / 0.2)


def test_images_of_the_right_size_pass_unchanged():
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(FitImages("net", (3, 16, 16), 16)(images), images)
    assert torch.equal(FitImages("net", (3, 16, 16), None)(images), images)


def test_grey_images_become_three_equal_channels():
    images = torch.randn(2, 1, 8, 8)
    fitted = FitImages("net", (1, 8, 8), None)(images)
    assert fitted.shape == (2, 3, 8, 8)
    assert all(torch.equal(fitted[:, [channel]], images) for channel in range(3))


def test_gradients_reach_the_images():
    images = torch.randn(1, 1, 8, 8, requires_grad=True)
    FitImages("net", (1, 8, 8), 12)(images).sum().backward()
    torch.testing.assert_close(images.grad.sum(), torch.tensor(3.0 * 12 * 12))


@pytest.mark.parametrize(
    ("shape", "side", "said"),
    [
        ((2, 8, 8), 8, "images of 1 or 3 channels, but those of this data set have 2"),
        ((7,), 8, r"the shape \(7,\)"),
        ((3, 8, 8), 0, "to 0 pixels"),
    ],
)
def test_what_cannot_be_fitted_is_refused(shape, side, said):
    with pytest.raises(UserError, match=f"model=net .*{said}"):
        FitImages("net", shape, side)


def test_an_imagenet_resnet_resizes_where_asked():
    torch.manual_seed(0)
    plain, sized = (resnet_imagenet.ResNet18(5, (1, 8, 8), image_size=size).eval() for size in (None, 64))
    sized.net.load_state_dict(plain.net.state_dict())
    images = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(plain(images), plain.net(images.expand(-1, 3, -1, -1)))
    larger = functional.interpolate(images, (64, 64), mode="bilinear").expand(-1, 3, -1, -1)
    torch.testing.assert_close(sized(images), plain.net(larger))


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A file as torchvision publishes it: ResNet18 with a head for six classes."""
    torch.manual_seed(1)
    net = get_model("resnet18", num_classes=6)
    folder = tmp_path_factory.mktemp("weights")
    torch.save(net.state_dict(), folder / "resnet18.pth")
    save_file(net.state_dict(), folder / "resnet18.safetensors")
    return folder / "resnet18.pth", net.state_dict()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_all_weights_are_loaded(published, suffix):
    path, state = published
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = resnet_imagenet.ResNet18(6, (3, 32, 32), weights=str(path.with_suffix(suffix)))
    assert all(torch.equal(value, state[name]) for name, value in model.net.state_dict().items())


def test_a_head_of_another_size_keeps_its_initialisation_with_a_warning(published):
    path, state = published
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="a head for 6 classes; the head for 10 classes keeps its initialisation"):
        model = resnet_imagenet.ResNet18(10, (3, 32, 32), weights=str(path))
    found = model.net.state_dict()
    assert all(torch.equal(found[name], value) for name, value in state.items() if not name.startswith("fc."))
    assert found["fc.weight"].shape == (10, 512)
    assert found["fc.weight"].any()


def test_names_and_shapes_are_checked_without_memory(published):
    path, _ = published
    with torch.device("meta"):
        resnet_imagenet.ResNet18(6, (3, 32, 32), weights=str(path))
        with pytest.raises(UserError, match=r"another network than ResNet: it lacks layer1\.2\.conv1\.weight.*additionally has nothing"):
            resnet_imagenet.ResNet34(6, (3, 32, 32), weights=str(path))
        with pytest.raises(UserError, match=r"'layer1\.0\.conv1\.weight' has shape .* and \d+ more"):
            resnet_imagenet.ResNet50(6, (3, 32, 32), weights=str(path))


def test_published_files_of_earlier_versions_are_taken(tmp_path, monkeypatch):
    """torchvision's ViTs were published with other names of their perceptrons, and early networks without batch counters."""
    from torchvision.models import VisionTransformer

    def tiny(network, weights, num_classes, dropout):
        return VisionTransformer(16, 8, 1, 1, 4, 4, dropout, num_classes=num_classes)

    monkeypatch.setattr("torchvision.models.get_model", tiny)
    state = tiny("", None, 3, 0.0).state_dict()
    old = {name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): value for name, value in state.items()}
    assert old.keys() != state.keys()
    torch.save(old, tmp_path / "vit.pth")
    loaded = vit.ViT_B_16(3, (3, 16, 16), weights=str(tmp_path / "vit.pth")).net.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())
    with pytest.warns(UserWarning, match="a head for 3 classes"):
        vit.ViT_B_16(2, (3, 16, 16), weights=str(tmp_path / "vit.pth"))
    norm = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    torch.save({name: value for name, value in norm.state_dict().items() if "num_batches" not in name}, tmp_path / "norm.pth")
    load_pretrained(norm, str(tmp_path / "norm.pth"), head="1")


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("code in a weights file ran",))


@pytest.mark.filterwarnings("ignore:.*using the weights under its key 'net'")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (Trap(), "cannot be read as weights"),
        ({"epoch": 3, "net": {"a": torch.ones(1)}}, "weights of another network"),
        (b"no weights at all", "cannot be read as weights"),
        (None, r"is not a file .* set it to the path of a state dict"),
    ],
)
def test_what_is_no_state_dict_is_refused_with_its_place(tmp_path, content, said):
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UserError, match=said) as caught:
        load_pretrained(nn.Linear(2, 2), str(path), head="")
    assert str(path) in str(caught.value)

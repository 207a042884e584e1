"""Numbers of classes and of input channels, read from the shapes of a state dict."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sap_core.models.head import StateShape, describe, head_size, input_channels


class _TwoHeads(nn.Module):
    """An auxiliary head, as in GoogLeNet, and a head with two rows per class."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4, 8, 3, groups=2)
        self.aux, self.head = nn.Linear(8, classes), nn.Linear(8, 2 * classes + 1, bias=False)


def _convolutional(classes):
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, classes, 1), nn.Flatten())


BUILDERS = {
    "linear head": (lambda classes: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, classes)), 3),
    "convolution as head": (_convolutional, 1),
    "two heads, groups": (_TwoHeads, 4),
    "no convolution": (lambda classes: nn.Sequential(nn.Flatten(), nn.Linear(6, classes)), None),
}


@pytest.mark.parametrize(("build", "channels"), BUILDERS.values(), ids=BUILDERS)
@pytest.mark.parametrize("classes", [1, 2, 5, 17])
def test_classes_and_channels_are_those_of_the_state_dict_whatever_the_network_was_built_for(build, channels, classes):
    state = build(classes).state_dict()
    with torch.device("meta"):
        assert describe(state, build) == StateShape(classes, channels)
        assert head_size(state, build) == classes


def test_what_the_shapes_do_not_tell_is_none():
    build, _ = BUILDERS["linear head"]
    assert describe({}, build) == StateShape(None, None)
    # Two heads that disagree belong to another network.
    mixed = _TwoHeads(3).state_dict() | {"aux.weight": torch.zeros(7, 8)}
    assert head_size(mixed, _TwoHeads) is None
    # A network that ignores the number of classes.
    fixed = lambda classes: nn.Linear(2, 4)  # noqa: E731
    assert head_size(fixed(3).state_dict(), fixed) is None


def test_the_channels_are_those_of_the_state_dict_and_not_of_the_network():
    grey, colour = nn.Sequential(nn.Conv2d(1, 4, 3)), nn.Sequential(nn.Conv2d(3, 4, 3))
    assert input_channels(grey.state_dict(), colour) == 1
    assert input_channels({"0.weight": torch.zeros(4)}, colour) is None

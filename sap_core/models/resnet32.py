"""ResNet32 (He et al. 2016, section 4.2) of the 6n + 2 family for CIFAR with n = 5, and the version of PRL with group norm.

Three stages of 16, 32 and 64 channels; shortcuts have no weights (option A: every second pixel, zeros in new channels). 464,154 parameters
for ten classes, with either norm. Convolutions and the linear layer start from Kaiming's normal distribution (fan in).
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from sap_core.models.inputs import image_shape

BLOCKS = 5
"""Number of blocks per stage."""


def norm_of(channels: int, grouped: bool) -> nn.Module:
    """Return batch norm, or the group norm of PRL: at most 32 groups, so one channel per group up to 32 channels, and two at 64."""
    return nn.GroupNorm(min(32, channels), channels) if grouped else nn.BatchNorm2d(channels)


class Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut without weights."""

    def __init__(self, channels: int, width: int, stride: int, grouped: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.norm1 = norm_of(width, grouped)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = norm_of(width, grouped)
        self.relu = nn.ReLU()
        self.stride = stride
        self.new = width - channels

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        if self.stride > 1:
            # Option A of the paper: every second pixel, and the new channels are zeros, half of them on each side.
            shortcut = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.new // 2, self.new - self.new // 2))
        x = self.relu(self.norm1(self.conv1(x)))
        return self.relu(self.norm2(self.conv2(x)) + shortcut)


class ResNet32(nn.Module):
    """Maps (N, C, H, W) of any size to (N, num_outputs), with batch norm."""

    name: ClassVar[str] = "resnet32"
    version: ClassVar[int] = 1
    grouped: ClassVar[bool] = False

    def __init__(self, num_outputs: int, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        channels, _, _ = image_shape(type(self).__name__.lower(), input_shape)
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.norm1 = norm_of(16, self.grouped)
        self.relu = nn.ReLU()
        self.layer1 = self._stage(16, 16, 1)
        self.layer2 = self._stage(16, 32, 2)
        self.layer3 = self._stage(32, 64, 2)
        self.fc = nn.Linear(64, num_outputs)
        # Norms keep torch's initialisation (scale one, shift zero).
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def _stage(self, channels: int, width: int, stride: int) -> nn.Sequential:
        first = Block(channels, width, stride, self.grouped)
        return nn.Sequential(first, *(Block(width, width, 1, self.grouped) for _ in range(BLOCKS - 1)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        # Global average pooling, whatever the size of the map.
        return self.fc(x.mean((2, 3)))


class ResNet32_GN(ResNet32):  # noqa: N801 - PRL's name of the network
    """With group norm, which does not couple the samples of a batch, so that per-sample gradients exist."""

    name: ClassVar[str] = "resnet32_gn"
    grouped = True

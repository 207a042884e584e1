"""Pre-activation ResNets (He et al. 2016, "Identity mappings") in the CIFAR form of DivideMix, SOP and Prune4ReL.

They begin with a 3 x 3 convolution, batch norm and ReLU, have 1 x 1 shortcuts without batch norm that read the activated input, and no norm
between the last block and the pooling. 11,171,274 parameters for ten classes with 18 layers, 21,279,434 with 34. The network that Prune4ReL
calls PreActResNet34 has ordinary blocks; here it has pre-activation blocks. Initialised by torch's defaults.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from sap_core.models.inputs import image_shape


class PreActBlock(nn.Module):
    """Two sequences of norm, ReLU and convolution, and a shortcut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.relu = nn.ReLU()
        self.shortcut = None if stride == 1 and channels == width else nn.Conv2d(channels, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # The shortcut's convolution reads the activated input, the identity shortcut the input itself, as in the reference code.
        active = self.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(active)
        return self.conv2(self.relu(self.bn2(self.conv1(active)))) + shortcut


class PreActResNet(nn.Module):
    """Maps (N, C, H, W) of any size to (N, num_outputs); subclasses define the number of blocks per stage."""

    version: ClassVar[int] = 1
    blocks: ClassVar[tuple[int, int, int, int]]

    def __init__(self, num_outputs: int, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        channels, _, _ = image_shape(type(self).__name__.lower(), input_shape)
        self.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.layer1 = _stage(64, 64, 1, self.blocks[0])
        self.layer2 = _stage(64, 128, 2, self.blocks[1])
        self.layer3 = _stage(128, 256, 2, self.blocks[2])
        self.layer4 = _stage(256, 512, 2, self.blocks[3])
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        # No norm and no ReLU behind the last block, as in DivideMix's network.
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def _stage(channels: int, width: int, stride: int, count: int) -> nn.Sequential:
    return nn.Sequential(PreActBlock(channels, width, stride), *(PreActBlock(width, width, 1) for _ in range(count - 1)))


class PreActResNet18(PreActResNet):
    """Eight blocks."""

    name: ClassVar[str] = "preact_resnet18"
    blocks = (2, 2, 2, 2)


class PreActResNet34(PreActResNet):
    """Sixteen blocks."""

    name: ClassVar[str] = "preact_resnet34"
    blocks = (3, 4, 6, 3)

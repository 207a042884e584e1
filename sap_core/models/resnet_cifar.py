"""ResNets (He et al. 2016) for CIFAR: the first convolution is 3 x 3 with stride 1, and there is no pooling before the first stage.

Parameter names, and the stride in the 3 x 3 convolution of a bottleneck, are those of torchvision. Initialised by torch's defaults, as in
the SAP repository. Parameters for ten classes:

    ResNet18 11,173,962   ResNet34 21,282,122   ResNet50 23,520,842   ResNet101 42,512,970   ResNet152 58,156,618
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from sap_core.models.inputs import image_shape


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, which is a 1 x 1 convolution where the shape changes."""

    expansion: ClassVar[int] = 1

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        return self.relu(x + shortcut)


class Bottleneck(nn.Module):
    """A 3 x 3 convolution between two 1 x 1 convolutions, the last with four times as many channels, and a shortcut."""

    expansion: ClassVar[int] = 4

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        # The stride is in the 3 x 3 convolution, as in torchvision, and not in the first 1 x 1 as in the paper: names and FLOPs agree.
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU()
        self.downsample = _shortcut(channels, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        return self.relu(x + shortcut)


def _shortcut(channels: int, width: int, stride: int) -> nn.Module | None:
    # Weights only where the shape changes (option B of the paper).
    if stride == 1 and channels == width:
        return None
    return nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))


class ResNetCIFAR(nn.Module):
    """Maps (N, C, H, W) of any size to (N, num_outputs); subclasses define the blocks and their number per stage."""

    version: ClassVar[int] = 1
    block: ClassVar[type[BasicBlock] | type[Bottleneck]]
    blocks: ClassVar[tuple[int, int, int, int]]

    def __init__(self, num_outputs: int, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        channels, _, _ = image_shape(type(self).__name__.lower(), input_shape)
        # The CIFAR stem: at 32 x 32 pixels a 7 x 7 convolution with stride 2 and pooling would leave 8 x 8 for the first stage.
        self.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        # Names of the layers are torchvision's, so that state dicts can be exchanged where shapes agree.
        self.layer1 = self._stage(64, 64, 1, self.blocks[0])
        self.layer2 = self._stage(64 * self.block.expansion, 128, 2, self.blocks[1])
        self.layer3 = self._stage(128 * self.block.expansion, 256, 2, self.blocks[2])
        self.layer4 = self._stage(256 * self.block.expansion, 512, 2, self.blocks[3])
        # Equals the repository's 4 x 4 pooling at 32 pixels and takes other sizes, too.
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * self.block.expansion, num_outputs)

    def _stage(self, channels: int, width: int, stride: int, count: int) -> nn.Sequential:
        # Only a stage's first block changes resolution and width.
        first = self.block(channels, width, stride)
        return nn.Sequential(first, *(self.block(width * self.block.expansion, width, 1) for _ in range(count - 1)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


class ResNet18(ResNetCIFAR):
    """Eight basic blocks."""

    name: ClassVar[str] = "resnet18"
    block, blocks = BasicBlock, (2, 2, 2, 2)


class ResNet34(ResNetCIFAR):
    """Sixteen basic blocks."""

    name: ClassVar[str] = "resnet34"
    block, blocks = BasicBlock, (3, 4, 6, 3)


class ResNet50(ResNetCIFAR):
    """Sixteen bottlenecks."""

    name: ClassVar[str] = "resnet50"
    block, blocks = Bottleneck, (3, 4, 6, 3)


class ResNet101(ResNetCIFAR):
    """Thirty-three bottlenecks."""

    name: ClassVar[str] = "resnet101"
    block, blocks = Bottleneck, (3, 4, 23, 3)


class ResNet152(ResNetCIFAR):
    """Fifty bottlenecks."""

    name: ClassVar[str] = "resnet152"
    block, blocks = Bottleneck, (3, 8, 36, 3)

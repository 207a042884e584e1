"""VGG11 with batch norm (Simonyan and Zisserman 2015) in its form for CIFAR: 32 x 32 images, a head of 512 units instead of 4,096.

Parameter names are torchvision's. 9,756,426 parameters for ten classes.
"""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor, nn

from sap_core.errors import UserError

STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))
"""Channels of the 3 x 3 convolutions; each stage ends with pooling by two."""


class VGG11_BN(nn.Module):  # noqa: N801 - torchvision's name of the network
    """Maps (N, C, H, W) to (N, num_outputs); H and W of 32 to 63, so that one pixel is left.

    Convolutions start from N(0, 2 / (9 * out_channels)) with zero bias, as in SAP's released code; linear layers from torch's default.
    """

    version: ClassVar[int] = 1

    def __init__(self, num_outputs: int, input_shape: tuple[int, ...], dropout: float = 0.5) -> None:
        super().__init__()
        channels, height, width = input_shape
        if not (height // 32 == width // 32 == 1):
            raise UserError(f"model=vgg11_bn needs images of 32 to 63 pixels a side, but these have {height} x {width}; use model=lenet5")
        self.features = nn.Sequential(*_convolutions(channels))
        self.classifier = nn.Sequential(
            nn.Linear(512, 512),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(512, 512),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(512, num_outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


def _convolutions(channels: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for stage in STAGES:
        for width in stage:
            convolution = nn.Conv2d(channels, width, 3, padding=1)
            nn.init.normal_(convolution.weight, 0.0, math.sqrt(2 / (9 * width)))
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
            layers += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return layers

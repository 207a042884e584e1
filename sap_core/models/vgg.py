"""VGG (Simonyan and Zisserman 2015) for CIFAR: 32 x 32 images, and hidden layers of 512 instead of 4,096 units in the head.

Parameter names are torchvision's. Parameters for ten classes, without and with batch norm:

    VGG11 9,750,922 9,756,426    VGG13 9,935,434 9,941,322    VGG16 15,245,130 15,253,578    VGG19 20,554,826 20,565,834
"""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor, nn

from sap_core.errors import UserError
from sap_core.models.inputs import image_shape

STAGES = (64, 128, 256, 512, 512)
"""Channels of the 3 x 3 convolutions of each stage; a stage ends with pooling by two."""


class VGG(nn.Module):
    """Maps (N, C, H, W) to (N, num_outputs); H and W are 32 to 63, so that five poolings reduce them to one pixel.

    `width` multiplies the channels of all layers; 1/8 needs a sixty-fourth of the FLOPs.

    Convolutions start from N(0, 2 / (9 * out_channels)) with zero bias, as in SAP's released code; linear layers from torch's default.
    Subclasses define the number of convolutions per stage, and whether batch norm follows them.
    """

    version: ClassVar[int] = 1
    convolutions: ClassVar[tuple[int, ...]]
    batch_norm: ClassVar[bool]

    def __init__(self, num_outputs: int, input_shape: tuple[int, ...], dropout: float = 0.5, width: float = 1.0) -> None:
        super().__init__()
        name = type(self).__name__.lower()
        if not 0 < width <= 8:
            raise UserError(f"model.width={width:g} must be in (0, 8]; it multiplies the channels of {name}, and 1 is its usual form")
        # Five poolings by two must end at one pixel, because the head reads 512 numbers and not a map.
        channels, height, across = image_shape(name, input_shape)
        if not (height // 32 == across // 32 == 1):
            raise UserError(
                f"model={name} needs images of 32 to 63 pixels a side, but those of this data set have {height} x {across}; use a resnet"
            )
        # Rounded stage by stage, and at least one channel for the narrowest networks.
        stages = tuple(max(1, round(width * stage)) for stage in STAGES)
        units = stages[-1]
        self.features = nn.Sequential(*self._features(channels, stages))
        self.classifier = nn.Sequential(
            nn.Linear(units, units),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(units, units),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(units, num_outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))

    def _features(self, channels: int, stages: tuple[int, ...]) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for width, count in zip(stages, self.convolutions, strict=True):
            for _ in range(count):
                convolution = nn.Conv2d(channels, width, 3, padding=1)
                # Kaiming's variance by fan out, 2 / (k k out), as in SAP's released code.
                nn.init.normal_(convolution.weight, 0.0, math.sqrt(2 / (9 * width)))
                nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
                # Convolutions keep their bias even before a batch norm, as in torchvision, so that parameter names and counts agree.
                layers += [convolution, *([nn.BatchNorm2d(width)] if self.batch_norm else []), nn.ReLU()]
                channels = width
            # Every stage halves the resolution.
            layers.append(nn.MaxPool2d(2))
        return layers


class VGG11(VGG):
    """Eight convolutions."""

    name: ClassVar[str] = "vgg11"
    convolutions, batch_norm = (1, 1, 2, 2, 2), False


class VGG11_BN(VGG):  # noqa: N801 - torchvision's name of the network
    """Eight convolutions, with batch norm."""

    name: ClassVar[str] = "vgg11_bn"
    convolutions, batch_norm = (1, 1, 2, 2, 2), True


class VGG13(VGG):
    """Ten convolutions."""

    name: ClassVar[str] = "vgg13"
    convolutions, batch_norm = (2, 2, 2, 2, 2), False


class VGG13_BN(VGG):  # noqa: N801
    """Ten convolutions, with batch norm."""

    name: ClassVar[str] = "vgg13_bn"
    convolutions, batch_norm = (2, 2, 2, 2, 2), True


class VGG16(VGG):
    """Thirteen convolutions."""

    name: ClassVar[str] = "vgg16"
    convolutions, batch_norm = (2, 2, 3, 3, 3), False


class VGG16_BN(VGG):  # noqa: N801
    """Thirteen convolutions, with batch norm."""

    name: ClassVar[str] = "vgg16_bn"
    convolutions, batch_norm = (2, 2, 3, 3, 3), True


class VGG19(VGG):
    """Sixteen convolutions."""

    name: ClassVar[str] = "vgg19"
    convolutions, batch_norm = (2, 2, 4, 4, 4), False


class VGG19_BN(VGG):  # noqa: N801
    """Sixteen convolutions, with batch norm."""

    name: ClassVar[str] = "vgg19_bn"
    convolutions, batch_norm = (2, 2, 4, 4, 4), True

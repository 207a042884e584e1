"""CNN9, the nine-layer network of co-teaching (Han et al. 2018) and PRL: nine 3 x 3 convolutions with batch norm and a linear head.

4,434,570 parameters for ten classes of 32 x 32 colour images. The reference keeps dropout active in evaluation; here it is not.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from sap_core.models.inputs import image_shape


class CNN9(nn.Module):
    """Maps (N, C, H, W) of at least 28 x 28 pixels to (N, num_outputs). Initialised by torch's defaults."""

    name: ClassVar[str] = "cnn9"
    version: ClassVar[int] = 1

    def __init__(self, num_outputs: int, input_shape: tuple[int, ...], dropout: float = 0.25) -> None:
        super().__init__()
        channels, _, _ = image_shape("cnn9", input_shape, least=28, instead="small_cnn")
        self.features = nn.Sequential(
            *_convolutions(channels, (128, 128, 128), padding=1),
            nn.MaxPool2d(2),
            nn.Dropout2d(dropout),
            *_convolutions(128, (256, 256, 256), padding=1),
            nn.MaxPool2d(2),
            nn.Dropout2d(dropout),
            # Without padding: at 32 x 32 pixels the 8 x 8 map shrinks to 2 x 2 before the pooling.
            *_convolutions(256, (512, 256, 128), padding=0),
            nn.AdaptiveAvgPool2d(1),
        )
        self.classifier = nn.Linear(128, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


def _convolutions(channels: int, widths: tuple[int, ...], padding: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Conv2d(channels, width, 3, padding=padding), nn.BatchNorm2d(width), nn.LeakyReLU(0.01)]
        channels = width
    return layers

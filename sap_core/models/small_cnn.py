"""A small CNN with batch norm for quick experiments on small images (8 x 8 digits): three 3 x 3 convolutions and one linear layer."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from sap_core.models.inputs import image_shape


class SmallCNN(nn.Module):
    """Maps (N, C, H, W) of at least 4 x 4 pixels to (N, num_outputs)."""

    name: ClassVar[str] = "small_cnn"
    version: ClassVar[int] = 1

    def __init__(self, num_outputs: int, input_shape: tuple[int, ...], width: int = 16) -> None:
        super().__init__()
        channels, _, _ = image_shape("small_cnn", input_shape, least=4)
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            # A fixed 2 x 2 map whatever the size of the images, which fixes the width of the head.
            nn.AdaptiveAvgPool2d(2),
        )
        self.classifier = nn.Linear(4 * 2 * width, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))

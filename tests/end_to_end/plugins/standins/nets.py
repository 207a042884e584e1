"""Two small networks."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn


class TinyNet(nn.Module):
    """One convolution with batch norm, one linear layer."""

    name: ClassVar[str] = "tiny_net"
    version: ClassVar[int] = 1

    def __init__(self, num_outputs: int, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(input_shape[0], 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.head = nn.Linear(6 * 16, num_outputs)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.pool(torch.relu(self.norm(self.conv(images)))).flatten(1))


class TwoLayers(nn.Module):
    """For inputs that are vectors."""

    name: ClassVar[str] = "two_layers"
    version: ClassVar[int] = 1

    def __init__(self, num_outputs: int, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.hidden = nn.Linear(input_shape[0], 16)
        self.head = nn.Linear(16, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(torch.relu(self.hidden(inputs)))

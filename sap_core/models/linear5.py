"""Linear5, the multilayer perceptron of the SAP repository: four hidden layers of 784 units with dropout, and a linear head.

2,469,610 parameters for ten classes of 28 x 28 grey images. The released version keeps dropout active in evaluation; here it is
not.
"""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor, nn

HIDDEN = 4


class Linear5(nn.Module):
    """Maps inputs (N, ...) of any shape to (N, num_outputs)."""

    name: ClassVar[str] = "linear5"
    version: ClassVar[int] = 1

    def __init__(self, num_outputs: int, input_shape: tuple[int, ...], width: int = 784, dropout: float = 0.1) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        inputs = math.prod(input_shape)
        for _ in range(HIDDEN):
            # A module, so that evaluation mode switches dropout off; the released network calls the function, which stays active.
            layers += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(dropout)]
            inputs = width
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, num_outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)

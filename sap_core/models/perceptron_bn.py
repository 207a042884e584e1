"""PerceptronBN, a deep multilayer perceptron with batch norm: the network of SAP's released demonstration on the spiral.

Nine hidden layers of 500 units, each Linear, BatchNorm, ReLU, and a linear head: 2,015,502 parameters for two inputs and two classes. The
released network ends in log-softmax under a negative log-likelihood, which is the cross-entropy of these logits.
"""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor, nn

from sap_core.errors import at_least


class PerceptronBN(nn.Module):
    """Maps inputs (N, ...) of any shape to (N, num_outputs)."""

    name: ClassVar[str] = "perceptron_bn"
    version: ClassVar[int] = 1

    def __init__(self, num_outputs: int, input_shape: tuple[int, ...], hidden: int = 9, width: int = 500) -> None:
        super().__init__()
        at_least("model", 1, hidden=hidden, width=width)
        layers: list[nn.Module] = [nn.Flatten()]
        inputs = math.prod(input_shape)
        for _ in range(hidden):
            # Norm before ReLU, as in the demonstration.
            layers += [nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU()]
            inputs = width
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, num_outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)

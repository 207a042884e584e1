"""LeNet5 (LeCun et al. 1998, in its modern form): two 5 x 5 convolutions without padding, three linear layers, ReLU, max pooling.

44,426 parameters for ten classes of 28 x 28 grey images. SAP's released version applies a ReLU to the logits, which is omitted here.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from sap_core.models.inputs import image_shape


class LeNet5(nn.Module):
    """Maps (N, C, H, W) to (N, num_outputs); H and W of at least 16."""

    name: ClassVar[str] = "lenet5"
    version: ClassVar[int] = 1

    def __init__(self, num_outputs: int, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        channels, height, width = image_shape("lenet5", input_shape, least=16, instead="small_cnn")
        self.conv1 = nn.Conv2d(channels, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        # The width follows from the size of the images, so that other sizes than 28 x 28 are possible.
        self.fc1 = nn.Linear(16 * _side(height) * _side(width), 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        x = x.flatten(1)
        x = functional.relu(self.fc1(x))
        x = functional.relu(self.fc2(x))
        return self.fc3(x)


def _side(pixels: int) -> int:
    """Side of the feature map after two rounds of a 5 x 5 convolution and pooling by two."""
    for _ in range(2):
        # The convolution takes four pixels, and pooling rounds down.
        pixels = (pixels - 4) // 2
    return pixels

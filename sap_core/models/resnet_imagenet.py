"""ResNets (He et al. 2016) for ImageNet, of torchvision: the first convolution is 7 x 7 with stride 2, followed by max pooling.

Any image size is possible; without `image_size` images keep their size, and 32 x 32 pixels become one in the last stage. Grey images are
repeated to three channels. Parameters for 1,000 classes, as torchvision publishes them:

    ResNet18 11,689,512   ResNet34 21,797,672   ResNet50 25,557,032   ResNet101 44,549,160   ResNet152 60,192,808
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from sap_core.models.inputs import FitImages
from sap_core.models.pretrained import load_pretrained


class ResNetImageNet(nn.Module):
    """Maps (N, 1 or 3, H, W) to (N, num_outputs); subclasses name torchvision's network.

    Args:
        num_outputs: classes.
        input_shape: (C, H, W).
        image_size: side that images are resized to (see `FitImages`), or None: not resized. Published weights are for 224.
        weights: file with a state dict of torchvision's network (see `pretrained`), or None: torchvision's initialisation.
    """

    version: ClassVar[int] = 1
    file_fields: ClassVar[tuple[str, ...]] = ("weights",)
    network: ClassVar[str]

    def __init__(self, num_outputs: int, input_shape: tuple[int, ...], image_size: int | None = None, weights: str | None = None) -> None:
        super().__init__()
        # torchvision is imported where it is needed: the package loads without it.
        from torchvision.models import get_model

        self.fit = FitImages(f"{self.network}_imagenet", input_shape, image_size)
        # `weights=None`: nothing is downloaded; weights come from a local file or not at all.
        self.net: nn.Module = get_model(self.network, weights=None, num_classes=num_outputs)
        if weights is not None:
            load_pretrained(self.net, weights, head="fc")

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.fit(x))


class ResNet18(ResNetImageNet):
    """Eight basic blocks."""

    name: ClassVar[str] = "resnet18_imagenet"
    network = "resnet18"


class ResNet34(ResNetImageNet):
    """Sixteen basic blocks."""

    name: ClassVar[str] = "resnet34_imagenet"
    network = "resnet34"


class ResNet50(ResNetImageNet):
    """Sixteen bottlenecks."""

    name: ClassVar[str] = "resnet50_imagenet"
    network = "resnet50"


class ResNet101(ResNetImageNet):
    """Thirty-three bottlenecks."""

    name: ClassVar[str] = "resnet101_imagenet"
    network = "resnet101"


class ResNet152(ResNetImageNet):
    """Fifty bottlenecks."""

    name: ClassVar[str] = "resnet152_imagenet"
    network = "resnet152"

"""Vision transformers (Dosovitskiy et al. 2021) of torchvision, for images of 224 x 224 pixels.

The network resizes other images and repeats grey ones to three channels (see `FitImages`). The SAP repository builds them with 1,000
outputs for every data set; here the head has one output per class. Parameters for 1,000 classes, as torchvision publishes them:

    ViT-B/16 86,567,656   ViT-B/32 88,224,232   ViT-L/16 304,326,632   ViT-L/32 306,535,400   ViT-H/14 632,045,800

torchvision initialises the head with zeros, so an untrained network gives all classes the same logit.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from sap_core.models.inputs import FitImages
from sap_core.models.pretrained import load_pretrained

SIDE = 224


class ViT(nn.Module):
    """Maps (N, 1 or 3, H, W) to (N, num_outputs); subclasses name torchvision's network.

    Args:
        num_outputs: classes.
        input_shape: (C, H, W).
        dropout: dropout rate after each sublayer.
        weights: file with a state dict of torchvision's network (see `pretrained`), or None: torchvision's initialisation.
    """

    version: ClassVar[int] = 1
    file_fields: ClassVar[tuple[str, ...]] = ("weights",)
    network: ClassVar[str]

    def __init__(self, num_outputs: int, input_shape: tuple[int, ...], dropout: float = 0.0, weights: str | None = None) -> None:
        super().__init__()
        # torchvision is imported where it is needed: the package loads without it.
        from torchvision.models import get_model

        self.fit = FitImages(self.network, input_shape, SIDE)
        self.net: nn.Module = get_model(self.network, weights=None, num_classes=num_outputs, dropout=dropout)
        if weights is not None:
            # After construction, so that a head for other classes keeps the initialisation that it has just been given.
            load_pretrained(self.net, weights, head="heads.head")

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.fit(x))


class ViT_B_16(ViT):  # noqa: N801 - torchvision's names of the networks
    """Base: 12 blocks of width 768; patches of 16 x 16."""

    name: ClassVar[str] = "vit_b_16"
    network = "vit_b_16"


class ViT_B_32(ViT):  # noqa: N801
    """Base: 12 blocks of width 768; patches of 32 x 32."""

    name: ClassVar[str] = "vit_b_32"
    network = "vit_b_32"


class ViT_L_16(ViT):  # noqa: N801
    """Large: 24 blocks of width 1,024; patches of 16 x 16."""

    name: ClassVar[str] = "vit_l_16"
    network = "vit_l_16"


class ViT_L_32(ViT):  # noqa: N801
    """Large: 24 blocks of width 1,024; patches of 32 x 32."""

    name: ClassVar[str] = "vit_l_32"
    network = "vit_l_32"


class ViT_H_14(ViT):  # noqa: N801
    """Huge: 32 blocks of width 1,280; patches of 14 x 14."""

    name: ClassVar[str] = "vit_h_14"
    network = "vit_h_14"

"""InceptionResNetV2 (Szegedy et al. 2017) of timm, for images of 299 x 299 pixels, as in the SAP repository for WebVision.

The network resizes other images and repeats grey ones to three channels (see `FitImages`). 55,843,464 parameters for 1,000 classes. timm is
an optional dependency: pip install 'sap-sweep[timm]'.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from sap_core.errors import UserError
from sap_core.models.inputs import FitImages
from sap_core.models.pretrained import load_pretrained

SIDE = 299


class InceptionResNetV2(nn.Module):
    """Maps (N, 1 or 3, H, W) to (N, num_outputs).

    Args:
        num_outputs: classes.
        input_shape: (C, H, W).
        dropout: dropout rate before the head.
        weights: file with a state dict of timm's network (see `pretrained`), or None: timm's initialisation.

    Raises:
        UserError: timm is not installed.
    """

    name: ClassVar[str] = "inception_resnet_v2"
    version: ClassVar[int] = 1
    file_fields: ClassVar[tuple[str, ...]] = ("weights",)

    def __init__(self, num_outputs: int, input_shape: tuple[int, ...], dropout: float = 0.0, weights: str | None = None) -> None:
        super().__init__()
        try:
            # timm is an optional dependency, so it is imported for this network only.
            from timm.models.inception_resnet_v2 import InceptionResnetV2 as Network
        except ImportError as error:
            raise UserError(
                f"model=inception_resnet_v2 needs the package timm, which cannot be imported ({error}); "
                "install it: pip install 'sap-sweep[timm]'"
            ) from error
        self.fit = FitImages("inception_resnet_v2", input_shape, SIDE)
        self.net: nn.Module = Network(num_classes=num_outputs, drop_rate=dropout)
        if weights is not None:
            load_pretrained(self.net, weights, head="classif")

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.fit(x))

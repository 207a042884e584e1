"""What a network takes: images of enough pixels, and, for networks of a fixed size, images that are brought to it on the way in.

Shapes: N batch, C channels, H x W pixels, S side.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from sap_core.errors import UserError


def image_shape(model: str, input_shape: tuple[int, ...], least: int = 1, instead: str = "") -> tuple[int, int, int]:
    """(C, H, W) of inputs that must be images of at least `least` pixels a side; `instead` names a model for smaller ones.

    Raises:
        UserError: they are no images, or too small.
    """
    if len(input_shape) != 3:
        raise UserError(
            f"model={model} needs images (channels, height, width), but the inputs of this data set have the shape {tuple(input_shape)}; "
            "choose a model for vectors, or a data set of images"
        )
    channels, height, width = input_shape
    if min(height, width) < least:
        other = f"; use model={instead}" if instead else ""
        raise UserError(f"model={model} needs images of at least {least} x {least} pixels, but these have {height} x {width}{other}")
    return channels, height, width


class Fit(nn.Module):
    """Maps (N, C, H, W) images to (N, 3, S, S): grey ones are repeated, others resized by bilinear interpolation on their own device.

    Shrinking averages (antialias); enlarging interpolates between pixel centres. Interpolation is linear and its weights sum to one, so it
    gives the same before and after normalisation. The aspect ratio is not kept, as in the SAP repository's test transform. Without a side
    (`side=None`) images keep their size.

    Raises:
        UserError: the inputs are no images, or have neither one nor three channels.
    """

    def __init__(self, model: str, input_shape: tuple[int, ...], side: int | None) -> None:
        super().__init__()
        channels, _, _ = image_shape(model, input_shape)
        if channels not in (1, 3):
            raise UserError(f"model={model} takes grey images or three colours, but these have {channels} channels; choose another model")
        if side is not None and side < 1:
            raise UserError(f"model={model} cannot resize images to {side} pixels; set model.image_size to 1 or more, or to null")
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        if self.side is not None and x.shape[-2:] != (self.side, self.side):
            shrinks = max(x.shape[-2:]) > self.side
            x = functional.interpolate(x, (self.side, self.side), mode="bilinear", antialias=shrinks)
        return x.expand(-1, 3, -1, -1)

    def extra_repr(self) -> str:
        return f"side={self.side}"

"""Input requirements of networks: minimum image size, and resizing to a fixed size.

Shapes: N batch, C channels, H x W pixels, S side.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from sap_core.errors import UserError


def image_shape(model: str, input_shape: tuple[int, ...], least: int = 1, instead: str = "") -> tuple[int, int, int]:
    """Return (C, H, W) of inputs that must be images.

    Args:
        model: name of the network, for messages.
        input_shape: shape of one input.
        least: minimum height and width in pixels.
        instead: network to recommend for smaller images.

    Raises:
        UserError: the inputs are not images, or too small.
    """
    if len(input_shape) != 3:
        raise UserError(
            f"model={model} needs images (channels, height, width), but inputs of this data set have the shape {tuple(input_shape)}; "
            "use a model for vectors, or a data set of images"
        )
    channels, height, width = input_shape
    # Refused at construction, not by a shape error in the middle of a job.
    if min(height, width) < least:
        other = f"; use model={instead}" if instead else ""
        raise UserError(
            f"model={model} needs images of at least {least} x {least} pixels, but those of this data set have {height} x {width}{other}"
        )
    return channels, height, width


def probe_images(count: int, input_shape: tuple[int, ...]) -> Tensor:
    """Return inputs (count, ...) to try a network with: all different, in [-1, 1], the same at every call, on the default device."""
    # No constant: networks may normalise their inputs, and would divide by a standard deviation of zero.
    # Made on the CPU, because for the meta device torch would import modules that take seconds.
    values = torch.linspace(-1, 1, count * math.prod(input_shape), device="cpu")
    return values.reshape(count, *input_shape).to(torch.get_default_device())


class FitImages(nn.Module):
    """Maps images (N, C, H, W) to (N, 3, S, S): bilinear resizing on their device, and repetition of grey images to three channels.

    Reduction uses antialiasing. Interpolation is linear with weights that sum to one, so the order of resizing and normalisation does not
    matter. The aspect ratio is not kept, as in the test transform of the SAP repository.

    Args:
        model: name of the network, for messages.
        input_shape: (C, H, W).
        side: S; None keeps the size of the images.

    Raises:
        UserError: the inputs are not images of one or three channels, or `side` is below 1.
    """

    def __init__(self, model: str, input_shape: tuple[int, ...], side: int | None) -> None:
        super().__init__()
        channels, _, _ = image_shape(model, input_shape)
        # Only grey images can be repeated without inventing colours.
        if channels not in (1, 3):
            raise UserError(f"model={model} needs images of 1 or 3 channels, but those of this data set have {channels}; use another model")
        if side is not None and side < 1:
            raise UserError(f"model={model} cannot resize images to {side} pixels; set model.image_size to 1 or more, or to null")
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        if self.side is not None and x.shape[-2:] != (self.side, self.side):
            # Without antialiasing a reduction would skip pixels; an enlargement has nothing to smooth.
            shrinks = max(x.shape[-2:]) > self.side
            x = functional.interpolate(x, (self.side, self.side), mode="bilinear", antialias=shrinks)
        # A view: three channels of one grey image share its memory. Colour images keep their three.
        return x.expand(-1, 3, -1, -1)

    def extra_repr(self) -> str:
        return f"side={self.side}"

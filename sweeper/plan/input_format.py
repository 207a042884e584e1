"""Chooses the size and the channels of the inputs of a given network, from its checkpoint and the headers of the images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sap_core.data.file_facts import ImageHeaders, Reading
from sap_core.errors import UserError


@dataclass(frozen=True)
class NetworkFormat:
    """What is known about the inputs of a network.

    Attributes:
        name: in the configuration, for messages.
        channels: input channels of the first convolution of the checkpoint; None: no checkpoint, or no convolution.
        usual_size: side in pixels of the images that such networks are usually trained on; None: unknown.
        runs: whether the network accepts an input of (channels, side).
    """

    name: str
    channels: int | None
    usual_size: int | None
    runs: Callable[[int, int], bool]


def choose_channels(headers: ImageHeaders, network: NetworkFormat, given: int | None = None) -> Reading:
    """Choose 1 or 3 channels: those of the checkpoint, or else those of the images if the network accepts them.

    Args:
        headers: of the images.
        network: the network.
        given: the configured number, which must not contradict the checkpoint; None: it is to be chosen.

    Raises:
        UserError: the checkpoint is for another number of channels than image files can be read with, or than `given`.
    """
    wanted = network.channels
    if wanted is not None and wanted not in (1, 3):
        raise UserError(
            f"the first convolution in the checkpoint has {wanted} input channels, but image files are read as 1 (grey) or 3 (colour); "
            f"use dataset=tensors for images with {wanted} channels"
        )
    if given is not None and wanted is not None and given != wanted:
        raise UserError(
            f"dataset.channels={given}, but the first convolution in the checkpoint has {wanted} input channels; leave dataset.channels "
            f"out (images are converted), or use a checkpoint for {given}"
        )
    if wanted is None:
        # Networks that always take colour images, such as torchvision's, get grey images in three equal channels.
        wanted = 1 if not headers.colour and any(network.runs(1, side) for side in _sides(headers, network)) else 3
        source = "the images"
    else:
        source = "the first convolution in the checkpoint"
    return Reading(given or wanted, f"{source}; {_conversion(headers, given or wanted)}")


def _conversion(headers: ImageHeaders, channels: int) -> str:
    changed = headers.grey if channels == 3 else headers.colour
    share = "the" if changed == headers.read else f"{changed} of {headers.read}"
    if not changed:
        return "images have as many"
    return f"{share} grey images are repeated in 3 channels" if channels == 3 else f"{share} colour images are converted to grey"


def choose_size(headers: ImageHeaders, network: NetworkFormat, channels: int) -> Reading:
    """Choose the side of the square to which images are resized.

    It is that of the images if all are squares of one size, or else the usual one of the network, or else that of most images; and the
    usual one of the network if the network does not accept the other.
    """
    side, source = _preferred(headers, network)
    usual = network.usual_size
    if usual is not None and side != usual and not network.runs(channels, side) and network.runs(channels, usual):
        return Reading(usual, f"usual size of {network.name}, which does not accept images of {side} x {side}")
    return Reading(side, source)


def _preferred(headers: ImageHeaders, network: NetworkFormat) -> tuple[int, str]:
    width, height = max(headers.sizes, key=lambda size: (headers.sizes[size], size))
    looked = "all images" if headers.read == headers.total else f"{headers.read} of {headers.total} images"
    if len(headers.sizes) == 1 and width == height:
        return width, f"{looked} have {width} x {height} pixels"
    images = f"{looked} have {width} x {height}" if len(headers.sizes) == 1 else f"images have {len(headers.sizes)} sizes"
    if network.usual_size is not None:
        return network.usual_size, f"usual size of {network.name}; {images} and are resized to a square"
    # Without a usual size: as few images as possible are resized, and none is enlarged along its shorter side.
    return min(width, height), f"{images}, most of them {width} x {height}, and are resized to a square"


def _sides(headers: ImageHeaders, network: NetworkFormat) -> list[int]:
    return [side for side in dict.fromkeys([_preferred(headers, network)[0], network.usual_size]) if side is not None]

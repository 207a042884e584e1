"""What the weights of a two-dimensional convolution are multiplied with: patches of its input, and their second moments.

Columns are ordered as `weight.flatten(1)`: channel, then kernel row, then kernel column. All geometries go through explicit patches; the
common one, 3x3 with stride 1 and one zero of padding, has a faster way to the same Gram matrix, in two steps: correlations of the images
with themselves (`shift_sums`), which are added up over images, and the matrix that is put together from their sum (`shift_gram`).

Shapes: B images, K groups, C channels per group, H x W input, P x Q output positions, D = C kh kw inputs, N columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

PIECE_BYTES = 64 * 2**20
"""Inputs are turned into float64 columns in pieces of about this size."""

CACHE_BYTES = 4 * 2**20
"""Images are correlated on a CPU in pieces of about this size, so that they stay in its cache (measured: up to half the time less)."""

Pair = tuple[int, int]


@dataclass(frozen=True)
class ConvInputs:
    """The inputs of one `Conv2d`: stride, padding of every kind, dilation and groups as the layer has them."""

    groups: int
    channels: int  # per group
    kernel: Pair
    stride: Pair
    dilation: Pair
    padding: tuple[int, int, int, int]  # left, right, top, bottom
    padding_mode: str

    @classmethod
    def of(cls, conv: nn.Module) -> ConvInputs:
        """Reads a layer's geometry."""
        assert isinstance(conv, nn.Conv2d)
        kernel, stride, dilation = (cast(Pair, pair) for pair in (conv.kernel_size, conv.stride, conv.dilation))
        return cls(conv.groups, conv.in_channels // conv.groups, kernel, stride, dilation, _padding(conv), conv.padding_mode)

    @property
    def inputs(self) -> int:
        """D, per group."""
        return self.channels * self.kernel[0] * self.kernel[1]

    @property
    def shifts(self) -> bool:
        """Whether `shift_gram` applies."""
        ones = self.stride == (1, 1) and self.dilation == (1, 1) and self.padding == (1, 1, 1, 1)
        return ones and self.kernel == (3, 3) and self.padding_mode == "zeros"

    @property
    def flops_per_column(self) -> float:
        """Of the Gram matrices, per output position (the shifted way needs at most 13 of the 81 blocks)."""
        return self.groups * 2 * (13 * self.channels**2 if self.shifts else self.inputs**2)

    def columns(self, x: Tensor) -> int:
        """N: images times output positions."""
        left, right, top, bottom = self.padding
        rows, columns = self._positions(x.shape[-2] + top + bottom, x.shape[-1] + left + right)
        return x[..., 0, 0].numel() // (self.groups * self.channels) * rows * columns

    def pieces(self, x: Tensor) -> Iterator[Tensor]:
        """(K, D, N) float64 patches of a (B, K C, H, W) input, some images at a time."""
        padded = _pad(x, self.padding, self.padding_mode)
        positions = self._positions(*padded.shape[-2:])
        for images in padded.split(_images(self.groups * self.inputs * positions[0] * positions[1], PIECE_BYTES)):
            yield self._patches(images, positions)

    def sums(self, x: Tensor) -> Tensor:
        """What `gram` takes, for these images: the Gram matrices themselves, or correlations where the geometry allows; a fresh tensor."""
        if not self.shifts:
            return sum_of(columns_KDN @ columns_KDN.mT for columns_KDN in self.pieces(x))
        images = x.reshape(-1, *x.shape[-3:])
        size = CACHE_BYTES if x.device.type == "cpu" else PIECE_BYTES
        pieces = images.split(_images(images[0].numel(), size))
        return shift_sums((piece.to(torch.float64) for piece in pieces), self.groups)

    def gram(self, sums: Tensor) -> Tensor:
        """(K, D, D) float64: the sum over images and positions of patch patch^T."""
        return shift_gram(sums) if self.shifts else sums

    def _positions(self, height: int, width: int) -> Pair:
        """(P, Q): how many places the kernel takes on a padded image."""
        rows, columns = (
            (size - step * (taps - 1) - 1) // stride + 1
            for size, step, taps, stride in zip((height, width), self.dilation, self.kernel, self.stride, strict=True)
        )
        return rows, columns

    def _patches(self, padded: Tensor, positions: Pair) -> Tensor:
        """(K, D, N) from padded images, one copy per kernel tap."""
        channels_first = padded.transpose(0, 1)
        shape = (self.groups * self.channels, *self.kernel, len(padded), *positions)
        patches = torch.empty(shape, dtype=torch.float64, device=padded.device)
        for row in range(self.kernel[0]):
            for column in range(self.kernel[1]):
                rows = _taps(row * self.dilation[0], self.stride[0], positions[0])
                columns = _taps(column * self.dilation[1], self.stride[1], positions[1])
                patches[:, row, column] = channels_first[:, :, rows, columns]
        return patches.view(self.groups, self.inputs, -1)


_OUTER = {0: -1, 2: 0}
"""Taps of an outer kernel row or column, and the row or column of the image that they never meet."""

_PLACES = {
    key: place
    for place, key in enumerate(
        [("all", dy, dx) for dy in range(3) for dx in range(-2 if dy else 0, 3)]
        + [(edge, tap, shift) for edge in ("row", "column") for tap in _OUTER for shift in range(3)]
        + [("corner", i, j) for i in _OUTER for j in _OUTER]
    )
}
"""Where `shift_sums` keeps which correlation."""


def shift_sums(pieces: Iterable[Tensor], groups: int) -> Tensor:
    """(29, K, C, C) what the Gram matrix of all 3x3 patches of zero-padded images is made of, without making the patches.

    The block between taps (i, j) and (k, m) is the correlation of the image with itself shifted by (k - i, m - j), and 13 shifts (up to
    transposition) serve all 81 blocks. Zeros of the padding add nothing, so only pixels are multiplied. A tap of an outer row or column
    never meets the far row or column of the image; where both taps lie in the same outer row, or column, that edge's own correlation
    must be taken out again (in all other pairs the shift has done so already), and a corner that was taken out twice must come back.

    Args:
        pieces: images (B, K C, H, W), all of one size and of the type to compute in (float64, but for comparisons), without padding.
        groups: K.
    """
    total = None
    for images in pieces:
        pixels = images.transpose(0, 1).unflatten(0, (groups, -1)).transpose(2, 3).contiguous()  # (K, C, H, B, W): rows shift by slicing
        if total is None:
            total = pixels.new_zeros(len(_PLACES), groups, pixels.shape[1], pixels.shape[1])
        for key, first, second in _correlated(pixels):
            total[_PLACES[key]].baddbmm_(first.flatten(2), second.flatten(2).mT)
    assert total is not None
    return total


def _correlated(pixels: Tensor) -> Iterator[tuple[tuple[str, int, int], Tensor, Tensor]]:
    """(key, x(t), x(t + shift)) for each key of `_PLACES`: (K, C, ...) over all t for which both are pixels."""
    height, width = pixels.shape[2], pixels.shape[4]
    for dx in range(3):
        left, right = (side.contiguous() for side in (pixels[..., : max(width - dx, 0)], pixels[..., dx:]))
        for dy in range(3):
            above, below = slice(max(height - dy, 0)), slice(dy, None)
            yield ("all", dy, dx), left[:, :, above], right[:, :, below]
            if dx and dy:
                yield ("all", dy, -dx), right[:, :, above], left[:, :, below]
        for tap, row in _OUTER.items():
            yield ("row", tap, dx), left[:, :, row], right[:, :, row]
    for tap, column in _OUTER.items():
        line = pixels[..., column]
        for dy in range(3):
            yield ("column", tap, dy), line[:, :, : max(height - dy, 0)], line[:, :, dy:]
        for other, row in _OUTER.items():
            yield ("corner", other, tap), line[:, :, row], line[:, :, row]


def shift_gram(sums: Tensor) -> Tensor:
    """(K, C 9, C 9) the Gram matrix of all patches, from (29, K, C, C) `shift_sums`."""
    _, groups, channels, _ = sums.shape
    gram = sums.new_empty(groups, channels, 9, channels, 9)
    for first in range(9):
        for second in range(first, 9):
            (i, j), (k, m) = divmod(first, 3), divmod(second, 3)
            block = sums[_PLACES["all", k - i, m - j]]
            if i == k and i in _OUTER:
                block = block - sums[_PLACES["row", i, m - j]]
            if j == m and j in _OUTER:
                block = block - sums[_PLACES["column", j, k - i]]
            if first == second and i in _OUTER and j in _OUTER:
                block = block + sums[_PLACES["corner", i, j]]
            gram[:, :, first, :, second] = block
            gram[:, :, second, :, first] = block.mT
    return gram.view(groups, channels * 9, channels * 9)


def _taps(start: int, step: int, count: int) -> slice:
    """Where one kernel tap lies as the kernel takes its `count` places."""
    return slice(start, start + step * (count - 1) + 1, step)


def _padding(conv: nn.Conv2d) -> tuple[int, int, int, int]:
    """(left, right, top, bottom); 'same' puts the odd one behind, as torch does."""
    if conv.padding == "valid":
        return (0, 0, 0, 0)
    if conv.padding == "same":
        total = [step * (size - 1) for step, size in zip(conv.dilation, conv.kernel_size, strict=True)]
        return (total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2)
    rows, columns = cast(Pair, conv.padding)
    return (columns, columns, rows, rows)


def _pad(x: Tensor, padding: tuple[int, int, int, int], mode: str) -> Tensor:
    """(B, K C, H', W') with the borders that the layer adds; one image alone becomes a batch of one."""
    batch = x.reshape(-1, *x.shape[-3:])
    return functional.pad(batch, padding, mode="constant" if mode == "zeros" else mode) if any(padding) else batch


def _images(numbers: int, size: int) -> int:
    """How many images of `numbers` float64 values each make a piece of `size` bytes."""
    return max(1, size // (8 * numbers))


def sum_of(parts: Iterator[Tensor]) -> Tensor:
    """The sum of fresh tensors, in their order, in the memory of the first."""
    total = next(parts)
    for part in parts:
        total += part
    return total

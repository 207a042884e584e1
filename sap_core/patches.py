"""What the weights of a two-dimensional convolution are multiplied with: patches of its input, and their second moments.

Columns are ordered as `weight.flatten(1)`: channel, then kernel row, then kernel column. All geometries go through explicit patches; the
common one, 3x3 with stride 1 and one zero of padding, has a faster way to the same Gram matrix.

Shapes: B images, K groups, C channels per group, H x W input, P x Q output positions, D = C kh kw inputs, N columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

PIECE_BYTES = 64 * 2**20
"""Inputs are turned into float64 columns in pieces of about this size."""

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
        """Of the Gram matrices, per output position (the shifted way needs 13 of the 81 blocks; borders left out)."""
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
        for images in padded.split(_images(self.groups * self.inputs * positions[0] * positions[1])):
            yield self._patches(images, positions)

    def gram(self, x: Tensor) -> Tensor:
        """(K, D, D) float64: the sum over images and positions of patch patch^T."""
        if self.shifts:
            padded = _pad(x, self.padding, self.padding_mode)
            images = padded.split(_images(padded[0].numel()))
            return sum_of(shift_gram(piece.to(torch.float64), self.groups) for piece in images)
        return sum_of(columns_KDN @ columns_KDN.mT for columns_KDN in self.pieces(x))

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


def shift_gram(padded: Tensor, groups: int) -> Tensor:
    """(K, D, D) Gram of all 3x3 patches (stride 1) of images that carry one ring of zeros, without making the patches.

    The block between taps (i, j) and (k, m) is the correlation of the image with itself shifted by (k - i, m - j), and 13 shifts (up to
    transposition) serve all 81 blocks. Taps of an outer row or column miss the pixels at the far edge: where both taps lie in the same
    outer row, or column, that edge's share is taken out again (in all other pairs the ring's zeros have done so already). Images lie
    behind one another in one row of memory, so that a shift is an offset: what it wraps around meets a zero of the ring.

    Args:
        padded: (B, K C, H + 2, W + 2) float64, zeros included.
        groups: K.
    """
    count, width = padded.shape[0], padded.shape[3]
    pixels = padded.transpose(0, 1).unflatten(0, (groups, -1)).transpose(2, 3).contiguous()  # (K, C, H + 2, B, W + 2)
    channels = pixels.shape[1]
    missed = {0: -2, 2: 1}  # the last pixel for the first tap, the first one for the last
    whole = {(dy, dx): _correlation(pixels.flatten(2), dy * count * width + dx) for dy in range(3) for dx in range(-2 if dy else 0, 3)}
    in_row = {(i, dx): _correlation(pixels[:, :, row].flatten(2), dx) for i, row in missed.items() for dx in range(3)}
    in_column = {(j, dy): _correlation(pixels[..., column].flatten(2), dy * count) for j, column in missed.items() for dy in range(3)}
    in_corner = {(i, j): _correlation(pixels[:, :, row, :, column], 0) for i, row in missed.items() for j, column in missed.items()}

    gram = padded.new_empty(groups, channels, 9, channels, 9)
    for first in range(9):
        for second in range(first, 9):
            (i, j), (k, m) = divmod(first, 3), divmod(second, 3)
            block = whole[k - i, m - j]
            if i == k and i in missed:
                block = block - in_row[i, m - j]
            if j == m and j in missed:
                block = block - in_column[j, k - i]
            if first == second and first in (0, 2, 6, 8):
                block = block + in_corner[i, j]
            gram[:, :, first, :, second] = block
            gram[:, :, second, :, first] = block.mT
    return gram.view(groups, channels * 9, channels * 9)


def _correlation(line: Tensor, offset: int) -> Tensor:
    """(K, C, C) the sum over t of x(t) x(t + offset)^T along a line (K, C, T) of pixels."""
    return line[..., : line.shape[-1] - offset] @ line[..., offset:].mT


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


def _images(numbers: int) -> int:
    """How many images of `numbers` float64 values each make a piece."""
    return max(1, PIECE_BYTES // (8 * numbers))


def sum_of(parts: Iterator[Tensor]) -> Tensor:
    """The sum of fresh tensors, in their order, in the memory of the first."""
    total = next(parts)
    for part in parts:
        total += part
    return total

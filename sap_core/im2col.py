"""im2col: the input patches that the weights of a Conv2d are multiplied with, and the Gram matrix of these patches.

A patch is a column, ordered as `weight.flatten(1)`: channel, kernel row, kernel column. Every geometry is supported by explicit patches.
For the most common one, 3x3 with stride 1 and zero padding of 1, the same Gram matrix is computed faster without patches: correlations of
the images with shifted copies of themselves (`shifted_correlations`), summed over images, from which `gram_from_correlations` assembles
the matrix. SAP uses the Gram matrices; the trainers' per-sample gradient norms (`trainers.ghost`) use the geometry.

Shapes: B images, K groups, C channels per group, H x W input, P x Q output positions, D = C kh kw inputs, N columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

# Unfolded patches of a 3 x 3 convolution are nine times as large as its input, in float64 eighteen times.
CHUNK_BYTES = 64 * 2**20
"""Approximate size of the chunks of float64 columns that are in memory at a time."""

CACHE_BYTES = 4 * 2**20
"""Approximate size of the chunks of images that are correlated at a time on a CPU, so that they stay in its cache (up to twice as fast)."""

Pair = tuple[int, int]


@dataclass(frozen=True)
class ConvInputs:
    """Geometry of the inputs of one `Conv2d`, for any stride, padding, padding mode, dilation and groups."""

    groups: int
    channels: int  # per group
    kernel: Pair
    stride: Pair
    dilation: Pair
    # Four numbers, because padding 'same' with an even kernel is not symmetric.
    padding: tuple[int, int, int, int]  # left, right, top, bottom
    padding_mode: str

    @classmethod
    def from_module(cls, conv: nn.Module) -> ConvInputs:
        """Read the geometry of a layer."""
        assert isinstance(conv, nn.Conv2d)
        kernel, stride, dilation = (cast(Pair, pair) for pair in (conv.kernel_size, conv.stride, conv.dilation))
        return cls(conv.groups, conv.in_channels // conv.groups, kernel, stride, dilation, _padding(conv), conv.padding_mode)

    @property
    def inputs(self) -> int:
        """D: inputs per group, the number of columns of the weight matrix."""
        return self.channels * self.kernel[0] * self.kernel[1]

    @property
    def by_correlations(self) -> bool:
        """Whether the geometry allows `gram_from_correlations`."""
        # The geometry of nearly all convolutions of VGGs and of CIFAR's ResNets. Elsewhere shifts and taps do not correspond.
        ones = self.stride == (1, 1) and self.dilation == (1, 1) and self.padding == (1, 1, 1, 1)
        return ones and self.kernel == (3, 3) and self.padding_mode == "zeros"

    @property
    def flops_per_column(self) -> float:
        """FLOPs of the Gram matrices per column; correlations compute at most 13 of the 81 blocks."""
        return self.groups * 2 * (13 * self.channels**2 if self.by_correlations else self.inputs**2)

    def count_columns(self, x: Tensor) -> int:
        """N: number of images times output positions."""
        # Counted from the geometry, without unfolding: the caller decides by N whether to keep columns or sums.
        left, right, top, bottom = self.padding
        rows, columns = self._positions(x.shape[-2] + top + bottom, x.shape[-1] + left + right)
        return x[..., 0, 0].numel() // (self.groups * self.channels) * rows * columns

    def column_chunks(self, x: Tensor) -> Iterator[Tensor]:
        """Yield (K, D, N) float64 patches of an input (B, K C, H, W), a few images at a time."""
        # Padded explicitly, since torch's unfold knows symmetric zero padding only.
        padded = _pad(x, self.padding, self.padding_mode)
        positions = self._positions(*padded.shape[-2:])
        # Split by image, so that a chunk is a batch of its own and chunks add up.
        for images in padded.split(_images(self.groups * self.inputs * positions[0] * positions[1], CHUNK_BYTES)):
            yield self._patches(images, positions)

    def partial_gram(self, x: Tensor) -> Tensor:
        """Return a new tensor for `gram`, which adds up over inputs: correlations where the geometry allows them, else Gram matrices."""
        if not self.by_correlations:
            return sum_in_place(columns_KDN @ columns_KDN.mT for columns_KDN in self.column_chunks(x))
        # A layer may be called with a single image without a batch axis.
        images = x.reshape(-1, *x.shape[-3:])
        size = CACHE_BYTES if x.device.type == "cpu" else CHUNK_BYTES
        chunks = images.split(_images(images[0].numel(), size))
        # Converted chunk by chunk, so that the float64 copy is in the cache when it is read.
        return shifted_correlations((chunk.to(torch.float64) for chunk in chunks), self.groups)

    def gram(self, sums: Tensor) -> Tensor:
        """Return (K, D, D) float64 Gram matrices, sums of patch patch^T over images and positions, from sums of `partial_gram`."""
        return gram_from_correlations(sums) if self.by_correlations else sums

    def _positions(self, height: int, width: int) -> Pair:
        """(P, Q) number of output rows and columns for a padded image."""
        rows, columns = (
            (size - step * (taps - 1) - 1) // stride + 1
            for size, step, taps, stride in zip((height, width), self.dilation, self.kernel, self.stride, strict=True)
        )
        return rows, columns

    def _patches(self, padded: Tensor, positions: Pair) -> Tensor:
        """(K, D, N) patches of padded images, copied one kernel tap at a time."""
        # Channels first, so that the result is already ordered as `weight.flatten(1)` and needs no permutation of the large tensor.
        channels_first = padded.transpose(0, 1)
        shape = (self.groups * self.channels, *self.kernel, len(padded), *positions)
        patches = torch.empty(shape, dtype=torch.float64, device=padded.device)
        for row in range(self.kernel[0]):
            for column in range(self.kernel[1]):
                rows = _taps(row * self.dilation[0], self.stride[0], positions[0])
                columns = _taps(column * self.dilation[1], self.stride[1], positions[1])
                # One strided copy per tap: nine large copies for a 3 x 3 kernel, however many positions there are.
                patches[:, row, column] = channels_first[:, :, rows, columns]
        return patches.view(self.groups, self.inputs, -1)


_OUTER = {0: -1, 2: 0}
"""Outer kernel row or column -> the image row or column that its taps never cover."""

# Shifts (dy, dx) and (-dy, -dx) are transposes of each other, so only 13 of 25 are kept: dy > 0, or dy = 0 and dx >= 0.
_SLOTS = {
    key: slot
    for slot, key in enumerate(
        [("all", dy, dx) for dy in range(3) for dx in range(-2 if dy else 0, 3)]
        + [(edge, tap, shift) for edge in ("row", "column") for tap in _OUTER for shift in range(3)]
        + [("corner", i, j) for i in _OUTER for j in _OUTER]
    )
}
"""Correlation -> its index in the result of `shifted_correlations`."""


def shifted_correlations(chunks: Iterable[Tensor], groups: int) -> Tensor:
    """Return (29, K, C, C) correlations from which the Gram matrix of all 3x3 patches of zero-padded images can be assembled.

    The block of the Gram matrix between taps (i, j) and (k, m) is the correlation of the image with itself shifted by (k - i, m - j), so 13
    shifts (up to transposition) serve all 81 blocks. The zeros of the padding contribute nothing, so only pixels are multiplied. A tap of
    an outer kernel row or column never covers the far row or column of the image. If both taps lie in the same outer row or column, the
    correlation of that edge must be subtracted (in all other pairs the shift already excludes it), and a corner that was subtracted twice
    must be added back.

    Args:
        chunks: images (B, K C, H, W) without padding, all of one size, in the dtype of the computation (float64 except in benchmarks).
        groups: K.
    """
    total = None
    for images in chunks:
        # (K, C, H, B, W): rows shift by slicing.
        pixels = images.transpose(0, 1).unflatten(0, (groups, -1)).transpose(2, 3).contiguous()
        # Allocated at the first chunk, which brings device and dtype.
        if total is None:
            total = pixels.new_zeros(len(_SLOTS), groups, pixels.shape[1], pixels.shape[1])
        # Accumulated in place by batched products, one (C, C) block per group.
        for key, first, second in _correlated(pixels):
            total[_SLOTS[key]].baddbmm_(first.flatten(2), second.flatten(2).mT)
    assert total is not None
    return total


def _correlated(pixels: Tensor) -> Iterator[tuple[tuple[str, int, int], Tensor, Tensor]]:
    """Yield (key, x(t), x(t + shift)) for each key of `_SLOTS`: tensors (K, C, ...) over all t where both are pixels."""
    # Shifts along rows are slices of contiguous memory; shifts along columns are copied once per dx and serve all three dy.
    height, width = pixels.shape[2], pixels.shape[4]
    for dx in range(3):
        left, right = (side.contiguous() for side in (pixels[..., : max(width - dx, 0)], pixels[..., dx:]))
        for dy in range(3):
            above, below = slice(max(height - dy, 0)), slice(dy, None)
            yield ("all", dy, dx), left[:, :, above], right[:, :, below]
            # The mirrored shift (dy, -dx) needs no further copy: the two sides swap their parts.
            if dx and dy:
                yield ("all", dy, -dx), right[:, :, above], left[:, :, below]
        # Corrections for the borders: a tap of an outer kernel row misses one image row, whose products are subtracted later.
        for tap, row in _OUTER.items():
            yield ("row", tap, dx), left[:, :, row], right[:, :, row]
    for tap, column in _OUTER.items():
        line = pixels[..., column]
        for dy in range(3):
            yield ("column", tap, dy), line[:, :, : max(height - dy, 0)], line[:, :, dy:]
        # A corner is missed by row and column alike, so it is subtracted twice and added back once (inclusion and exclusion).
        for other, row in _OUTER.items():
            yield ("corner", other, tap), line[:, :, row], line[:, :, row]


def gram_from_correlations(sums: Tensor) -> Tensor:
    """Return (K, 9 C, 9 C) the Gram matrix of all patches from (29, K, C, C) `shifted_correlations`."""
    _, groups, channels, _ = sums.shape
    gram = sums.new_empty(groups, channels, 9, channels, 9)
    for first in range(9):
        # The upper triangle of the 9 x 9 blocks; the other half is its transpose.
        for second in range(first, 9):
            (i, j), (k, m) = divmod(first, 3), divmod(second, 3)
            # The order (first <= second) makes k - i >= 0, and m - j >= 0 where k = i, so the shift is one of those kept.
            block = sums[_SLOTS["all", k - i, m - j]]
            # Out of place, because other blocks use the same correlation.
            if i == k and i in _OUTER:
                block = block - sums[_SLOTS["row", i, m - j]]
            if j == m and j in _OUTER:
                block = block - sums[_SLOTS["column", j, k - i]]
            if first == second and i in _OUTER and j in _OUTER:
                block = block + sums[_SLOTS["corner", i, j]]
            gram[:, :, first, :, second] = block
            gram[:, :, second, :, first] = block.mT
    return gram.view(groups, channels * 9, channels * 9)


def _taps(start: int, step: int, count: int) -> slice:
    """Slice of the padded image that one kernel tap covers over `count` output positions."""
    return slice(start, start + step * (count - 1) + 1, step)


def _padding(conv: nn.Conv2d) -> tuple[int, int, int, int]:
    """(left, right, top, bottom); with padding 'same' an odd pixel is added at the end, as torch does."""
    if conv.padding == "valid":
        return (0, 0, 0, 0)
    if conv.padding == "same":
        # Output and input sizes are equal with this total and stride 1, the only one that torch allows with 'same'.
        total = [step * (size - 1) for step, size in zip(conv.dilation, conv.kernel_size, strict=True)]
        return (total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2)
    rows, columns = cast(Pair, conv.padding)
    return (columns, columns, rows, rows)


def _pad(x: Tensor, padding: tuple[int, int, int, int], mode: str) -> Tensor:
    """(B, K C, H', W') the padded input; a single image becomes a batch of one."""
    batch = x.reshape(-1, *x.shape[-3:])
    return functional.pad(batch, padding, mode="constant" if mode == "zeros" else mode) if any(padding) else batch


def _images(numbers: int, size: int) -> int:
    """Number of images of `numbers` float64 values each that make a chunk of `size` bytes."""
    # At least one image, even if it alone exceeds the size.
    return max(1, size // (8 * numbers))


def sum_in_place(terms: Iterator[Tensor]) -> Tensor:
    """Return the sum of new tensors, added in their order into the first one."""
    # In a fixed order, because the order of additions decides the last bits; in place, because Gram matrices are large.
    total = next(terms)
    for term in terms:
        total += term
    return total

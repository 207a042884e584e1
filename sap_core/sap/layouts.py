"""Layouts of inputs that no supported module has: batched matrix products, and convolutions of one or three dimensions.

Both implement `sap_core.sap.layers.LayerInputs`.

Shapes: K groups, D inputs per group, N columns, B images, C channels per group.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

from sap_core.im2col import CHUNK_BYTES, sum_in_place


@dataclass(frozen=True)
class GroupedInputs:
    """Inputs of K matrices, tensors (K, N, D): the weights of one batched product, such as one matrix per attention head."""

    inputs: int
    groups: int

    @property
    def flops_per_column(self) -> float:
        return 2 * self.groups * self.inputs**2

    def count_columns(self, x: Tensor) -> int:
        return x.numel() // (self.groups * self.inputs)

    def column_chunks(self, x: Tensor) -> Iterator[Tensor]:
        # float64 doubles the size of the input, so it is converted in chunks.
        for rows_KND in x.reshape(self.groups, -1, self.inputs).split(max(1, CHUNK_BYTES // (8 * self.groups * self.inputs)), dim=1):
            yield rows_KND.to(torch.float64).mT

    def partial_gram(self, x: Tensor) -> Tensor:
        return sum_in_place(columns_KDN @ columns_KDN.mT for columns_KDN in self.column_chunks(x))

    def gram(self, sums: Tensor) -> Tensor:
        return sums


@dataclass(frozen=True)
class ConvNdInputs:
    """Patches of a zero-padded convolution of any number of dimensions; `sap_core.im2col.ConvInputs` is faster for two."""

    groups: int
    channels: int  # per group
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[int, ...]  # on both sides of each dimension

    @property
    def inputs(self) -> int:
        """D: inputs per group, ordered as `weight.flatten(1)`."""
        return self.channels * math.prod(self.kernel)

    @property
    def flops_per_column(self) -> float:
        return 2 * self.groups * self.inputs**2

    def count_columns(self, x: Tensor) -> int:
        return len(x) * math.prod(self._positions(x.shape[2:]))

    def column_chunks(self, x: Tensor) -> Iterator[Tensor]:
        positions = self._positions(x.shape[2:])
        # torch's `pad` counts dimensions from the last one.
        padded = functional.pad(x, [side for sides in reversed(self.padding) for side in (sides, sides)])
        # Split by image, so that a chunk is a batch of its own and chunks add up.
        numbers = self.groups * self.inputs * math.prod(positions)
        for images in padded.split(max(1, CHUNK_BYTES // (8 * numbers))):
            yield self._patches(images.transpose(0, 1), positions)

    def partial_gram(self, x: Tensor) -> Tensor:
        return sum_in_place(columns_KDN @ columns_KDN.mT for columns_KDN in self.column_chunks(x))

    def gram(self, sums: Tensor) -> Tensor:
        return sums

    def _positions(self, sizes: torch.Size) -> tuple[int, ...]:
        """Number of output positions along each dimension."""
        return tuple(
            (size + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
            for size, padding, dilation, taps, stride in zip(sizes, self.padding, self.dilation, self.kernel, self.stride, strict=True)
        )

    def _patches(self, channels_first: Tensor, positions: tuple[int, ...]) -> Tensor:
        """(K, D, N) float64 patches of padded images (K C, B, ...), copied one kernel tap at a time."""
        shape = (self.groups * self.channels, *self.kernel, channels_first.shape[1], *positions)
        patches = torch.empty(shape, dtype=torch.float64, device=channels_first.device)
        taps: Iterator[tuple[int, ...]] = product(*(range(size) for size in self.kernel))
        for tap in taps:
            covered = [
                slice(place * dilation, place * dilation + stride * (count - 1) + 1, stride)
                for place, dilation, stride, count in zip(tap, self.dilation, self.stride, positions, strict=True)
            ]
            image: tuple[slice, ...] = (slice(None), slice(None), *covered)
            place: tuple[int | slice, ...] = (slice(None), *tap)
            patches[place] = channels_first[image]
        return patches.view(self.groups, self.inputs, -1)

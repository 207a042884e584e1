"""Gram matrices of 3x3 patches: shifted correlations (sap_core) against unfolded patches and one float32 product.

`python -m benchmarks.gram [--repeats 5] [--quick]`; half a minute.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks._timing import medians, show
from sap_core.im2col import CACHE_BYTES, ConvInputs, gram_from_correlations, shifted_correlations

CASES = ((64, 32, 64), (128, 16, 128), (256, 8, 256), (512, 4, 256), (512, 2, 512))
"""Channels, pixels per side, number of images."""


def unfolded(images: Tensor) -> Tensor:
    """Returns (D, D) in the dtype of `images`: all patches as columns, one product."""
    columns_DN = functional.unfold(images, 3, padding=1).transpose(0, 1).flatten(1)
    return columns_DN @ columns_DN.mT


def shifted(images: Tensor) -> Tensor:
    """Returns (1, D, D) in the dtype of `images`, by the functions that sap_core calls in float64."""
    pieces = images.split(max(1, CACHE_BYTES // (images[0].numel() * images.element_size())))
    return gram_from_correlations(shifted_correlations(pieces, groups=1))


def product(layout: ConvInputs, images: Tensor) -> Tensor:
    """Returns (1, D, D) float64, as sap_core computes it in a forward pass."""
    return layout.gram(layout.partial_gram(images))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to check that it runs")
    options = parser.parse_args(arguments)
    cases, repeats = (((4, 6, 3),), 1) if options.quick else (CASES, options.repeats)
    generator = torch.Generator().manual_seed(0)
    for channels, side, count in cases:
        images = torch.randn(count, channels, side, side, generator=generator).relu()
        layout = ConvInputs.from_module(nn.Conv2d(channels, 1, 3, padding=1))
        paths = {
            "unfold float32": partial(unfolded, images),
            "shifts float32": partial(shifted, images),
            "shifts float64 (sap_core)": partial(product, layout, images),
        }
        show(f"{channels} channels, {side} x {side}, {count} images", medians(paths, repeats), "unfold float32")
        few = images[:16]
        exact = unfolded(few.double())
        errors = [
            float(torch.linalg.norm(found.double() - exact) / torch.linalg.norm(exact))
            for found in (unfolded(few), shifted(few)[0], product(layout, few)[0])
        ]
        print("    relative errors " + ", ".join(f"{error:.0e}" for error in errors))


if __name__ == "__main__":
    main()

"""Trusted sets of 100, 200, 500, 1,000 and 5,000 samples nested in one pass, against a pass for each: collection only, on LeNet-5.

`python -m benchmarks.nested [--repeats 3] [--quick]`; a minute. By count of images the ratio is 6,800 / 5,000 = 1.36.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmarks._timing import medians, show
from sap_core.models.lenet5 import LeNet5
from sap_core.sap import gram

BATCH = 100


def collected(model: nn.Module, images: Tensor, sizes: Sequence[int]) -> list[dict[str, gram.Moments]]:
    """What each size's first images show, in one pass over the largest."""
    found, moments, seen = [], gram.init_moments(model), 0
    for size in sizes:
        for batch in images[seen:size].split(BATCH):
            moments = gram.observe(model, moments, batch)
        found.append(moments)
        seen = size
    return found


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: only shows that it runs")
    options = parser.parse_args(words)
    sizes, repeats = ((100, 200), 1) if options.quick else ((100, 200, 500, 1000, 5000), options.repeats)
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, images = LeNet5(10, (1, 28, 28)).eval(), torch.randn(max(sizes), 1, 28, 28)
    paths = {
        "a pass for each": lambda: [collected(model, images, (size,)) for size in sizes],
        "nested (the product)": lambda: collected(model, images, sizes),
    }
    show(f"sizes {', '.join(map(str, sizes))}", medians(paths, repeats), "a pass for each")
    pairs = [(collected(model, images, (size,))[0], nested) for size, nested in zip(sizes, collected(model, images, sizes), strict=True)]
    same = all(
        torch.equal(a, b)
        if (a := alone[name].gram) is not None and (b := nested[name].gram) is not None
        else alone[name].count == nested[name].count
        for alone, nested in pairs
        for name in alone
    )
    print(f"    the Gram matrices have {'the same bits' if same else 'DIFFERENT BITS'}")


if __name__ == "__main__":
    main()

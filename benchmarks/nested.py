"""SAP's collection for trusted sets of 100, 200, 500, 1,000 and 5,000 samples, nested in one pass, against one pass each, on LeNet-5.

`python -m benchmarks.nested [--repeats 3] [--quick]`; a minute. By number of images the ratio is 6,800 / 5,000 = 1.36.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmarks._timing import medians, show
from sap_core.models.lenet5 import LeNet5
from sap_core.sap import gram
from sap_core.sap.weights import classify

BATCH = 100


def collected(model: nn.Module, images: Tensor, sizes: Sequence[int]) -> list[dict[str, gram.Moments]]:
    """Returns the moments of the first images of each size, from one pass over the largest set."""
    sites = classify(model, images).sites
    found, moments, seen = [], gram.init_moments(sites), 0
    for size in sizes:
        for batch in images[seen:size].split(BATCH):
            moments = gram.observe(model, sites, moments, batch)
        found.append(moments)
        seen = size
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to check that it runs")
    options = parser.parse_args(arguments)
    sizes, repeats = ((100, 200), 1) if options.quick else ((100, 200, 500, 1000, 5000), options.repeats)
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, images = LeNet5(10, (1, 28, 28)).eval(), torch.randn(max(sizes), 1, 28, 28)
    paths = {
        "one pass each": lambda: [collected(model, images, (size,)) for size in sizes],
        "nested (sap_core)": lambda: collected(model, images, sizes),
    }
    show(f"sizes {', '.join(map(str, sizes))}", medians(paths, repeats), "one pass each")
    pairs = [(collected(model, images, (size,))[0], nested) for size, nested in zip(sizes, collected(model, images, sizes), strict=True)]
    same = all(
        torch.equal(a, b)
        if (a := single[name].gram) is not None and (b := nested[name].gram) is not None
        else single[name].count == nested[name].count
        for single, nested in pairs
        for name in single
    )
    print(f"    the Gram matrices have {'the same bits' if same else 'DIFFERENT BITS'}")


if __name__ == "__main__":
    main()

"""Cost of one more alpha for one layer: sap_core's build against dense D x D float32 products, and the two ways to prepare it.

`python -m benchmarks.projector [--inputs 2304] [--outputs 256] [--repeats 3] [--quick]`; a minute.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks._timing import medians, show
from sap_core.sap import spectrum

ALPHA = 30000.0


def dense(matrix_DD: Tensor, times: int) -> None:
    """The products that form projectors: U diag(lambda) and (U diag(lambda)) U^T of two sample sets, and the two products of the sets."""
    for _ in range(times):
        matrix_DD @ matrix_DD


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=2304)
    parser.add_argument("--outputs", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to check that it runs")
    options = parser.parse_args(arguments)
    inputs, outputs, repeats = (12, 4, 1) if options.quick else (options.inputs, options.outputs, options.repeats)
    generator = torch.Generator().manual_seed(0)
    decay = 10 ** -torch.linspace(0, 3, inputs, dtype=torch.float64)
    columns = torch.randn(inputs, 2 * inputs, generator=generator, dtype=torch.float64) * decay[:, None]
    gram_KDD = (columns @ columns.mT).unsqueeze(0)
    weight_KOD = torch.randn(1, outputs, inputs, generator=generator, dtype=torch.float64)

    basis = spectrum.eigenbasis(gram_KDD)
    left = weight_KOD @ basis.directions.mT
    single = basis.rounded(torch.float32)
    left_single, dense_single = left.float(), basis.directions[0].float()
    system = spectrum.gram_system(weight_KOD, gram_KDD)
    exact = spectrum.basis_product(left, basis, ALPHA)
    rounded = spectrum.basis_product(left_single, single, ALPHA)

    print(f"one layer with {inputs} inputs and {outputs} outputs")
    paths = {
        "three dense float32 products": lambda: dense(dense_single, 3),
        "six": lambda: dense(dense_single, 6),
        "one more alpha, float32 (build=float32)": lambda: spectrum.basis_product(left_single, single, ALPHA),
        "float64 (the default)": lambda: spectrum.basis_product(left, basis, ALPHA),
        "by Cholesky, float64": lambda: system.at(ALPHA),
    }
    taken = medians(paths, repeats)
    show("against three", taken, "three dense float32 products")
    show("against six", taken, "six")
    error = float(torch.linalg.norm(rounded.double() - exact) / torch.linalg.norm(exact))
    print(f"    float32 differs from float64 by {error:.0e}")
    prepared = medians({"eigenbasis": lambda: spectrum.eigenbasis(gram_KDD)}, 1)["eigenbasis"]
    even = prepared / (taken["by Cholesky, float64"] - taken["float64 (the default)"])
    print(f"    eigenbasis {prepared:.2f} s, paid back after {even:.1f} alphas (the library call solves up to {spectrum.MAX_SOLVE_ALPHAS})")


if __name__ == "__main__":
    main()

"""Scores for the trusted samples on VGG11_BN: curvature with its constant gradient computed once against once per draw, and the loss.

`python -m benchmarks.selection [--images 32] [--repeats 3] [--quick]`; a minute.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks._timing import medians, show
from sap_core.cost import CostMeter
from sap_core.data.samples import Preprocess, SampleView, TensorPixels
from sap_core.models.modes import evaluating
from sap_core.models.small_cnn import SmallCNN
from sap_core.models.vgg import VGG11_BN
from sap_core.sap.trusted import DRAWS, STEP, curvature, fit_error
from sap_core.seeding import Stream, stream

BATCH = 16


def plain_curvature(model: nn.Module, samples: SampleView, rng: Stream) -> Tensor:
    """Returns the (N,) estimates with two gradients per draw, as the formula is written."""

    def gradient(x: Tensor, labels: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        losses = functional.cross_entropy(model(x).double(), labels, reduction="sum")
        return torch.autograd.grad(losses, x)[0]

    scores = []
    with evaluating(model), torch.enable_grad():
        for batch in samples.batches(BATCH):
            x, labels, total = batch.inputs, batch.labels, torch.zeros(len(batch.labels), dtype=torch.float64)
            drawn = [
                torch.randint(2, (DRAWS, *x.shape[1:]), generator=rng.child(k).generator(), dtype=torch.int8) for k in batch.index.tolist()
            ]
            for signs in (2 * torch.stack(drawn) - 1).to(x).unbind(1):
                total = total + (gradient(x + STEP * signs, labels) - gradient(x, labels)).double().flatten(1).norm(dim=1)
            scores.append(total / DRAWS)
    return torch.cat(scores)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to check that it runs")
    options = parser.parse_args(arguments)
    side, count, repeats = (8, 4, 1) if options.quick else (32, options.images, options.repeats)
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: nn.Module = SmallCNN(10, (3, side, side)) if options.quick else VGG11_BN(10, (3, side, side))
        pixels, labels = torch.randn(count, 3, side, side), torch.randint(10, (count,))
    samples = SampleView(TensorPixels(pixels), torch.arange(count), labels, Preprocess(), torch.device("cpu"))
    rng, meter = stream(0, "select", "curvature"), CostMeter()
    paths = {
        "curvature, both gradients per draw": lambda: plain_curvature(model, samples, rng),
        "curvature (sap_core)": lambda: curvature(model, samples, "classification", BATCH, rng, meter),
        "loss (sap_core)": lambda: fit_error(model, samples, "classification", BATCH, meter),
    }
    show(f"{count} images", medians(paths, repeats), "curvature, both gradients per draw")
    same = torch.equal(plain_curvature(model, samples, rng), curvature(model, samples, "classification", BATCH, rng, meter))
    print(f"    the two curvatures have {'the same bits' if same else 'DIFFERENT BITS'}")


if __name__ == "__main__":
    main()

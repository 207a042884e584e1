"""Evaluation of networks as fused inference copies (norms folded, channels-last weights) against evaluation of the networks themselves.

`python -m benchmarks.evaluation [--repeats 5] [--quick]`; two minutes. CPU seconds of one thread. The time to make the fused copy is
printed separately, and the total for --images images.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks._timing import medians, show
from sap_core.evaluation.fused_inference import apply_fusion, fused_copy, fusion_plan_for
from sap_core.models.lenet5 import LeNet5
from sap_core.models.resnet_cifar import ResNet18
from sap_core.models.small_cnn import SmallCNN
from sap_core.models.vgg import VGG11_BN

#         network, shape, images per batch, batches
CASES = ((VGG11_BN, (3, 32, 32), 128, 2), (ResNet18, (3, 32, 32), 128, 1), (LeNet5, (1, 28, 28), 512, 8), (SmallCNN, (1, 8, 8), 300, 20))


def run(network: nn.Module, batches: Sequence[Tensor]) -> list[Tensor]:
    with torch.inference_mode():
        return [network(batch) for batch in batches]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to check that it runs")
    options = parser.parse_args(arguments)
    cases, repeats = ([(cls, shape, 4, 1) for cls, shape, *_ in CASES[2:]], 1) if options.quick else (CASES, options.repeats)
    torch.set_num_threads(1)
    for cls, shape, size, count in cases:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network: nn.Module = cls(10, shape)
            run(network.train(), [torch.randn(64, *shape)])  # so that running statistics differ from their initial values
            batches = [torch.randn(size, *shape) for _ in range(count)]
        network.eval()
        fused, plan = fused_copy(network, batches[0]), fusion_plan_for(network, batches[0])
        folded = apply_fusion(copy.deepcopy(network), replace(plan, channels_last=False))
        variants = {"network": network, "folded": folded, "folded, channels-last (sap_core)": fused}
        taken = medians({name: partial(run, variant, batches) for name, variant in variants.items()}, repeats)
        show(f"{cls.__name__}, {size * count} images of {shape[1]} x {shape[2]}", taken, "network")
        made = medians({"form": partial(fused_copy, network, batches[0])}, repeats)["form"]
        plain, fast = (taken[name] / (size * count) * options.images for name in ("network", "folded, channels-last (sap_core)"))
        expected, outputs = torch.cat(run(network, batches)), torch.cat(run(fused, batches))
        small = torch.cat(run(fused, torch.cat(list(batches)).split(16))) if size * count % 16 == 0 else None
        bits = "" if small is None else f", batches of 16 give {'the same' if torch.equal(small, outputs) else 'other'} bits"
        worst = float((outputs - expected).abs().max() / expected.abs().max())
        same = "all predictions agree" if torch.equal(outputs.argmax(1), expected.argmax(1)) else "some predictions are DIFFERENT"
        print(
            f"    making the copy {made * 1e3:.1f} ms: {options.images} images with it {fast + made:.2f} s, without {plain:.2f} s "
            f"(x{plain / (fast + made):.2f}); outputs differ by {worst:.0e} of the largest, {same}{bits}"
        )


if __name__ == "__main__":
    main()

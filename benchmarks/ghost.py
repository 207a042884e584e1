"""Norms of per-sample gradients: ghost norms against computing all per-sample gradients (torch.func) and against one sample at a time.

`python -m benchmarks.ghost [--repeats 3] [--batch 128] [--quick]`; a minute. Networks: PRL's ResNet32 with group norm on 32 x 32 images,
and a perceptron with four hidden layers. CPU seconds of one thread; memory is the increase of a fresh process's peak during a call (Linux).
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from benchmarks._timing import medians, show
from sap_core.cost import peak_memory_bytes, reset_peak_memory
from sap_core.models.linear5 import Linear5
from sap_core.models.resnet32 import ResNet32_GN
from trainers import ghost


def by_ghost(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return ghost.squared_norms(model, model, images, lambda outputs: functional.cross_entropy(outputs, labels, reduction="none"))[0]


def materialised(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(weights: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return functional.cross_entropy(functional_call(model, weights, (image[None],)), label[None])

    gradients = vmap(grad(loss), in_dims=(None, 0, 0))(weights, images, labels)
    return torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients.values()]).sum(0)


def one_by_one(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    norms = []
    for image, label in zip(images, labels, strict=True):
        loss = functional.cross_entropy(model(image[None]), label[None])
        norms.append(torch.stack([gradient.square().sum() for gradient in torch.autograd.grad(loss, list(model.parameters()))]).sum())
    return torch.stack(norms)


def ordinary(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The passes of an ordinary training step, for comparison; it has no per-sample gradients."""
    loss = functional.cross_entropy(model(images), labels)
    return torch.autograd.grad(loss, list(model.parameters()))[0]


def peak(call: Callable[[], object]) -> float:
    """Returns the increase of peak memory during a call, in MiB, measured in a separate process."""
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()

    def measure() -> None:
        reset_peak_memory("cpu")
        before = peak_memory_bytes("cpu")
        call()
        queue.put((peak_memory_bytes("cpu") - before) / 2**20)

    child = context.Process(target=measure)
    child.start()
    amount: float = queue.get()
    child.join()
    return amount


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to check that it runs")
    options = parser.parse_args(arguments)
    batch, side, width, repeats = (4, 8, 16, 1) if options.quick else (options.batch, 32, 784, options.repeats)
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks = {
            f"ResNet32_GN, {side} x {side}": (ResNet32_GN(10, (3, side, side)), torch.randn(batch, 3, side, side)),
            f"Linear5, width {width}": (Linear5(10, (width,), width, dropout=0.0), torch.randn(batch, width)),
        }
        labels = torch.randint(10, (batch,))
    ways = {"all per-sample gradients": materialised, "one by one": one_by_one, "ghost (trainers)": by_ghost, "a training step": ordinary}
    measured = {  # before anything is computed here, because a process keeps freed memory
        title: {name: peak(partial(way, *network, labels)) for name, way in ways.items()} for title, network in networks.items()
    }
    for title, (model, images) in networks.items():
        paths = {name: partial(way, model, images, labels) for name, way in ways.items()}
        show(f"{title}, batch {batch}", medians(paths, repeats), "all per-sample gradients")
        print("    memory: " + " | ".join(f"{name} {amount:.0f} MiB" for name, amount in measured[title].items()))
        slow, fast = materialised(model, images, labels), by_ghost(model, images, labels)
        print(f"    norms differ by {float(((fast - slow).abs() / slow).max()):.1e} at most, relatively")


if __name__ == "__main__":
    main()

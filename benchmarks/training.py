"""Training speed: images per second by network and option, the input pipeline's share, and a plain PyTorch loop for comparison.

`python -m benchmarks.training [--device cuda] [--networks vgg11_bn resnet18] [--batch 64] [--steps 4] [--rounds 3] [--quick]`

- step: forward, backward and optimiser step on a mini-batch in memory, by option; one process, alternating between the options.
- pipeline: sap_core's batches (images as one tensor on the device, flip and crop in batches) against a DataLoader without workers over PIL
  images with torchvision's RandomHorizontalFlip, RandomCrop(32, 4), ToTensor and Normalize, as in the released training scripts. Images are
  random: their content does not affect the time.
- loop: pipeline and step together: sap_core's with its options against the plain one in float32.

On a CPU: CPU seconds of one thread. On a GPU: wall seconds, synchronised, after a warm-up; the plain loader may have workers (`--workers`),
as in practice.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from sap_core.api import Batch
from sap_core.cost import CostMeter
from sap_core.data.samples import Preprocess, SampleView, TensorPixels
from sap_core.models.resnet_cifar import ResNet18
from sap_core.models.vgg import VGG11_BN
from sap_core.seeding import stream
from trainers import optim
from trainers.learner import Learner
from trainers.losses import loss_for, losses_for
from trainers.speed import Speed, make_forward

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
NETWORKS = {"vgg11_bn": VGG11_BN, "resnet18": ResNet18}
OPTIONS = {
    "float32": Speed(),
    "channels_last": Speed(channels_last=True),
    "fused": Speed(fused=True),
    "bf16": Speed("bf16"),
    "bf16 channels_last fused": Speed("bf16", "none", True, True),
}
GPU_OPTIONS = {
    "tf32": Speed("tf32"),
    "tf32 channels_last fused graphs": Speed("tf32", "graphs", True, True),
    "float32 graphs": Speed(compile="graphs"),
    "bf16 channels_last fused graphs": Speed("bf16", "graphs", True, True),
    "bf16 channels_last fused compile": Speed("bf16", "compile", True, True),
}


class Clock:
    """Measures CPU seconds on a CPU and synchronised wall seconds on a GPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def seconds(self, call: Callable[[], object]) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            start = time.perf_counter()
            call()
            torch.cuda.synchronize(self.device)
            return time.perf_counter() - start
        start = time.process_time()
        call()
        return time.process_time() - start


def learner_of(network: type[nn.Module], speed: Speed, device: torch.device, batch: int) -> Learner:
    torch.manual_seed(0)
    model = network(num_outputs=10, input_shape=(3, 32, 32)).to(device).train()
    speed.set_memory_format(model, torch.zeros(1, 3, 32, 32, device=device))
    optimiser = optim.sgd(model.parameters(), 0.01, 0.9, 5e-4, True, speed.fused)
    kind = "classification"
    forward_pass = make_forward(model, speed, batch)
    return Learner(model, optimiser, loss_for(kind), True, CostMeter(device=device), losses_for(kind), None, forward_pass)


def descend(learner: Learner, speed: Speed, batches: Iterator[Batch]) -> None:
    with speed.tf32_mode():
        for batch in batches:
            learner.descend(learner.loss(learner.forward(batch.inputs), batch.labels), len(batch.labels))


def plain_loop(network: type[nn.Module], loader: Iterable[tuple[Tensor, Tensor]], steps: int, clock: Clock) -> float:
    """Returns the seconds of `steps` steps of an ordinary PyTorch training loop, after one warm-up step."""
    device = clock.device
    model = network(num_outputs=10, input_shape=(3, 32, 32)).to(device).train()
    optimiser = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    batches = itertools.islice(loader, steps + 1)

    def descend_on(some: Iterable[tuple[Tensor, Tensor]]) -> None:
        for inputs, labels in some:
            optimiser.zero_grad()
            functional.cross_entropy(model(inputs.to(device)), labels.to(device)).backward()
            optimiser.step()

    descend_on(itertools.islice(batches, 1))
    return clock.seconds(lambda: descend_on(batches))


class Photographs(Dataset[tuple[Tensor, int]]):
    """As torchvision's CIFAR10: an array of images, each converted to PIL and transformed when it is accessed."""

    def __init__(self, images: np.ndarray, labels: list[int]) -> None:
        from torchvision import transforms

        self.images, self.labels = images, labels
        self.transform = transforms.Compose(
            [transforms.RandomHorizontalFlip(), transforms.RandomCrop(32, 4), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, which: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.images[which])), self.labels[which]


def show(title: str, images: int, seconds: dict[str, float], against: str) -> None:
    print(title)
    for name, taken in seconds.items():
        print(f"  {name:34s} {images / taken:10.0f} images/s   x{seconds[against] / taken:.2f}")


def alternate(calls: dict[str, Callable[[], object]], rounds: int, clock: Clock) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            taken[name].append(clock.seconds(call))
    return {name: statistics.median(each) for name, each in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description="Images per second, by option.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=2, help="mini-batches in each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=5000, help="number of images for the pipelines")
    parser.add_argument("--workers", type=int, default=0, help="of the plain DataLoader (GPU)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to check that it runs")
    options = parser.parse_args()
    if options.quick:
        options.batch, options.steps, options.rounds, options.images, options.networks = 8, 1, 1, 64, ["vgg11_bn"]
    device = torch.device(options.device)
    torch.set_num_threads(1 if device.type == "cpu" else torch.get_num_threads())
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = True, False
    clock, batch, steps = Clock(device), options.batch, options.steps
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name(device) if device.type == 'cuda' else 'cpu, one thread'}, batch {batch}")

    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (options.images, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (options.images,), generator=generator)
    view = SampleView(TensorPixels(images.to(device)), torch.arange(len(images)), labels, Preprocess(MEAN, STD, "crop_flip"), device)
    photographs = Photographs(images.permute(0, 2, 3, 1).contiguous().numpy(), labels.tolist())
    loader = DataLoader(photographs, batch, shuffle=True, num_workers=options.workers, pin_memory=device.type == "cuda")
    epochs = itertools.count()

    def ours() -> Iterator[Batch]:
        return view.batches(batch, stream(0, "train", next(epochs)), ("augmented",))

    def exhaust(batches: Iterator[object]) -> None:
        for _ in batches:
            pass

    pipelines = alternate({"plain": lambda: exhaust(iter(loader)), "ours": lambda: exhaust(ours())}, options.rounds, clock)
    show("input pipeline", len(images), pipelines, "plain")

    chosen = OPTIONS | (GPU_OPTIONS if device.type == "cuda" else {})
    fixed = list(itertools.islice(ours(), 1))
    for name in options.networks:
        learners = {option: learner_of(NETWORKS[name], speed, device, batch) for option, speed in chosen.items()}
        for option, learner in learners.items():  # warm-up: memory, algorithms, graphs
            descend(learner, chosen[option], iter(fixed))
        calls = {
            option: lambda learner=learner, option=option: descend(learner, chosen[option], iter(fixed * steps))
            for option, learner in learners.items()
        }
        taken = alternate(calls, options.rounds, clock)
        show(f"{name}, training step", batch * steps, taken, "float32")
        per_image = {option: seconds / (batch * steps) for option, seconds in taken.items()}
        ours_per_image, plain_per_image = pipelines["ours"] / len(images), pipelines["plain"] / len(images)
        for option in ("float32", "bf16 channels_last fused"):
            total = per_image[option] + ours_per_image
            print(f"  pipeline's share of a loop in {option}: {100 * ours_per_image / total:.1f} %")
        loop = plain_loop(NETWORKS[name], loader, steps, clock) / (batch * steps)
        print(f"  complete loop, plain DataLoader and float32: {1 / loop:.0f} images/s (its pipeline only {1 / plain_per_image:.0f})")
        for option, each in per_image.items():
            print(f"  complete loop, ours in {option}: {1 / (each + ours_per_image):.0f} images/s, x{loop / (each + ours_per_image):.2f}")


if __name__ == "__main__":
    main()

"""Small networks, a task of 80 synthetic images of which every fourth has a wrong label, and runs that stop and store their state.

Used by `sap-sweep check` and by the tests.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from sap_core.api import Batch, Need, RefusesTasks, SampleCount, Samples, State, Stopped, Task, TaskType, View
from sap_core.data.samples import Preprocess, SampleView, TensorPixels, resolve_count
from sap_core.errors import UserError
from sap_core.run import PlainRun
from sap_core.seeding import Stream, stream
from trainers.sgd import SGD

SEED = 12484
NUM_CLASSES = 4
CPU = torch.device("cpu")


class BatchNormNet(nn.Module):
    """A small convolutional network with batch norm, for 8x8 images of one channel."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 8, 3, padding=1, stride=2)
        self.head = nn.Linear(8 * 16, outputs)

    def forward(self, images: Tensor) -> Tensor:
        hidden = torch.relu(self.norm(self.conv(images)))
        logits: Tensor = self.head(torch.relu(self.second(hidden)).flatten(1))
        return logits


class DropoutNet(nn.Module):
    """A small convolutional network with dropout and no norm."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(6 * 16, outputs)

    def forward(self, images: Tensor) -> Tensor:
        hidden = nn.functional.max_pool2d(torch.relu(self.conv(images)), 2)
        logits: Tensor = self.head(self.drop(hidden.flatten(1)))
        return logits


class GroupNormNet(nn.Module):
    """A small convolutional network with group norm, for trainers that compute per-sample gradients."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(3, 6)
        self.second = nn.Conv2d(6, 8, 3, padding=1, stride=2)
        self.head = nn.Linear(8 * 16, outputs)

    def forward(self, images: Tensor) -> Tensor:
        hidden = torch.relu(self.norm(self.conv(images)))
        logits: Tensor = self.head(torch.relu(self.second(hidden)).flatten(1))
        return logits


NETS: dict[str, Callable[[int], nn.Module]] = {"batch_norm": BatchNormNet, "dropout": DropoutNet, "group_norm": GroupNormNet}


def nets_for(trainer: Any) -> tuple[str, ...]:
    """Names of the two networks that a trainer is checked on: batch norm (or group norm, if it refuses batch norm) and dropout."""
    # Trainers refuse by names and types of layers, so the network needs no memory.
    with torch.device("meta"):
        network = BatchNormNet(NUM_CLASSES)
    try:
        if isinstance(trainer, RefusesTasks):
            trainer.refuse("classification", network)
    except UserError:
        return ("group_norm", "dropout")
    return ("batch_norm", "dropout")


def images_and_labels(count: int = 80, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(N, 1, 8, 8) uint8 images, one blurred pattern per class, and their true classes."""
    generator = torch.Generator().manual_seed(seed)
    # The patterns have a seed of their own, so that training and validation images show the same classes.
    patterns = torch.rand(NUM_CLASSES, 1, 8, 8, generator=torch.Generator().manual_seed(99)) * 160
    labels = torch.randint(0, NUM_CLASSES, (count,), generator=generator)
    images = patterns[labels] + 60 * torch.rand(count, 1, 8, 8, generator=generator)
    return images.to(torch.uint8), labels


def make_task(
    net: str = "batch_norm",
    augment: Literal["none", "flip", "crop_flip"] = "none",
    kind: TaskType = "classification",
    seed: int = SEED,
    count: int = 80,
) -> Task:
    """A task of `count` images, every fourth with a wrong label. Verified samples are drawn in a fixed shuffled order."""
    images, truth = images_and_labels(count)
    # Every fourth label, shifted to the next class: exactly 25 % and the same in each run.
    wrong = torch.arange(count) % 4 == 0
    given = torch.where(wrong, (truth + 1) % NUM_CLASSES, truth)
    outputs = NUM_CLASSES if kind == "classification" else 1
    # Regressions get the classes as numbers.
    labels = given if kind == "classification" else given.float() / 2
    preprocess = Preprocess(mean=(0.4,), std=(0.3,), augment=augment, padding=1)
    train = SampleView(TensorPixels(images), torch.arange(count), labels, preprocess, CPU)
    val_images, val_labels = images_and_labels(20, seed=1)
    val = SampleView(TensorPixels(val_images), torch.arange(20), val_labels, preprocess, CPU)
    # A fixed order, so that smaller verified sets are nested in larger ones, as in the platform.
    order = torch.randperm(count, generator=torch.Generator().manual_seed(7))
    verified = {Need.RETAIN: order[~wrong[order]], Need.FORGET: order[wrong[order]], Need.TRUE_LABELS: torch.arange(count)}

    def source(need: Need, n: SampleCount) -> Samples:
        which = verified[need][: resolve_count(n, len(verified[need]))]
        # As the platform: too few verified samples are an error, not fewer samples.
        if isinstance(n, int) and len(which) < n:
            raise ValueError(f"only {len(which)} verified samples of kind '{need}' exist, not {n}")
        return train.subset(which) if need != Need.TRUE_LABELS else train.relabel(truth)

    def build(k: int) -> nn.Module:
        # As the platform does it: the k-th network of a seed has the same initial weights in every method.
        with stream(seed, "init", k).scope():
            return NETS[net](outputs)

    return Task(train, val, build, kind, outputs, seed, CPU, verified_source=source)


def copy_of(task: Task) -> Task:
    """The task with samples of its own, so that a component that modifies them in place changes no other run."""
    source = task.verified_source

    def verified(need: Need, n: SampleCount) -> Samples:
        assert source is not None
        return copy.deepcopy(source(need, n))

    return replace(task, train=copy.deepcopy(task.train), val=copy.deepcopy(task.val), verified_source=source and verified)


class StoringRun(PlainRun):
    """A run that stores the state after every epoch, and stops after epoch `stop_after`."""

    def __init__(self, stop_after: int | None = None, resume: State | None = None, settings: int = 1) -> None:
        super().__init__(settings, resume)
        self.stop_after = stop_after
        self.stored: State | None = None
        self.kept: list[Tensor | None] = []

    def end_epoch(self, number: int, model: nn.Module, state: Callable[[], State], kept: Tensor | None = None, **scalars: float) -> None:
        super().end_epoch(number, model, state, kept, **scalars)
        # A real run evaluates here and leaves the network in this mode.
        model.eval()
        # An evaluation may draw from the global generator, too.
        torch.rand(3)
        self.kept.append(kept)
        # Copied, because the training goes on and modifies its tensors in place.
        self.stored = copy.deepcopy(state())
        # States are stored as safetensors with JSON, without pickle.
        check_plain(self.stored)
        if number == self.stop_after:
            raise Stopped(f"after epoch {number}")


def check_plain(value: Any, where: str = "state") -> None:
    """Checks that a state consists of tensors, numbers, strings, and dicts of these with string keys.

    Raises:
        TypeError: it contains another type; the message gives the type and its path in the state.
    """
    if isinstance(value, dict):
        for key, entry in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{where} has the key {key!r}, which is not a string")
            check_plain(entry, f"{where}.{key}")
    elif not isinstance(value, Tensor | int | float | str):
        raise TypeError(f"{where} is of type {type(value).__name__}; a state may contain tensors, numbers, strings and dicts of these")


@dataclass(frozen=True, eq=False)
class BreakingSamples:
    """Samples whose batches raise ConnectionError in the middle of the `epoch`-th pass."""

    inner: Samples
    epoch: int
    passes: list[int]

    @property
    def index(self) -> Tensor:
        return self.inner.index

    @property
    def universe(self) -> int:
        return self.inner.universe

    @property
    def labels(self) -> Tensor:
        return self.inner.labels

    def __len__(self) -> int:
        return len(self.inner)

    def subset(self, which: Tensor) -> Samples:
        return self.inner.subset(which)

    def batches(self, size: int, rng: Stream | None = None, views: Sequence[View] = ("plain",)) -> Iterator[Batch]:
        self.passes.append(1)
        for number, batch in enumerate(self.inner.batches(size, rng, views)):
            # After two batches: the weights have changed since the last stored state.
            if len(self.passes) == self.epoch and number == 2:
                raise ConnectionError("the disk went away")
            yield batch


def breaking(task: Task, epoch: int) -> Task:
    """The task with training samples that raise ConnectionError in the middle of pass `epoch`."""
    return replace(task, train=BreakingSamples(task.train, epoch, []))


def weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all parameters and buffers."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@contextmanager
def counted_calls() -> Iterator[list[str]]:
    """Collects the class names of all modules with parameters that are called in the block, in any network of the process.

    The hook is global, so that copies of a network and networks that a method builds itself are counted, too.
    """
    calls: list[str] = []

    def note(module: nn.Module, inputs: object) -> None:
        # Modules without parameters (activations, containers without children) do no work that a pass count covers.
        if any(True for _ in module.parameters()):
            calls.append(type(module).__name__)

    # Removed in any case, because a global hook would slow down every network of the process.
    handle = register_module_forward_pre_hook(note)
    try:
        yield calls
    finally:
        handle.remove()


def passes(run: PlainRun) -> tuple[int, int]:
    """(forwards, backwards) that a run has recorded."""
    return sum(piece.forwards for piece in run.meter.records), sum(piece.backwards for piece in run.meter.records)


def noisy(task: Task) -> nn.Module:
    """A network trained by SGD on the task's given labels, including the wrong ones."""
    return SGD(epochs=5, learning_rate=0.05, batch_size=16, schedule="constant").fit(task, PlainRun()).model

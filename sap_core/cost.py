"""What a computation costs: synchronised seconds, sample-passes and FLOPs by phase and by setting, and peak memory by job.

Work that several settings share is booked once, with the positions of the settings that use it. Each setting then has two costs: *alone*
(every piece it uses, whole: what it would cost by itself) and *shared* (every piece divided by its users: over a family these add up to
what was really spent).
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

Phase = Literal["train", "select", "collect", "factor", "build", "correct", "evaluate", "report"]
"""report is the platform's own book-keeping (test set, probes of the training set): no tuning rule reads it, so no cost counts it."""

TUNING: tuple[Phase, ...] = ("train", "select", "collect", "factor", "build", "correct", "evaluate")


@dataclass
class CostRecord:
    """One piece of work and the settings that use it."""

    phase: Phase
    used_by: tuple[int, ...]
    seconds: float = 0.0
    forwards: int = 0
    backwards: int = 0
    flops: float = 0.0  # beyond the passes: factorisations and dense products


AMOUNTS = ("seconds", "forwards", "backwards", "flops")


@dataclass(frozen=True)
class Amounts:
    """What some work took. A setting's share of common work need not be whole passes."""

    seconds: float = 0.0
    forwards: float = 0.0  # sample-passes
    backwards: float = 0.0
    flops: float = 0.0  # passes included


@dataclass(frozen=True)
class Costs:
    """The cost of one setting, by phase: its share of what was spent, and what it would cost by itself."""

    shared: Mapping[Phase, Amounts]
    standalone: Mapping[Phase, Amounts]


def tuning(by_phase: Mapping[Phase, Amounts]) -> Amounts:
    """The sum over the phases that tuning needs (without `report`)."""
    counted = [amounts for phase, amounts in by_phase.items() if phase in TUNING]
    return Amounts(*(sum(getattr(amounts, what) for amounts in counted) for what in AMOUNTS))


_Book = dict[Phase, list[float]]  # one sum per amount
_NOTHING = (0.0,) * len(AMOUNTS)


class CostMeter:
    """Books pieces of work. `settings` is how many settings the family has."""

    def __init__(self, settings: int = 1, device: torch.device | str = "cpu") -> None:
        self.settings = settings
        self.device = torch.device(device)
        self.records: list[CostRecord] = []
        self._open: list[CostRecord] = []

    @contextmanager
    def __call__(self, phase: Phase, used_by: Sequence[int] | None = None) -> Iterator[CostRecord]:
        """Books the work inside; `used_by` None means all settings. A piece opened inside another takes its time out of it."""
        users = tuple(range(self.settings)) if used_by is None else tuple(used_by)
        if not users:
            raise ValueError(f"a piece of phase '{phase}' must be used by at least one setting")
        piece = CostRecord(phase, users)
        self.records.append(piece)
        self._open.append(piece)
        start = self._now()
        try:
            yield piece
        finally:
            elapsed = self._now() - start
            self._open.pop()
            piece.seconds += elapsed
            if self._open:
                self._open[-1].seconds -= elapsed

    def count(self, forwards: int = 0, backwards: int = 0, flops: float = 0.0) -> None:
        """Adds sample-passes and extra FLOPs to the piece that is open (nowhere, if none is)."""
        if self._open:
            piece = self._open[-1]
            piece.forwards += forwards
            piece.backwards += backwards
            piece.flops += flops

    def costs(self, flops_forward: float = 0.0, flops_backward: float = 0.0) -> list[Costs]:
        """One entry per setting, given the network's FLOPs per sample and direction (see `flops_per_sample`)."""
        books: list[tuple[_Book, _Book]] = [({}, {}) for _ in range(self.settings)]
        for (phase, users), whole in self._sums(flops_forward, flops_backward).items():
            share = [amount / len(users) for amount in whole]
            for which in users:
                for book, amounts in zip(books[which], (share, whole), strict=True):
                    book[phase] = [old + new for old, new in zip(book.get(phase, _NOTHING), amounts, strict=True)]
        return [Costs(*({phase: Amounts(*sums) for phase, sums in book.items()} for book in pair)) for pair in books]

    def _sums(self, flops_forward: float, flops_backward: float) -> dict[tuple[Phase, tuple[int, ...]], list[float]]:
        """The amounts of pieces with equal phase and users together: there are far fewer of these than pieces."""
        sums: dict[tuple[Phase, tuple[int, ...]], list[float]] = {}
        for piece in self.records:
            amounts = sums.setdefault((piece.phase, piece.used_by), [0.0, 0.0, 0.0, 0.0])
            amounts[0] += piece.seconds
            amounts[1] += piece.forwards
            amounts[2] += piece.backwards
            amounts[3] += piece.forwards * flops_forward + piece.backwards * flops_backward + piece.flops
        return sums

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


_PROCESS = Path("/proc/self")


def reset_peak_memory(device: torch.device | str) -> None:
    """Lets `peak_memory_bytes` start anew, so that a job is not charged with an earlier one's memory (on a CPU: where Linux allows it)."""
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):
        (_PROCESS / "clear_refs").write_text("5")


def peak_memory_bytes(device: torch.device | str) -> int:
    """The most memory that this process has held since `reset_peak_memory`: on the GPU by torch's allocator, on the CPU resident.

    Resident memory counts the interpreter, the libraries and whatever earlier jobs of this process have left allocated. Where the kernel
    does not say (not Linux), it is the high-water mark of the process's whole life.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError):
        for line in (_PROCESS / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def flops_per_sample(model: nn.Module, shape: Sequence[int], device: torch.device | str = "cpu") -> tuple[float, float]:
    """FLOPs of one sample's forward and backward pass by torch's counter (two per multiply-add), measured once on a batch of two.

    `shape` is one sample's shape, without the batch. The model's mode, gradients and running statistics are left as they were:
    the counting runs in evaluation mode.
    """
    training = {name: module.training for name, module in model.named_modules()}
    model.eval()
    try:
        inputs = torch.zeros(2, *shape, device=device)
        with FlopCounterMode(display=False) as forward, torch.enable_grad():
            output = model(inputs)
        parameters = [p for p in model.parameters() if p.requires_grad]
        with FlopCounterMode(display=False) as backward:
            torch.autograd.grad(output.sum(), parameters, allow_unused=True)
    finally:
        for name, module in model.named_modules():
            module.training = training[name]
    return forward.get_total_flops() / 2, backward.get_total_flops() / 2

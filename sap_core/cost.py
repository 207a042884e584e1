"""What a computation costs: synchronised seconds, sample-passes, FLOPs and peak memory, by phase and by setting.

Work that several settings share is booked once, with the positions of the settings that use it. Each setting then has two costs: *alone*
(every piece it uses, whole: what it would cost by itself) and *shared* (every piece divided by its users: over a family these add up to
what was really spent).
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

Phase = Literal["train", "select", "collect", "factor", "build", "correct", "evaluate", "report"]
"""report is the platform's own book-keeping (test set, probes of the training set): no tuning rule reads it, so no cost counts it."""

TUNING: tuple[Phase, ...] = ("train", "select", "collect", "factor", "build", "correct", "evaluate")


@dataclass
class Piece:
    """One piece of work and the settings that use it."""

    phase: Phase
    used_by: tuple[int, ...]
    seconds: float = 0.0
    forwards: int = 0
    backwards: int = 0
    flops: float = 0.0  # beyond the passes: factorisations and dense products


@dataclass(frozen=True)
class Costs:
    """The cost of one setting."""

    seconds: dict[Phase, float] = field(default_factory=dict)  # alone, by phase
    shared_seconds: float = 0.0  # its share of the tuning phases
    forwards: float = 0.0  # its share
    backwards: float = 0.0
    flops: float = 0.0


class CostMeter:
    """Books pieces of work. `settings` is how many settings the family has."""

    def __init__(self, settings: int = 1, device: torch.device | str = "cpu") -> None:
        self.settings = settings
        self.device = torch.device(device)
        self.pieces: list[Piece] = []
        self._open: list[Piece] = []

    @contextmanager
    def __call__(self, phase: Phase, used_by: Sequence[int] | None = None) -> Iterator[Piece]:
        """Books the work inside; `used_by` None means all settings. A piece opened inside another takes its time out of it."""
        users = tuple(range(self.settings)) if used_by is None else tuple(used_by)
        if not users:
            raise ValueError(f"a piece of phase '{phase}' must be used by at least one setting")
        piece = Piece(phase, users)
        self.pieces.append(piece)
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
        seconds: list[dict[Phase, float]] = [{} for _ in range(self.settings)]
        totals = [[0.0, 0.0, 0.0, 0.0] for _ in range(self.settings)]
        for piece in self.pieces:
            share = 1 / len(piece.used_by)
            flops = piece.forwards * flops_forward + piece.backwards * flops_backward + piece.flops
            for which in piece.used_by:
                seconds[which][piece.phase] = seconds[which].get(piece.phase, 0.0) + piece.seconds
                if piece.phase in TUNING:
                    for slot, amount in enumerate((piece.seconds, piece.forwards, piece.backwards, flops)):
                        totals[which][slot] += amount * share
        return [Costs(by_phase, *total) for by_phase, total in zip(seconds, totals, strict=True)]

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def peak_memory_bytes(device: torch.device | str) -> int:
    """The most memory this process has held: on the GPU by torch's allocator, on the CPU resident (interpreter and libraries included)."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
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

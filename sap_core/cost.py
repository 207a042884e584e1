"""Cost measurement: synchronised seconds, sample passes and FLOPs per phase and setting, and peak memory per job.

Work that several settings share is recorded once, with the positions of the settings that use it. Each setting then has two costs:
*standalone* (every record it uses, in full: its cost if it were computed on its own) and *shared* (every record divided by the number of
its users; over a family these add up to the total that was spent). Seconds, passes and FLOPs are kept per phase, peak memory only per job,
because the resident memory at the end of a phase says little about that phase. Recording costs about 0.1 % of a family
(`benchmarks/meter.py`).
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from sap_core.machine import peak_resident_bytes, reset_peak_resident
from sap_core.models.inputs import probe_images
from sap_core.models.outputs import tensors_in

Phase = Literal["train", "select", "collect", "factor", "build", "correct", "evaluate", "report"]
"""Phase of a computation. `report` scores the test set and probes of the training set, which no selection rule reads."""

# Scores of the test set and probes describe a result; someone who tunes does not need them, so they cost nothing here.
TUNING: tuple[Phase, ...] = ("train", "select", "collect", "factor", "build", "correct", "evaluate")
"""Phases that count as the cost of tuning: all but `report`."""


@dataclass
class CostRecord:
    """Cost of one piece of work, and the positions of the settings that use it."""

    phase: Phase
    used_by: tuple[int, ...]
    seconds: float = 0.0
    forwards: int = 0
    backwards: int = 0
    flops: float = 0.0  # in addition to the passes: factorisations and dense products


# The order of the fields of `Amounts`, to which sums are unpacked.
AMOUNTS = ("seconds", "forwards", "backwards", "flops")


@dataclass(frozen=True)
class Amounts:
    """Amounts of each kind of cost. Passes are floats, because a setting's share of common work may be a fraction."""

    seconds: float = 0.0
    forwards: float = 0.0  # passes of one sample
    backwards: float = 0.0
    flops: float = 0.0  # including the passes; NaN: unknown


@dataclass(frozen=True)
class Costs:
    """Cost of one setting per phase: its share of the family's cost, and its cost if it were computed on its own."""

    shared: Mapping[Phase, Amounts]
    standalone: Mapping[Phase, Amounts]


def tuning(by_phase: Mapping[Phase, Amounts]) -> Amounts:
    """Return the sum over the phases in `TUNING`."""
    counted = [amounts for phase, amounts in by_phase.items() if phase in TUNING]
    return Amounts(*(sum(getattr(amounts, what) for amounts in counted) for what in AMOUNTS))


_Totals = dict[Phase, list[float]]  # one sum per field of Amounts
_ZERO = (0.0,) * len(AMOUNTS)


class CostMeter:
    """Records the cost of work.

    Args:
        settings: number of settings in the family.
        device: device that is synchronised before the clock is read.
    """

    def __init__(self, settings: int = 1, device: torch.device | str = "cpu") -> None:
        self.settings = settings
        self.device = torch.device(device)
        self.records: list[CostRecord] = []
        self._open: list[CostRecord] = []

    @contextmanager
    def __call__(self, phase: Phase, used_by: Sequence[int] | None = None) -> Iterator[CostRecord]:
        """Record the work of a `with` block. The time of a nested block is subtracted from the outer one.

        Args:
            phase: phase of the work.
            used_by: positions of the settings that use the work; None means all.

        Raises:
            ValueError: `used_by` is empty.
        """
        # A record keeps its users: the standalone cost needs the whole amount, the shared cost its n-th part.
        users = tuple(range(self.settings)) if used_by is None else tuple(used_by)
        if not users:
            # Work without a user would be in no setting's cost, and the shares of a family would not add up to its total.
            raise ValueError(f"work of phase '{phase}' must be used by at least one setting")
        record = CostRecord(phase, users)
        self.records.append(record)
        self._open.append(record)
        # The clock starts after the bookkeeping above.
        start = self._now()
        try:
            yield record
        finally:
            # In `finally`: a block that ends by an exception, or by closing the generator around it, has been paid for, too.
            elapsed = self._now() - start
            self._open.pop()
            record.seconds += elapsed
            if self._open:
                # Seconds are exclusive of nested blocks, so that a family's phases add up to the time it took.
                self._open[-1].seconds -= elapsed

    def count(self, forwards: int = 0, backwards: int = 0, flops: float = 0.0) -> None:
        """Add sample passes and extra FLOPs to the innermost open record; without an open record the call has no effect."""
        if self._open:
            # The innermost block only, so that no pass is counted twice.
            record = self._open[-1]
            record.forwards += forwards
            record.backwards += backwards
            record.flops += flops

    def costs(self, flops_forward: float = 0.0, flops_backward: float = 0.0) -> list[Costs]:
        """Return the costs of each setting, given the network's FLOPs per sample and direction (see `flops_per_sample`; NaN: unknown)."""
        totals: list[tuple[_Totals, _Totals]] = [({}, {}) for _ in range(self.settings)]  # (shared, standalone) of each setting
        # Summed per (phase, users) first: a family has thousands of records but few such pairs.
        for (phase, users), full in self._sums(flops_forward, flops_backward).items():
            # Divided evenly: shared work has no order among its users, so none of them paid first.
            share = [amount / len(users) for amount in full]
            for which in users:
                for total, amounts in zip(totals[which], (share, full), strict=True):
                    total[phase] = [old + new for old, new in zip(total.get(phase, _ZERO), amounts, strict=True)]
        return [Costs(*({phase: Amounts(*sums) for phase, sums in total.items()} for total in pair)) for pair in totals]

    def _sums(self, flops_forward: float, flops_backward: float) -> dict[tuple[Phase, tuple[int, ...]], list[float]]:
        """Amounts summed over records with equal phase and users, which are far fewer than the records."""
        sums: dict[tuple[Phase, tuple[int, ...]], list[float]] = {}
        for record in self.records:
            # Users are part of the key, because their number decides the share.
            amounts = sums.setdefault((record.phase, record.used_by), [0.0, 0.0, 0.0, 0.0])
            amounts[0] += record.seconds
            amounts[1] += record.forwards
            amounts[2] += record.backwards
            # FLOPs of passes follow from the network and the input shape; only factorisations and products are counted by hand.
            # An unknown number of FLOPs (NaN) matters only where such passes were made.
            passes = ((record.forwards, flops_forward), (record.backwards, flops_backward))
            amounts[3] += sum(count * each for count, each in passes if count) + record.flops
        return sums

    def _now(self) -> float:
        # Kernels run asynchronously: without this the clock would measure their launch.
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()
        return time.perf_counter()


def reset_peak_memory(device: torch.device | str) -> None:
    """Reset the counter of `peak_memory_bytes`, so that a job is not charged with the memory of an earlier one (on CPU: Linux only)."""
    device = torch.device(device)
    if device.type == "cuda":
        # A worker process serves many jobs, and the counter would keep the largest of them.
        torch.cuda.reset_peak_memory_stats(device)
    reset_peak_resident()


def peak_memory_bytes(device: torch.device | str) -> int:
    """Return the peak memory of this process in bytes since `reset_peak_memory`: allocated by torch on a CUDA GPU, resident elsewhere.

    Resident memory includes the interpreter, the libraries and memory that earlier jobs of this process left allocated. On systems other
    than Linux it is the peak since the process started.
    """
    device = torch.device(device)
    if device.type == "cuda":
        # Allocated by torch, not reserved: the caching allocator holds memory that no tensor needs.
        return torch.cuda.max_memory_allocated(device)
    return peak_resident_bytes()


def flops_per_sample(model: nn.Module, shape: Sequence[int], device: torch.device | str = "cpu") -> tuple[float, float]:
    """Return the FLOPs of the forward and of the backward pass of one sample, by torch's `FlopCounterMode` (two per multiply-add).

    Counting runs on a batch of two in evaluation mode, because batch norm without running statistics cannot normalise a single image. It
    leaves the mode, gradients and running statistics of the model unchanged. An unknown number is NaN: that of a pass without any operation
    that torch can count, and that of a backward pass which fails. Without trainable parameters the backward pass costs 0.

    Args:
        model: the network, on `device`; with torch's meta device nothing is computed.
        shape: shape of one sample, without the batch axis.
        device: device of the inputs.

    Raises:
        Exception: whatever the network raises in its forward pass.
    """
    # In evaluation mode, because a batch norm in training mode would change its running statistics.
    training = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.device(device):
            inputs = probe_images(2, tuple(shape))
        # With gradients even if the caller disabled them, since the graph is needed for the backward count.
        with torch.enable_grad():
            outputs, forward = _counted(lambda: model(inputs))
        return _known(forward / 2), _backward_flops(model, next(tensors_in(outputs)))
    finally:
        # Flag by flag, because a network may hold layers that were frozen in evaluation mode.
        for module, flag in training:
            module.training = flag


def _backward_flops(model: nn.Module, outputs: Tensor) -> float:
    # Frozen parameters need no gradient, so a backward pass does not compute theirs.
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        return 0.0
    try:
        # Not `backward()`, which would add to the gradients of the caller's network. Unused parameters are legitimate (two heads). The
        # graph is kept, because a count may be repeated.
        _, backward = _counted(lambda: torch.autograd.grad(outputs.sum(), parameters, allow_unused=True, retain_graph=True))
    # A network may be used without being trained; a training reports the error in full.
    except Exception:
        return math.nan
    return _known(backward / 2)


def _counted(call: Callable[[], Any]) -> tuple[Any, float]:
    """(result of a call, its FLOPs by torch's formulas)"""
    # FlopCounterMode loads torch's compiler, which takes two seconds, unless something else has.
    if "torch._dynamo" not in sys.modules:
        with suppress(_Uncountable), _FlopCounter() as light:
            result = call()
            return result, light.flops
    with FlopCounterMode(display=False) as counter:
        result = call()
    return result, counter.get_total_flops()


class _Uncountable(Exception):
    """Only torch's own counter handles this operation."""


class _FlopCounter(TorchDispatchMode):
    """Counts as torch's `FlopCounterMode` does, in total only."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0.0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # By torch's default the function below is wrapped to keep the compiler out of it, and the wrapper loads the compiler.
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not isinstance(func, torch._ops.OpOverload):
            raise _Uncountable
        packet = func.overloadpacket
        if packet not in flop_registry and func is not torch.ops.prim.device.default:
            # The formulas are those of the operations that a composite one consists of.
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        if packet in flop_registry:
            self.flops += flop_registry[packet](*args, **kwargs, out_val=result)
        return result


def _known(flops: float) -> float:
    """Return NaN for 0: a network that computes something costs something, so the counter does not know its operations."""
    return flops or math.nan

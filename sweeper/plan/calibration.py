"""Times a few training steps on this machine, for networks that no stored job has measured."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout

import torch

from sap_core.models.build import build_network
from sweeper.plan.cell import Cell
from sweeper.plan.flops import flops_of

_SECONDS_PER_NETWORK = 0.25
_MAX_FLOPS_PER_STEP = 2.0e9  # about one second of a slow core
_MAX_NETWORKS = 8  # bounds a dry run's calibration to two seconds


def calibrate(cells: Iterable[Cell], device: str, threads: int) -> dict[tuple[str, str], float]:
    """Time training steps of each (network, data set) of the cells.

    Returns:
        (network, data set) -> seconds per FLOP; {} if this machine lacks the device. Takes about two seconds at most.
    """
    # A login node has no GPU; its forecasts use backend.flops_per_second.
    if (device.startswith("cuda") and not torch.cuda.is_available()) or (device == "mps" and not torch.backends.mps.is_available()):
        return {}
    found: dict[tuple[str, str], float] = {}
    tried: set[tuple[str, str]] = set()
    for cell in cells:
        # Plain SGD steps are timed, so cells that differ in noise or trainer need no measurement of their own.
        key = (cell.model.name, cell.dataset.name)
        if key in tried or len(found) >= _MAX_NETWORKS:
            continue
        tried.add(key)
        known = flops_of(cell.model, cell.dataset)
        # Seconds per FLOP of unknown FLOPs are unknown, too; the forecast says so.
        if known.forward is None or known.backward is None:
            continue
        try:
            with _thread_count(threads):
                found[key] = _seconds_per_flop(cell, torch.device(device))
        except Exception as error:  # a network may raise anything; its jobs report the error in full
            why = " ".join(str(error).split())[:200] or type(error).__name__
            print(
                f"a training step of {key[0]} on {key[1]} could not be timed here ({why}); its jobs are forecast without a measurement",
                file=sys.stderr,
            )
    return found


@contextmanager
def _thread_count(threads: int) -> Iterator[None]:
    """Set torch's thread count; restore it and the random state on exit."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        # Building a network and its inputs draws random numbers; planning must not change the random state of the process.
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(before)


def _seconds_per_flop(cell: Cell, device: torch.device) -> float:
    """Seconds per FLOP of SGD steps (forward, backward, update) on random inputs."""
    data, flops = cell.dataset.instance, flops_of(cell.model, cell.dataset)
    # `calibrate` leaves out networks whose FLOPs are unknown.
    per_sample = (flops.forward or 0.0) + (flops.backward or 0.0)
    # At least two samples, because batch norm cannot train on one.
    most = max(2, int(_MAX_FLOPS_PER_STEP / max(per_sample, 1.0)))
    # The trainer's batch size on a GPU, whose speed depends on it; on a CPU at most what takes a second.
    asked = cell.trainer.settings.get("batch_size")
    size = asked if isinstance(asked, int) and device.type != "cpu" else min(asked if isinstance(asked, int) else 64, most)
    # The speed does not depend on the values of the weights, so their file is not read.
    settings = {key: None if key == "weights" else value for key, value in cell.model.settings.items()}
    with redirect_stdout(io.StringIO()):
        network = build_network(cell.model.entry | {"settings": settings}, data.classes.num, data.shape).to(device).train()
    inputs = torch.randn(max(2, size), *data.shape, device=device)
    momenta = [(parameter, torch.zeros_like(parameter)) for parameter in network.parameters()]

    def train_step() -> None:
        network.zero_grad()
        network(inputs).square().mean().backward()
        # As torch.optim.SGD does, whose constructor loads torch's compiler, which takes two seconds.
        with torch.no_grad():
            for parameter, momentum in momenta:
                if parameter.grad is not None:
                    parameter.add_(momentum.mul_(0.9).add_(parameter.grad), alpha=-1e-6)
        if device.type == "cuda":
            # Kernels are launched asynchronously: without it the clock would measure the launches.
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()

    # Warmup: allocations and the choice of kernels.
    train_step()
    # CPU time where possible: it does not depend on the load of other programs.
    clock = time.thread_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    begun, start, steps = time.perf_counter(), clock(), 0
    # A quarter of a second of wall time per network, and at least three steps where one takes longer than that.
    while steps < 3 or time.perf_counter() - begun < _SECONDS_PER_NETWORK:
        train_step()
        steps += 1
    return (clock() - start) / (steps * len(inputs) * per_sample)

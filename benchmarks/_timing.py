"""Timing on a machine shared with other processes: CPU seconds of one thread, variants alternate, median of several rounds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def cpu_seconds(call: Callable[[], object]) -> float:
    """Returns the CPU time of one call. Other processes affect it only through shared caches and memory bandwidth."""
    start = time.process_time()
    call()
    return time.process_time() - start


def medians(variants: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Returns the median CPU seconds of `repeats` calls of each variant on one thread; every round calls each variant once."""
    torch.set_num_threads(1)
    measured: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repeats):
        for name, call in variants.items():
            measured[name].append(cpu_seconds(call))
    return {name: statistics.median(seconds) for name, seconds in measured.items()}


def show(title: str, seconds: Mapping[str, float], against: str) -> None:
    """Prints each variant's time and its speed-up over the variant `against`."""
    print(f"{title}: " + " | ".join(f"{name} {each * 1e3:.1f} ms (x{seconds[against] / each:.2f})" for name, each in seconds.items()))

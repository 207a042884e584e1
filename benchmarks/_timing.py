"""Fair timing on a machine that others use too: CPU seconds of one thread, the paths by turns, the median of several."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def cpu_seconds(call: Callable[[], object]) -> float:
    """Processor time of one call; what others do meanwhile does not count (but for caches and memory, which all share)."""
    start = time.process_time()
    call()
    return time.process_time() - start


def medians(paths: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """CPU seconds of each path: the median of `repeats` calls on one thread, path after path in each round."""
    torch.set_num_threads(1)
    taken: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(repeats):
        for name, call in paths.items():
            taken[name].append(cpu_seconds(call))
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def show(title: str, seconds: Mapping[str, float], against: str) -> None:
    """Prints each path's time and how many times less it is than that of `against`."""
    print(f"{title}: " + " | ".join(f"{name} {taken * 1e3:.1f} ms (x{seconds[against] / taken:.2f})" for name, taken in seconds.items()))

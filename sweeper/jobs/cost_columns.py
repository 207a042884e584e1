"""What a meter's books look like in a store: columns of rows, and points that hold every amount of every phase."""

from __future__ import annotations

import os
from typing import Any

import torch

from sap_core.cost import AMOUNTS, Costs, Phase, peak_memory_bytes, tuning

PREFIX = "cost/"
"""Points of series files whose name begins so are costs: cost/PHASE/AMOUNT (its share) and cost/PHASE/AMOUNT_alone."""


def columns_of(cost: Costs, device: torch.device, jobs_on_device: int) -> dict[str, Any]:
    """The cost columns of one setting's row, and what its seconds depend on: `jobs_on_device` jobs at a time on the device."""

    def alone(*phases: Phase) -> float | None:
        found = [cost.standalone[phase].seconds for phase in phases if phase in cost.standalone]
        return sum(found) if found else None

    shared, whole = tuning(cost.shared), tuning(cost.standalone)
    return {
        "train_seconds": alone("train"), "select_seconds": alone("select"), "prepare_seconds": alone("collect", "factor"),
        "correct_seconds": alone("build", "correct"), "evaluate_seconds": alone("evaluate"), "report_seconds": alone("report"),
        "tuning_seconds": shared.seconds, "sample_forwards": shared.forwards, "sample_backwards": shared.backwards, "flops": shared.flops,
        "standalone_sample_forwards": whole.forwards, "standalone_sample_backwards": whole.backwards, "standalone_flops": whole.flops,
        "peak_memory_bytes": peak_memory_bytes(device), "jobs_on_device": jobs_on_device, "cores": len(os.sched_getaffinity(0)),
    }  # fmt: skip


def points_of(cost: Costs) -> list[tuple[str, int, float]]:
    """(name, step, value) of every amount of every phase; what is zero is left out."""
    return [
        (f"{PREFIX}{phase}/{what}{ending}", 0, float(value))
        for by_phase, ending in ((cost.shared, ""), (cost.standalone, "_alone"))
        for phase, amounts in by_phase.items()
        for what in AMOUNTS
        if (value := getattr(amounts, what))
    ]

"""Costs as they are stored: columns of rows, and points of series that contain every amount of every phase.

Two accounts are kept. *Standalone* counts shared work in full for every setting that uses it. The other divides it among them, so that the
rows of a job add up to what was spent. Scoring the test set and probing the training set are phase `report`: no selection rule needs
them, so they count in neither account and have a column of their own. Peak memory is one value per job, because the memory that a
process has resident at the end of a phase says little about that phase.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from sap_core.cost import AMOUNTS, Costs, Phase, peak_memory_bytes, tuning
from sap_core.machine import cores

COST_PREFIX = "cost/"
"""Prefix of the names of cost points: cost/PHASE/AMOUNT (divided among users) and cost/PHASE/standalone_AMOUNT (in full)."""


def cost_columns(cost: Costs, device: torch.device, jobs_on_device: int) -> dict[str, Any]:
    """The cost columns of one setting's row, and the circumstances that its seconds depend on.

    Args:
        cost: the setting's costs.
        device: the device of the job.
        jobs_on_device: number of jobs that ran concurrently on the device.
    """

    def seconds(*phases: Phase) -> float | None:
        # None rather than 0 where no phase was recorded: 0 would claim a measurement.
        found = [cost.standalone[phase].seconds for phase in phases if phase in cost.standalone]
        return sum(found) if found else None

    # Both accounts, because tables report the cost of a search (shared) and of a setting by itself (standalone).
    shared, standalone = tuning(cost.shared), tuning(cost.standalone)
    return {
        "train_seconds": seconds("train"), "select_seconds": seconds("select"), "prepare_seconds": seconds("collect", "factor"),
        "correct_seconds": seconds("build", "correct"), "evaluate_seconds": seconds("evaluate"), "report_seconds": seconds("report"),
        "tuning_seconds": shared.seconds, "sample_forwards": shared.forwards, "sample_backwards": shared.backwards,
        "flops": _known(shared.flops),
        "standalone_sample_forwards": standalone.forwards, "standalone_sample_backwards": standalone.backwards,
        "standalone_flops": _known(standalone.flops), "peak_memory_bytes": peak_memory_bytes(device), "jobs_on_device": jobs_on_device,
        # The cores that this process may use, not those of the machine: Slurm and containers restrict a job to a part of them.
        "cores": cores(),
    }  # fmt: skip


def cost_points(cost: Costs) -> list[tuple[str, int, float]]:
    """(name, step, value) of every amount of every phase; zeros and unknown amounts are omitted."""
    # Points rather than columns: phases times amounts times accounts would be dozens of columns, most of them empty in most rows.
    return [
        (f"{COST_PREFIX}{phase}/{account}{name}", 0, float(value))
        for by_phase, account in ((cost.shared, ""), (cost.standalone, "standalone_"))
        for phase, amounts in by_phase.items()
        for name in AMOUNTS
        if (value := getattr(amounts, name)) and not math.isnan(value)
    ]


def _known(flops: float) -> float | None:
    return None if math.isnan(flops) else flops

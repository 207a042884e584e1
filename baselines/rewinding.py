"""Rewinding (SCRUB+R): returns the epoch whose forget error is closest to the error on samples that were not trained on.

Source: Kurmanji et al. 2023, section on rewinding. With err(w, S) the fraction of given labels in S that a network w does not predict, and
w_1 .. w_E the networks after each epoch,

    return w_e with the least |err(w_e, F) - err(w_E, V)|, the earliest of ties

where V are validation samples with the class distribution of the forget samples F. It is meant for privacy, where an error above V's
reveals that F was forgotten. Against wrong labels a larger error on F is desired; rewinding is included for completeness.

Deviations: V's class distribution is obtained by weighting classes, not by leaving samples out; classes that V lacks do not count. The
official notebook also compares the network before the first epoch, of which it keeps no checkpoint; it is not a candidate here.

Shapes: C classes.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor, nn

from baselines.trajectory import Trajectory
from sap_core.api import Run, Samples, Task
from sap_core.models.copies import copied

BATCH = 256


class Rewinding:
    """Copies of the networks after each epoch of a family, with their errors on the forget samples."""

    def __init__(self, forget: Samples, task: Task, run: Run) -> None:
        self.forget, self.task, self.run = forget, task, run
        # Every node's network: which epoch is nearest turns out only when a setting has ended.
        self.kept: dict[Hashable, tuple[nn.Module, float]] = {}

    def keep(self, node: Hashable, trajectory: Trajectory, used_by: Sequence[int]) -> None:
        """Stores a copy of the network at `node` and its forget error."""
        with self.run.meter("correct", used_by=used_by):
            # A copy, because the trajectory trains on from here.
            network = copied(trajectory.model).eval()
            wrong_C, count_C = errors(network, self.forget, self.task.num_outputs, self.run)
            self.kept[node] = network, float(wrong_C.sum() / count_C.sum())

    def select(self, path: Sequence[Hashable], trajectory: Trajectory, used_by: Sequence[int]) -> nn.Module:
        """Returns the network for a setting with nodes `path` that ends at `trajectory`. A diverged one is returned as it is."""
        with self.run.meter("correct", used_by=used_by):
            network = trajectory.model.eval()
            wrong_C, count_C = errors(network, self.task.val, self.task.num_outputs, self.run)
            # A diverged network has no error to compare with; its NaN weights tell the caller.
            if trajectory.diverged:
                return network
            # V's error under the class distribution of F: classes are weighted by their number in F, with weight 0 for those that V lacks.
            share_C = torch.bincount(self.forget.labels, minlength=self.task.num_outputs) * (count_C > 0)
            # The clamps avoid divisions by zero only: a class without validation samples has weight 0.
            target = float((share_C * wrong_C / count_C.clamp(min=1)).sum() / share_C.sum().clamp(min=1))
            # Of ties min returns the first, the earliest epoch.
            return self.kept[min(path, key=lambda node: abs(self.kept[node][1] - target))][0]


@torch.no_grad()
def errors(network: nn.Module, samples: Samples, num_classes: int, run: Run) -> tuple[Tensor, Tensor]:
    """Returns (wrong, total) numbers of given labels of each class (C,), float64 on the CPU; `network` must be in eval mode."""
    wrong_C, count_C = torch.zeros(num_classes, dtype=torch.float64), torch.zeros(num_classes, dtype=torch.float64)
    for batch in samples.batches(BATCH):
        missed = (network(batch.inputs).argmax(1) != batch.labels).cpu()
        labels = batch.labels.cpu()
        count_C += torch.bincount(labels, minlength=num_classes)
        wrong_C += torch.bincount(labels[missed], minlength=num_classes)
        run.meter.count(forwards=len(labels))
    return wrong_C, count_C

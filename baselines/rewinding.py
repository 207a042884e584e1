"""Rewinding (SCRUB+R): of the networks after each epoch, the one that errs on the forget samples as often as it should by chance.

Source: Kurmanji et al. 2023, section on rewinding. With err(w, S) the share of given labels in S that a network w does not predict, and
w_1 .. w_E the networks after each epoch,

    return w_e with the least |err(w_e, F) - err(w_E, V)|, the earliest of equals

where V are validation samples with the class distribution of the forget samples F. It is meant for privacy, where an error above V's
gives away that F was forgotten; against wrong labels a larger error on F is what one wants, so this is here for completeness.

Deviations: V's class distribution is made by weighting classes, not by leaving samples out; classes that V lacks do not count. The
official notebook also compares the network before the first epoch, of which it keeps no checkpoint; it is no candidate here.

Shapes: C classes.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from baselines.trajectory import Trajectory
from sap_core.api import Run, Samples, Task

BATCH = 256


class Rewinding:
    """The networks that a family passes through, with their errors on the forget samples."""

    def __init__(self, forget: Samples, task: Task, run: Run) -> None:
        self.forget, self.task, self.run = forget, task, run
        self.kept: dict[Hashable, tuple[nn.Module, float]] = {}

    def keep(self, node: Hashable, trajectory: Trajectory, used_by: Sequence[int]) -> None:
        """Keeps a copy of the network at `node`."""
        with self.run.meter("correct", used_by=used_by):
            network = deepcopy(trajectory.model).eval()
            wrong_C, count_C = errors(network, self.forget, self.task.num_outputs, self.run)
            self.kept[node] = network, float(wrong_C.sum() / count_C.sum())

    def back(self, path: Sequence[Hashable], trajectory: Trajectory, used_by: Sequence[int]) -> nn.Module:
        """The network to return for the setting that ends where `trajectory` is; a diverged one stays diverged."""
        with self.run.meter("correct", used_by=used_by):
            network = trajectory.model.eval()
            wrong_C, count_C = errors(network, self.task.val, self.task.num_outputs, self.run)
            if trajectory.diverged:
                return network
            share_C = torch.bincount(self.forget.labels, minlength=self.task.num_outputs) * (count_C > 0)
            aim = float((share_C * wrong_C / count_C.clamp(min=1)).sum() / share_C.sum().clamp(min=1))
            return self.kept[min(path, key=lambda node: abs(self.kept[node][1] - aim))][0]


@torch.no_grad()
def errors(network: nn.Module, samples: Samples, num_classes: int, run: Run) -> tuple[Tensor, Tensor]:
    """For each class C, how many given labels `network` (in eval mode) does not predict, and how many there are (float64, CPU)."""
    wrong_C, count_C = torch.zeros(num_classes, dtype=torch.float64), torch.zeros(num_classes, dtype=torch.float64)
    for batch in samples.batches(BATCH):
        missed = (network(batch.inputs).argmax(1) != batch.labels).cpu()
        labels = batch.labels.cpu()
        count_C += torch.bincount(labels, minlength=num_classes)
        wrong_C += torch.bincount(labels[missed], minlength=num_classes)
        run.meter.count(forwards=len(labels))
    return wrong_C, count_C

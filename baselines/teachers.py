"""Teachers: frozen networks whose logits a student is compared with.

Shapes: B batch, N samples, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from sap_core.api import Batch, Run, Samples

TEACHER_BATCH = 256

Teacher = Callable[[Batch], Tensor]
"""batch -> logits (B, C) of the frozen network."""


def divergence(teacher_BC: Tensor, student_BC: Tensor, temperature: float) -> Tensor:
    """Returns K(t, s): the Kullback-Leibler divergence from teacher to student, averaged over the batch, times T^2."""
    teacher_log = functional.log_softmax(teacher_BC / temperature, dim=1)
    student_log = functional.log_softmax(student_BC / temperature, dim=1)
    # `batchmean` is the mean over samples; the default would also divide by the number of classes. T^2 is part of K, see `scrub`.
    return temperature**2 * functional.kl_div(student_log, teacher_log, reduction="batchmean", log_target=True)


@torch.no_grad()
def cached_teacher(pairs: Sequence[tuple[nn.Module, Samples]], run: Run) -> Teacher:
    """Computes the logits of each network (in eval mode) for its own plain samples once; the teacher looks them up."""
    # In one tensor on the device, so that a step's lookup does not transfer anything but positions.
    logits_NC = torch.cat([network(batch.inputs) for network, samples in pairs for batch in samples.batches(TEACHER_BATCH)])
    run.meter.count(forwards=len(logits_NC))
    # Batches name samples by their position in the universe, so a table of that length leads from a batch to its rows without a search.
    row_of = torch.full((pairs[0][1].universe,), -1)
    row_of[torch.cat([samples.index for _, samples in pairs])] = torch.arange(len(logits_NC))
    return lambda batch: logits_NC[row_of[batch.index].to(logits_NC.device)]


def online_teacher(network: nn.Module, run: Run) -> Teacher:
    """A teacher that runs `network` (in eval mode) on every batch, as augmented inputs require."""

    @torch.no_grad()
    def teacher(batch: Batch) -> Tensor:
        run.meter.count(forwards=len(batch.labels))
        logits_BC: Tensor = network(batch.inputs)
        return logits_BC

    return teacher

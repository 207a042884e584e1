"""New labels for samples whose given label is to be forgotten.

`random` draws uniformly from the other classes; `runner_up` takes the class that the network finds likeliest apart from the given one,
which is the right one more often than chance (ours; the papers know no reason to prefer a class).

Shapes: N samples, B batch, C classes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from baselines.teachers import TEACHER_BATCH
from sap_core.api import Run, Samples
from sap_core.models.modes import evaluating
from sap_core.seeding import Stream

Labels = Literal["random", "runner_up"]


def random_other_labels(given_N: Tensor, num_classes: int, rng: Stream) -> Tensor:
    """(N,) classes drawn uniformly from those that are not the given one."""
    steps_N = torch.randint(1, num_classes, given_N.shape, generator=rng.generator())
    return (given_N + steps_N) % num_classes


def runner_up_labels(model: nn.Module, samples: Samples, run: Run) -> Tensor:
    """(N,) the likeliest class of each sample apart from its given label."""
    found = []
    with evaluating(model):
        for batch in samples.batches(TEACHER_BATCH):
            logits_BC = model(batch.inputs).clone()
            logits_BC[torch.arange(len(batch.labels)), batch.labels] = -torch.inf
            found.append(logits_BC.argmax(1).cpu())
            run.meter.count(forwards=len(batch.labels))
    return torch.cat(found)

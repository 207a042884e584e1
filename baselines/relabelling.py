"""New labels for forget samples.

`random` draws uniformly from the other classes. `runner_up` takes the class with the highest logit apart from the given one, which is
correct more often than a random one; it is ours, not from a paper.

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
    """Returns (N,) classes drawn uniformly from all but the given one."""
    # Shifting by 1 to C - 1 classes, modulo C, never returns to the given class and reaches each other one with equal probability.
    steps_N = torch.randint(1, num_classes, given_N.shape, generator=rng.generator())
    return (given_N + steps_N) % num_classes


def runner_up_labels(model: nn.Module, samples: Samples, run: Run) -> Tensor:
    """Returns (N,) the class with the highest logit of each sample apart from its given label."""
    found = []
    with evaluating(model):
        for batch in samples.batches(TEACHER_BATCH):
            # The given class is ruled out before the argmax, on a copy: the network's own output is not written to.
            logits_BC = model(batch.inputs).clone()
            logits_BC[torch.arange(len(batch.labels)), batch.labels] = -torch.inf
            # On the CPU, as the given labels that they replace.
            found.append(logits_BC.argmax(1).cpu())
            run.meter.count(forwards=len(batch.labels))
    return torch.cat(found)

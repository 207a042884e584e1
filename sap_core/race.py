"""Choosing among the settings of one family without scoring all of them on every validation image: exact, and explicit.

With W the validation images that the unmodified network gets wrong and R those it gets right:

    1  every setting is scored on W: its gain
    2  settings by falling gain: each is scored on R, the images of smallest margin first, and stops as soon as its gain and all the
       images of R that it has not lost could not make it the choice any more

The choice is that of the exhaustive search under the same rule: the highest accuracy, ties to the unmodified network, then to the earlier
setting. What stopped has no score; what is chosen has the exhaustive one.

Source: ours. (Racing by bounds is old; that W decides most of it was measured here, see benchmarks/.)

Shapes: N validation images, C classes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sap_core.api import Samples
from sap_core.cost import CostMeter
from sap_core.models.modes import evaluating

CHUNK = 64
"""Images between two looks at the bound."""


@dataclass(frozen=True)
class Course:
    """The validation images in the order in which a race sees them."""

    wrong: Samples  # W
    right: Samples  # R, smallest margin of the unmodified network first

    @classmethod
    def of(cls, logits_NC: Tensor, val: Samples) -> Course:
        """From the unmodified network's logits on `val`."""
        given_N = logits_NC.gather(1, val.labels.view(-1, 1)).squeeze(1)
        others_NC = logits_NC.scatter(1, val.labels.view(-1, 1), -torch.inf)
        margin_N = given_N - others_NC.max(1).values
        is_right = logits_NC.argmax(1) == val.labels
        right = torch.nonzero(is_right).flatten()
        return cls(val.subset(torch.nonzero(~is_right).flatten()), val.subset(right[margin_N[right].argsort(stable=True)]))

    @property
    def images(self) -> int:
        return len(self.wrong) + len(self.right)


@dataclass(frozen=True)
class Finish:
    """How a setting came out: `right` images of all, or None when it stopped; `seen` images it was scored on."""

    which: int
    right: int | None
    seen: int
    model: nn.Module


def race(course: Course, candidates: Iterable[tuple[int, nn.Module]], meter: CostMeter) -> Iterator[Finish]:
    """Races `candidates` (position, model on loan) and yields each one's finish, the best last among those that finished.

    Models are copied while they wait for their turn; phase `evaluate` books every image where it is looked at.
    """
    waiting: list[tuple[int, int, nn.Module]] = []
    for which, model in candidates:
        with meter("evaluate", used_by=[which]):
            gain = sum(_hits(model, course.wrong, meter))
        waiting.append((gain, which, copy.deepcopy(model)))
    best_right, best_which = len(course.right), -1  # the unmodified network: wins every tie
    for gain, which, model in sorted(waiting, key=lambda entry: (-entry[0], entry[1])):
        needed = best_right + (which > best_which)
        with meter("evaluate", used_by=[which]):
            right, seen = _run(model, course.right, gain, needed, meter)
        if right is not None:
            best_right, best_which = right, which
        yield Finish(which, right, len(course.wrong) + seen, model)


def _run(model: nn.Module, samples: Samples, gain: int, needed: int, meter: CostMeter) -> tuple[int | None, int]:
    """(images right in all, images of `samples` seen); the first is None as soon as fewer than `needed` are left possible."""
    possible, seen = gain + len(samples), 0
    if possible < needed:
        return None, 0
    for hits in _hits(model, samples, meter):
        size = min(CHUNK, len(samples) - seen)
        possible -= size - hits
        seen += size
        if possible < needed:
            return None, seen
    return possible, len(samples)


def _hits(model: nn.Module, samples: Samples, meter: CostMeter) -> Iterator[int]:
    """How many images of each chunk the model gets right, one chunk at a time."""
    for start in range(0, len(samples), CHUNK):
        part = samples.subset(torch.arange(start, min(start + CHUNK, len(samples))))
        with evaluating(model):
            for batch in part.batches(CHUNK):
                hits = int((model(batch.inputs).argmax(1) == batch.labels).sum())
        meter.count(forwards=len(part))
        yield hits

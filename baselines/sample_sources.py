"""Sources of retain and forget samples: verified, partly identified, or selected by their loss.

The field `source` of a setting takes one of these values:

    oracle      verified (by true labels, or by the data set's file of verified samples) and returned by `Task.verified`
    identified  forget samples are verified; retain samples are all training samples that were not identified as wrong, including wrong
                ones: the setting of corrective unlearning (Goel et al. 2024), where only a part of the wrong labels is known
    scored      not verified: the training samples with the lowest loss under the given network are retain samples, those with the highest
                loss are forget samples, at the cost of one forward pass over the training split (phase select)

The number of forget samples is a count, a fraction below 1 of all wrongly labelled training samples, or null for all of them.

Shapes: N samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from sap_core.api import Batch, Need, Passes, Run, SampleCount, Samples, Sizes, Task, TaskType, View
from sap_core.data.samples import resolve_count, split_batches
from sap_core.errors import UserError, at_least, unknown
from sap_core.sap import trusted
from sap_core.seeding import Stream, stream

Source = Literal["oracle", "identified", "scored"]

SCORING_BATCH = 256


class UsesSamples(Protocol):
    """A setting with retain samples and, possibly, forget samples."""

    @property
    def source(self) -> Source: ...
    @property
    def num_retain(self) -> int | None: ...
    @property
    def num_forget(self) -> SampleCount: ...


def check_counts(method: str, source: Source, num_retain: int | None, num_forget: SampleCount, forgets: bool = True) -> None:
    """Checks the source and the numbers of samples of a setting.

    `forgets`: the method trains on forget samples; otherwise `num_forget` only says how many samples `source=identified` leaves out.

    Raises:
        UserError: the source is unknown, or a number does not fit it.
    """
    if source not in get_args(Source):
        raise unknown("source of samples", source, get_args(Source), f"{method}.source")
    at_least(method, 1, num_retain=num_retain, num_forget=None if isinstance(num_forget, float) else num_forget)
    if isinstance(num_forget, float) and not 0 < num_forget < 1:
        raise UserError(
            f"{method}.num_forget={num_forget:g} must be a number of samples, a fraction of the wrong ones between 0 and 1, or null for all"
        )
    if source == "scored" and num_retain is None:
        raise UserError(f"{method}.source=scored needs {method}.num_retain, the number of samples of lowest loss; null would keep all")
    if source == "scored" and forgets and not isinstance(num_forget, int):
        raise UserError(
            f"{method}.source=scored has no verified wrong samples, so {method}.num_forget must be a number, not a fraction or null"
        )
    if source != "identified" and not forgets and num_forget is not None:
        raise UserError(f"{method}.num_forget is used with {method}.source=identified only; set {method}.num_forget=null")


def effective_batch_size(size: int, *counts: SampleCount) -> int:
    """Returns `size`, or the size of the sets where that is smaller and known in advance: larger batches are the same computation."""
    # A fraction or null becomes a number only when the labels are known, too late for the plan to see two batch sizes as one.
    return min(size, sum(count for count in counts if isinstance(count, int))) if all(isinstance(n, int) for n in counts) else size


def expected_counts(setting: UsesSamples, sizes: Sizes, forgets: bool = True) -> tuple[int, int]:
    """Returns the expected numbers of (retain, forget) samples for forecasts. Exact unless `num_forget` is a fraction."""
    # A fraction, or null, refers to the number of wrong labels that the forecast expects.
    forget = setting.num_forget if isinstance(setting.num_forget, int) else resolve_count(setting.num_forget, sizes.wrong)
    known = forget if forgets or setting.source == "identified" else 0
    # Only `identified` draws retain samples from what the forget samples leave over.
    rest = sizes.train - known if setting.source == "identified" else sizes.train
    return (rest if setting.num_retain is None else setting.num_retain), known


def check_classes(method: str, kind: TaskType, why: str) -> None:
    """Raises UserError on a regression; `why` completes the sentence that starts with the method's name."""
    if kind != "classification":
        raise UserError(f"method '{method}' {why}, but this task is a regression; leave '{method}' out of methods")


def needs_of(source: Source, *needs: Need) -> frozenset[Need]:
    """Returns what must be verified: `needs` for oracle, the forget samples for identified, nothing for scored."""
    return frozenset({"oracle": needs, "identified": (Need.FORGET,), "scored": ()}[source])


def scoring_passes(setting: UsesSamples, sizes: Sizes) -> Passes:
    """Returns the passes that selecting the samples takes."""
    return Passes(forwards=sizes.train if setting.source == "scored" else 0)


def retain_samples(setting: UsesSamples, model: nn.Module, task: Task, run: Run) -> Samples:
    """Returns the retain samples, in an order in which smaller numbers are nested in larger ones."""
    if setting.source == "oracle":
        return task.verified(Need.RETAIN, setting.num_retain)
    if setting.source == "identified":
        return _not_identified(setting.num_retain, task.verified(Need.FORGET, setting.num_forget), task, run)
    # `check_counts` has refused null for this source.
    return _extreme_losses(setting.num_retain or 0, 0, model, task, run)[0]


def retain_and_forget_samples(setting: UsesSamples, model: nn.Module, task: Task, run: Run) -> tuple[Samples, Samples]:
    """Returns (retain, forget) samples, each in an order in which smaller numbers are nested in larger ones."""
    if setting.source == "oracle":
        return task.verified(Need.RETAIN, setting.num_retain), task.verified(Need.FORGET, setting.num_forget)
    if setting.source == "identified":
        forget = task.verified(Need.FORGET, setting.num_forget)
        return _not_identified(setting.num_retain, forget, task, run), forget
    assert isinstance(setting.num_forget, int)
    return _extreme_losses(setting.num_retain or 0, setting.num_forget, model, task, run)


def _not_identified(num_retain: int | None, forget: Samples, task: Task, run: Run) -> Samples:
    """Returns training samples not identified as wrong, in one random order per seed: more identified samples only remove some."""
    order_N = stream(task.seed, "select", "rest").permutation(len(task.train))
    rest_N = order_N[~torch.isin(task.train.index[order_N], forget.index)]
    if num_retain is not None and num_retain > len(rest_N):
        raise UserError(
            f"source=identified: num_retain={num_retain} exceeds the {len(rest_N)} training samples that were not identified as "
            f"wrong; use a smaller num_retain"
        )
    retain = task.train.subset(rest_N[:num_retain])
    # Wrong labels may be among them, as in corrective unlearning; the platform measures how many.
    run.report_trusted(retain.index)
    return retain


def _extreme_losses(num_retain: int, num_forget: int, model: nn.Module, task: Task, run: Run) -> tuple[Samples, Samples]:
    """Returns the samples of lowest loss, lowest first, and those of highest loss, highest first, and reports both to `run`."""
    count = len(task.train)
    if num_retain + num_forget > count:
        asked = f"num_retain={num_retain} and num_forget={num_forget} together exceed" if num_forget else f"num_retain={num_retain} exceeds"
        raise UserError(f"source=scored: {asked} the {count} samples of the training split; use smaller numbers")
    with run.meter("select"):
        # The criterion by which SAP chooses its trusted samples, so that methods can be compared on equal information.
        score_N = trusted.fit_error(model, task.train, task.kind, SCORING_BATCH, run.meter)
        order_N = trusted.lowest_first(score_N, task.train.index)
        # Two ends of one order: disjoint, as checked above, and smaller sets are nested in larger ones.
        retain, forget = task.train.subset(order_N[:num_retain]), task.train.subset(order_N.flip(0)[:num_forget])
    run.report_trusted(retain.index)
    if num_forget:
        run.report_forgotten(forget.index)
    return retain, forget


@dataclass(frozen=True, eq=False)
class Relabelled:
    """A `Samples` with replaced labels."""

    inner: Samples
    labels: Tensor  # (N,)

    @property
    def index(self) -> Tensor:
        return self.inner.index

    @property
    def universe(self) -> int:
        return self.inner.universe

    def __len__(self) -> int:
        return len(self.inner)

    def subset(self, which: Tensor) -> Relabelled:
        return Relabelled(self.inner.subset(which), self.labels[which])

    def batches(self, size: int, rng: Stream | None = None, views: Sequence[View] = ("plain",)) -> Iterator[Batch]:
        # Batches come in any order, so labels are looked up by position in the universe.
        label_of = torch.zeros(self.universe, dtype=self.labels.dtype)
        label_of[self.index] = self.labels
        for batch in self.inner.batches(size, rng, views):
            yield replace(batch, labels=label_of[batch.index].to(batch.labels.device))


@dataclass(frozen=True, eq=False)
class Concatenated:
    """Several `Samples` of one universe as one, whose batches mix them."""

    sources: tuple[Samples, ...]

    @property
    def index(self) -> Tensor:
        return torch.cat([source.index for source in self.sources])

    @property
    def universe(self) -> int:
        return self.sources[0].universe

    @property
    def labels(self) -> Tensor:
        return torch.cat([source.labels for source in self.sources])

    def __len__(self) -> int:
        return sum(len(source) for source in self.sources)

    def subset(self, which: Tensor) -> Concatenated:
        """Returns the chosen samples, sorted by source; within one source they are in the order of `which`."""
        return Concatenated(tuple(source.subset(inside) for source, inside in self._by_source(which)))

    def batches(self, size: int, rng: Stream | None = None, views: Sequence[View] = ("plain",)) -> Iterator[Batch]:
        # The key that an ordinary set uses, so that the whole is shuffled as one set.
        order = torch.arange(len(self)) if rng is None else rng.child("order").permutation(len(self))
        # Augmentation depends on the sample and the stream, not on the batch, so each part may draw for itself.
        drawn = rng if set(views) != {"plain"} else None
        for which in split_batches(order, size):
            # Each source gives its samples as one batch. Within the joined batch they are ordered by source, together with labels and
            # positions.
            pieces = [
                next(source.subset(inside).batches(len(inside), drawn, views)) for source, inside in self._by_source(which) if len(inside)
            ]
            inputs = tuple(torch.cat(same) for same in zip(*(piece.views for piece in pieces), strict=True))
            yield Batch(inputs, torch.cat([piece.labels for piece in pieces]), torch.cat([piece.index for piece in pieces]))

    def _by_source(self, which: Tensor) -> Iterator[tuple[Samples, Tensor]]:
        """Yields each source with the indices of `which` that lie in it, relative to its start."""
        # An index counts through the sources as if they were laid end to end.
        start = 0
        for source in self.sources:
            inside = which[(which >= start) & (which < start + len(source))] - start
            yield source, inside
            start += len(source)

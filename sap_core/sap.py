"""SAP: one-shot correction of a network trained on wrong labels, by projecting weights on what trusted samples excite.

    1  T <- the num_trusted training samples with the lowest loss on their given labels                       (trusted)
    2  for each layer: G <- sum over T of x x^T, x the layer's inputs in the unmodified network               (gram)
    3  for each layer: r, V <- energies and directions of G;  lambda <- alpha r / ((alpha - 1) r + 1)         (spectrum)
    4  for each layer: W <- W V diag(lambda) V^T                                                              (project)

Nothing is trained. One pass serves every alpha and every nested size of T, and gives each setting the bits it has alone: the pass goes
through T in blocks of `batch_size`, a size's own remainder is added to the blocks before it and to nothing else, and the factorisation
follows from what a layer saw, not from how many settings ask.

Source: SAP, Algorithm 1, with the paper's ranges (alpha 2000 to 300000, 1000 trusted samples). Deviations: every patch counts (the released
code draws at most 50000 columns at random) and all arithmetic but the network's own is float64.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import nn

from sap_core import gram, project, spectrum, trusted
from sap_core.api import Need, Passes, Run, Samples, Sizes, Task
from sap_core.errors import UserError, unknown
from sap_core.seeding import stream

Strategy = Literal["loss", "uniform", "expert"]


@dataclass(frozen=True)
class SAP:
    """The settings of one correction.

    Attributes:
        alpha: importance knob: directions with energy above 1/(alpha + 1) are mostly kept. Larger is milder.
        num_trusted: size of the trusted set, at most that of the training split.
        trusted: how it is chosen: lowest `loss` (the paper), `uniform` at random, or samples verified by an `expert`.
        class_balanced: give every class its share of the trusted set (by given labels).
        batch_size: samples per forward pass; sizes that are its multiples share their whole pass.
    """

    version: ClassVar[int] = 1

    alpha: float = 30000.0
    num_trusted: int = 1000
    trusted: Strategy = "loss"
    class_balanced: bool = False
    batch_size: int = 256

    def __post_init__(self) -> None:
        spectrum.check_alpha(self.alpha)
        if self.trusted not in get_args(Strategy):
            raise unknown("way to choose trusted samples", self.trusted, get_args(Strategy), "SAP.trusted")
        for name in ("num_trusted", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"SAP.{name} is {getattr(self, name)}, but must be at least 1")
        if self.class_balanced and self.trusted == "expert":
            raise UserError("SAP.class_balanced does not go with SAP.trusted=expert, whose order is the expert's; set class_balanced=false")

    def needs(self) -> frozenset[Need]:
        return frozenset({Need.RETAIN}) if self.trusted == "expert" else frozenset()

    def family(self) -> Hashable:
        return self.trusted, self.class_balanced, self.batch_size

    def computation(self) -> Hashable:
        """Every setting is a computation of its own."""
        return self

    @classmethod
    def correct(cls, settings: Sequence[SAP], model: nn.Module, task: Task, run: Run) -> Iterator[tuple[int, nn.Module]]:
        """See `Corrector.correct`. Sizes come in rising order, the alphas of one size in the order of `settings`.

        Raises:
            UserError: the network has a layer that SAP cannot correct, or the training split is smaller than `num_trusted`.
            FloatingPointError: the network has diverged.
        """
        if len({setting.family() for setting in settings}) != 1:
            raise ValueError("the settings are not of one family, so they share no pass")
        block, sizes = settings[0].batch_size, _users_by_size(settings)
        moments = gram.validate(model)
        with run.meter("select"):
            ranked = settings[0].rank(max(sizes), model, task, run)  # line 1, for every size
        seen = 0
        for size, users in sizes.items():
            run.trusted(ranked.index[:size], users)
            whole = size - size % block
            with run.meter("collect", [which for n, some in sizes.items() if n >= size for which in some]):
                moments = _observe(model, moments, ranked, range(seen, whole, block), block, run)
            with run.meter("collect", users):  # line 2
                at_size = _observe(model, moments, ranked, range(whole, size, block), size - whole, run)
                gram.check_finite(at_size)
            seen = whole
            with run.meter("factor", users):  # line 3
                factored = {name: project.factor(project.weight_of(model, name), each) for name, each in at_size.items()}
                run.meter.count(flops=sum(each.factor_flops for each in factored.values()))
            del at_size
            for which in users:
                with run.meter("build", [which]):  # line 4
                    corrected = project.with_weights(model, {name: each.at(settings[which].alpha) for name, each in factored.items()})
                    run.meter.count(flops=sum(each.build_flops for each in factored.values()))
                yield which, corrected

    @classmethod
    def forecast(cls, settings: Sequence[SAP], sizes: Sizes) -> Passes:
        block, trusted_sizes = settings[0].batch_size, _users_by_size(settings)
        scored = sizes.train if settings[0].trusted == "loss" else 0
        largest = max(trusted_sizes)
        return Passes(forwards=scored + largest - largest % block + sum(size % block for size in trusted_sizes))

    def rank(self, size: int, model: nn.Module, task: Task, run: Run) -> Samples:
        """The `size` most trusted samples, most trusted first."""
        if self.trusted == "expert":
            return task.verified(Need.RETAIN, size)
        if size > len(task.train):
            raise UserError(f"SAP.num_trusted is {size}, but the training split has {len(task.train)} samples; ask for at most that many")
        if self.trusted == "uniform":
            order = stream(task.seed, "select", "trusted").permutation(len(task.train))
        else:
            score = trusted.fit_error(model, task.train, task.kind, self.batch_size, run.meter)
            order = trusted.lowest_first(score, task.train.index)
        if self.class_balanced:
            if task.kind == "regression":
                raise UserError("SAP.class_balanced needs classes, but this is a regression task; set class_balanced=false")
            order = trusted.balanced(order, task.train.labels)
        return task.train.subset(order[:size])


def _users_by_size(settings: Sequence[SAP]) -> dict[int, list[int]]:
    """The positions of the settings with each trusted size, smallest size first."""
    sizes = sorted({setting.num_trusted for setting in settings})
    return {size: [which for which, setting in enumerate(settings) if setting.num_trusted == size] for size in sizes}


def _observe(
    model: nn.Module, moments: dict[str, gram.Moments], ranked: Samples, starts: range, size: int, run: Run
) -> dict[str, gram.Moments]:
    """`moments` and those of the blocks of `size` samples that begin at `starts`, one forward pass per block."""
    before = sum(each.flops for each in moments.values())
    for start in starts:
        (batch,) = ranked.subset(torch.arange(start, start + size)).batches(size)
        moments = gram.observe(model, moments, batch.inputs)
        run.meter.count(forwards=size)
    run.meter.count(flops=sum(each.flops for each in moments.values()) - before)
    return moments

"""SAP: one-shot correction of a network trained on wrong labels, by projecting weights on what trusted samples excite.

    1  T <- the num_trusted training samples with the lowest loss on their given labels                       (trusted)
    2  for each layer: G <- sum over T of x x^T, x the layer's inputs in the unmodified network               (gram)
    3  for each layer: r, V <- energies and directions of G;  lambda <- alpha r / ((alpha - 1) r + 1)         (spectrum)
    4  for each layer: W <- W V diag(lambda) V^T                                                              (project)

Nothing is trained. One scoring pass serves every way to choose T by its scores (size, skipped share, balance), one pass over T every
alpha and every nested size, and each setting has the bits it has alone: the pass goes through T in blocks of `batch_size`, a size's own
remainder is added to the blocks before it and to nothing else, and the factorisation follows from what a layer saw, not from how many
settings ask.

Source: SAP, Algorithm 1, with the paper's ranges (alpha 2000 to 300000, 1000 trusted samples). Deviations: every patch counts (the released
code draws at most 50000 columns at random) and all arithmetic but the network's own is float64. From the released code comes the choice
by input curvature, with its variants; see `trusted`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from sap_core.api import TRUSTED_COUNT, Need, Passes, Run, Samples, Sizes, Task, TaskType
from sap_core.errors import UserError, unknown
from sap_core.sap import gram, project, spectrum, trusted
from sap_core.seeding import stream

Strategy = Literal["loss", "uniform", "expert", "curvature", "curvature_true_labels"]
Build = Literal["float64", "float32"]
SCORED: tuple[Strategy, ...] = ("loss", "curvature", "curvature_true_labels")


@dataclass(frozen=True)
class SAP:
    """The settings of one correction.

    Attributes:
        alpha: importance knob: directions with energy above 1/(alpha + 1) are mostly kept. Larger is milder.
        num_trusted: size of the trusted set, at most that of the training split.
        trusted: how it is chosen: lowest `loss` (the paper), `uniform` at random, samples verified by an `expert`, or lowest input
            `curvature`; `curvature_true_labels` takes the gradients, and the classes to balance, under true labels (the released code).
        class_balanced: give every class its share of the trusted set (by given labels).
        batch_size: samples per forward pass; sizes that are its multiples share their whole pass.
        skip: share of the most trusted end that is passed over (of each class, where balanced), in [0, 1); for scored samples only.
        build: arithmetic of the one product per layer and alpha; `float32` is twice as fast (far more on GPUs without float64 units) and
            carries float32's rounding, as the weights themselves do. Gram matrices and factorisations are float64 either way.
    """

    name: ClassVar[str] = "sap"
    version: ClassVar[int] = 1

    alpha: float = 30000.0
    num_trusted: int = field(default=1000, metadata=TRUSTED_COUNT)
    trusted: Strategy = "loss"
    class_balanced: bool = False
    batch_size: int = 256
    skip: float = 0.0
    build: Build = "float64"

    def __post_init__(self) -> None:
        spectrum.check_alpha(self.alpha)
        if self.trusted not in get_args(Strategy):
            raise unknown("way to choose trusted samples", self.trusted, get_args(Strategy), "SAP.trusted")
        if self.build not in get_args(Build):
            raise unknown("arithmetic", self.build, get_args(Build), "SAP.build")
        for name in ("num_trusted", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"SAP.{name} is {getattr(self, name)}, but must be at least 1")
        if not 0 <= self.skip < 1:
            raise UserError(f"SAP.skip is {self.skip}, but must be a share of at least 0 and below 1")
        if self.skip and self.trusted not in SCORED:
            raise UserError(f"SAP.skip={self.skip} does not go with SAP.trusted={self.trusted}, which ranks by no score; set skip=0")

    def needs(self) -> frozenset[Need]:
        told = {"expert": Need.RETAIN, "curvature_true_labels": Need.TRUE_LABELS}
        return frozenset({told[self.trusted]} if self.trusted in told else ())

    def selects_samples(self) -> bool:
        return True

    def family(self) -> Hashable:
        told_all = self.trusted == "expert" and self.class_balanced  # all that is verified
        return self.trusted, self.batch_size, told_all, self.build

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
        unseen = gram.init_moments(model)
        pool = settings[0].pool(task, max(setting.num_trusted for setting in settings))
        for setting in settings:
            setting.check(pool, task.kind)
        with run.meter("select"):
            order = settings[0].rank(pool, model, task, run)  # line 1, for every setting
        for sizes in _selections(settings):
            first = settings[next(iter(sizes.values()))[0]]
            ranked = pool.subset(first.select(order, pool.labels)[: max(sizes)])
            yield from _corrected(settings, sizes, ranked, unseen, model, run)

    @classmethod
    def forecast(cls, settings: Sequence[SAP], sizes: Sizes) -> Passes:
        block, strategy = settings[0].batch_size, settings[0].trusted
        scores = {"uniform": 0, "expert": 0, "loss": 1}.get(strategy, 1 + trusted.DRAWS) * sizes.train
        collected = 0
        for chosen in _selections(settings):
            largest = max(chosen)
            collected += largest - largest % block + sum(size % block for size in chosen)
        return Passes(forwards=scores + collected, backwards=scores if strategy.startswith("curvature") else 0)

    def pool(self, task: Task, count: int) -> Samples:
        """Where trusted samples come from: `count` of them, or as many as there are."""
        if self.trusted == "expert":
            return task.verified(Need.RETAIN, None if self.class_balanced else count)
        return task.verified(Need.TRUE_LABELS) if self.trusted == "curvature_true_labels" else task.train

    def check(self, pool: Samples, kind: TaskType) -> None:
        """Raises UserError where the samples to choose from cannot serve this setting."""
        if self.class_balanced and kind == "regression":
            raise UserError("SAP.class_balanced needs classes, but this is a regression task; set class_balanced=false")
        skipped = int(self.skip * len(pool))
        if self.num_trusted > len(pool) - skipped:
            what = "verified samples" if self.trusted == "expert" else "samples"
            after = f", of which skip={self.skip} passes over {skipped}" if skipped else ""
            raise UserError(
                f"SAP.num_trusted is {self.num_trusted}, but the training split has {len(pool)} {what}{after}; ask for at most that many"
            )

    def rank(self, pool: Samples, model: nn.Module, task: Task, run: Run) -> Tensor:
        """Positions in `pool`, most trusted first; the same for all settings of a family."""
        if self.trusted == "expert":
            return torch.arange(len(pool))
        if self.trusted == "uniform":
            return stream(task.seed, "select", "trusted").permutation(len(pool))
        if self.trusted == "loss":
            score = trusted.fit_error(model, pool, task.kind, self.batch_size, run.meter)
        else:
            steps = stream(task.seed, "select", "curvature")
            score = trusted.curvature(model, pool, task.kind, self.batch_size, steps, run.meter)
        return trusted.lowest_first(score, pool.index)

    def select(self, order: Tensor, labels: Tensor) -> Tensor:
        """`order` as this setting takes it: its trusted sets are prefixes."""
        return trusted.balanced(order, labels, self.skip) if self.class_balanced else trusted.skip_first(order, self.skip)


Users = dict[int, list[int]]
"""The positions of the settings with each trusted size, smallest size first."""


def _selections(settings: Sequence[SAP]) -> list[Users]:
    """The settings apart by what precedes the size in choosing a trusted set, in the order of their first settings."""
    groups: dict[tuple[float, bool], list[int]] = {}
    for which, setting in enumerate(settings):
        groups.setdefault((setting.skip, setting.class_balanced), []).append(which)
    return [
        {
            size: [which for which in group if settings[which].num_trusted == size]
            for size in sorted({settings[k].num_trusted for k in group})
        }
        for group in groups.values()
    ]


def _corrected(
    settings: Sequence[SAP], sizes: Users, ranked: Samples, unseen: Mapping[str, gram.Moments], model: nn.Module, run: Run
) -> Iterator[tuple[int, nn.Module]]:
    """Lines 2 to 4 for settings whose trusted sets are prefixes of `ranked`, smallest first."""
    block, moments, seen = settings[0].batch_size, unseen, 0
    for size, users in sizes.items():
        run.report_trusted(ranked.index[:size], users)
        whole = size - size % block
        with run.meter("collect", [which for n, some in sizes.items() if n >= size for which in some]):
            moments = _observe(model, moments, ranked, range(seen, whole, block), block, run)
        with run.meter("collect", users):  # line 2
            at_size = _observe(model, moments, ranked, range(whole, size, block), size - whole, run)
            gram.check_finite(at_size)
        seen = whole
        with run.meter("factor", users):  # line 3
            factored = project.factor(model, at_size, getattr(torch, settings[0].build))
            run.meter.count(flops=project.factorisation_flops(factored))
        with run.meter("report", users):
            for layer, each in factored.items():
                run.report_series(f"spectrum/{layer}", spectrum.summary(each.basis.energy), users)
        del at_size
        for which in users:
            with run.meter("build", [which]):  # line 4
                corrected = project.with_weights(model, {name: each.at(settings[which].alpha) for name, each in factored.items()})
                run.meter.count(flops=sum(each.build_flops for each in factored.values()))
            yield which, corrected


def _observe(
    model: nn.Module, moments: Mapping[str, gram.Moments], ranked: Samples, starts: range, size: int, run: Run
) -> Mapping[str, gram.Moments]:
    """`moments` and those of the blocks of `size` samples that begin at `starts`, one forward pass per block."""
    before = gram.total_flops(moments)
    for start in starts:
        (batch,) = ranked.subset(torch.arange(start, start + size)).batches(size)
        moments = gram.observe(model, moments, batch.inputs)
        run.meter.count(forwards=size)
    run.meter.count(flops=gram.total_flops(moments) - before)
    return moments

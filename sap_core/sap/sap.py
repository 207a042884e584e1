"""SAP: one-shot correction of a network trained on wrong labels, by projecting its weights onto the activation space of trusted samples.

    1  T <- the num_trusted training samples with the lowest loss on their given labels                       (trusted)
    2  for each layer: G <- sum over T of x x^T, x the layer's inputs in the unmodified network               (gram)
    3  for each layer: r, V <- energies and directions of G;  lambda <- alpha r / ((alpha - 1) r + 1)         (spectrum)
    4  for each layer: W <- W V diag(lambda) V^T                                                              (project)

Nothing is trained. Within a family one scoring pass serves every rule that selects T by these scores (size, skipped fraction, class
balance), one pass over T serves every alpha and every nested size, and one decomposition per layer and size serves every alpha. A setting
has the same bits alone as in its family: the pass goes through T in blocks of `batch_size`, the remainder of a size is added to the
blocks before it and to no other sum, and the method of decomposition depends on the inputs of a layer only, not on the number of settings.

Source: SAP, Algorithm 1, with the ranges of the paper (alpha 2000 to 300000, 1000 trusted samples). Deviations: all patches are used (the
released code draws at most 50000 columns at random), and all arithmetic except that of the network is float64. Selection by input curvature
is taken from the released code; see `trusted`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from sap_core.api import TRUSTED_COUNT, Need, Passes, Run, Samples, Sizes, Task, TaskType
from sap_core.errors import UserError, unknown
from sap_core.models.modes import batch_statistics
from sap_core.sap import gram, project, spectrum, trusted
from sap_core.sap.refusal import find_weights, warn_unreached, without
from sap_core.sap.weights import IMAGES, Sites, classify
from sap_core.seeding import stream

Strategy = Literal["loss", "uniform", "expert", "curvature", "curvature_true_labels"]
Build = Literal["float64", "float32"]
# Only a ranking by a score has "most trusted" samples that `skip` could leave out.
SCORED: tuple[Strategy, ...] = ("loss", "curvature", "curvature_true_labels")
"""Strategies that rank samples by a score."""


@dataclass(frozen=True)
class SAP:
    """A setting of SAP.

    Attributes:
        alpha: strength of the projection: directions with energy above 1/(alpha + 1) are mostly kept, so a larger alpha changes less.
        num_trusted: number of trusted samples, at most the size of the training split.
        trusted: selection strategy: lowest `loss` (the paper), `uniform` at random, samples verified by an `expert`, or lowest input
            `curvature`; `curvature_true_labels` uses true labels for the gradients and for class balance (the released code).
        class_balanced: select equally many samples of each class, by given labels.
        batch_size: samples per forward pass; sizes that are multiples of it share the complete pass.
        skip: fraction of the most trusted samples that is skipped (per class if `class_balanced`), in [0, 1); for scored strategies only.
        build: dtype of the one product per layer and alpha; `float32` is twice as fast (much more on GPUs without float64 units) and has
            the rounding error of float32, as the weights do. Gram matrices and decompositions are float64 in both cases.
        leave: patterns (`fnmatch`) of names of parameters that stay as they are, such as `head.*`; those that SAP does not support must be
            named here (see `weights`).
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
    leave: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # Checked at construction, so that a plan with a bad setting is refused before any job runs.
        spectrum.check_alpha(self.alpha)
        if self.trusted not in get_args(Strategy):
            raise unknown("strategy", self.trusted, get_args(Strategy), "SAP.trusted")
        if self.build not in get_args(Build):
            raise unknown("dtype", self.build, get_args(Build), "SAP.build")
        for name in ("num_trusted", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"SAP.{name} is {getattr(self, name)}, but must be at least 1")
        if not 0 <= self.skip < 1:
            raise UserError(f"SAP.skip is {self.skip}, but must be a fraction of at least 0 and below 1")
        if isinstance(self.leave, str):
            raise UserError(f"SAP.leave is the text '{self.leave}', but must be a list of patterns of parameter names")
        if self.skip and self.trusted not in SCORED:
            raise UserError(f"SAP.skip={self.skip} cannot be used with SAP.trusted={self.trusted}, which ranks by no score; set skip=0")

    def needs(self) -> frozenset[Need]:
        # The paper's selection reads given labels only, and so does curvature under given labels; the other two declare what they read.
        needed = {"expert": Need.RETAIN, "curvature_true_labels": Need.TRUE_LABELS}
        return frozenset({needed[self.trusted]} if self.trusted in needed else ())

    def selects_samples(self) -> bool:
        return True

    def family(self) -> Hashable:
        # Settings share a job if they share the scoring pass; alpha, size, skip and class balance are applied to that one ranking.
        # Balancing needs all verified samples, not the first `num_trusted`.
        reads_all = self.trusted == "expert" and self.class_balanced
        # The batch size is part of the key, because float64 sums depend on how the samples are split into blocks.
        return self.trusted, self.batch_size, reads_all, self.build, self.leave

    def computation(self) -> Hashable:
        """Every setting is a separate computation."""
        return self

    @classmethod
    def correct(cls, settings: Sequence[SAP], model: nn.Module, task: Task, run: Run) -> Iterator[tuple[int, nn.Module]]:
        """See `Corrector.correct`. Sizes are yielded in increasing order, the alphas of one size in the order of `settings`.

        Raises:
            UserError: the network has an unsupported weight, or the training split has fewer than `num_trusted` samples.
            FloatingPointError: the network has diverged.
            ValueError: the settings are of different families.
        """
        # A wrong grouping is an error of the caller, not of the user, hence no UserError.
        if len({setting.family() for setting in settings}) != 1:
            raise ValueError("the settings are of different families")
        # First, so that an unsupported network is refused at once.
        found = find_weights(model, first_inputs(task.train), settings[0].leave, option_of(cls))
        warn_unreached(found)
        pool = settings[0].pool(task, max(setting.num_trusted for setting in settings))
        for setting in settings:
            setting.check(pool, task.kind)
        with run.meter("select"):
            # Algorithm 1, line 1: one pass of the noisy network over the training split serves every setting.
            order = settings[0].rank(pool, model, task, run)
        # Lines 2 to 4: one pass over the largest trusted set per group of nested sets.
        for sizes in _selections(settings):
            first = settings[next(iter(sizes.values()))[0]]
            # Only the largest set is read; every smaller one of the group is a prefix of it.
            ranked = pool.subset(first.select(order, pool.labels)[: max(sizes)])
            yield from _corrected(settings, sizes, ranked, found.sites, model, run)

    @classmethod
    def refuse_network(cls, settings: Sequence[SAP], network: nn.Module, inputs: Tensor) -> None:
        """See `RefusesNetworks`."""
        found = classify(network, inputs)
        warn_unreached(found)
        for leave in dict.fromkeys(setting.leave for setting in settings):
            without(network, found, leave, option_of(cls))

    @classmethod
    def forecast(cls, settings: Sequence[SAP], sizes: Sizes) -> Passes:
        block, strategy = settings[0].batch_size, settings[0].trusted
        # A curvature score takes one gradient at the input itself and one at each of its random steps.
        scores = {"uniform": 0, "expert": 0, "loss": 1}.get(strategy, 1 + trusted.DRAWS) * sizes.train
        collected = 0
        # Full blocks are passed once for all nested sizes; the remainder of each size is passed for that size alone.
        for chosen in _selections(settings):
            largest = max(chosen)
            collected += largest - largest % block + sum(size % block for size in chosen)
        return Passes(forwards=scores + collected, backwards=scores if strategy.startswith("curvature") else 0)

    def pool(self, task: Task, count: int) -> Samples:
        """Return the samples to select from; of verified samples `count`, or all if classes are balanced."""
        if self.trusted == "expert":
            # Verified samples come in one fixed order, so that a smaller request is a prefix of a larger one.
            return task.verified(Need.RETAIN, None if self.class_balanced else count)
        return task.verified(Need.TRUE_LABELS) if self.trusted == "curvature_true_labels" else task.train

    def check(self, pool: Samples, kind: TaskType) -> None:
        """Check that the samples to select from suffice for this setting.

        Raises:
            UserError: they do not.
        """
        if self.class_balanced and kind == "regression":
            raise UserError("SAP.class_balanced needs classes, but this is a regression task; set class_balanced=false")
        # Mirrors `skip_first`: what is skipped is no longer available to be trusted.
        skipped = int(self.skip * len(pool))
        if self.num_trusted > len(pool) - skipped:
            what = "verified samples" if self.trusted == "expert" else "samples"
            after = f", of which skip={self.skip} leaves out {skipped}" if skipped else ""
            raise UserError(
                f"SAP.num_trusted is {self.num_trusted}, but the training split has {len(pool)} {what}{after}; "
                f"set num_trusted to at most {len(pool) - skipped}"
            )

    def rank(self, pool: Samples, model: nn.Module, task: Task, run: Run) -> Tensor:
        """Return the positions in `pool` in order of trust; the same for all settings of a family (line 1)."""
        # Verified samples are already in a fixed random order.
        if self.trusted == "expert":
            return torch.arange(len(pool))
        if self.trusted == "uniform":
            # Keyed by the run's seed alone: all networks and settings of one seed trust the same samples, and smaller sets are nested.
            return stream(task.seed, "select", "trusted").permutation(len(pool))
        # The paper's criterion: the noisy network's cross-entropy on the given labels.
        if self.trusted == "loss":
            score = trusted.fit_error(model, pool, task.kind, self.batch_size, run.meter)
        else:
            steps = stream(task.seed, "select", "curvature")
            # The released code's criterion, off by default (see the deviations in `trusted`).
            score = trusted.curvature(model, pool, task.kind, self.batch_size, steps, run.meter)
        return trusted.lowest_first(score, pool.index)

    def select(self, order: Tensor, labels: Tensor) -> Tensor:
        """Return `order` with this setting's `class_balanced` and `skip` applied; its trusted set is a prefix of the result."""
        return trusted.balanced(order, labels, self.skip) if self.class_balanced else trusted.skip_first(order, self.skip)


def option_of(corrector: type[Any]) -> str:
    """Return the key of the option `leave` on the command line, for messages."""
    return f"method.{corrector.name}.corrector.leave"


def first_inputs(samples: Samples) -> Tensor:
    """Return the few inputs of the pass that shows how a network uses its weights."""
    count = min(IMAGES, len(samples))
    (batch,) = samples.subset(torch.arange(count)).batches(count)
    return batch.inputs


SettingsBySize = dict[int, list[int]]
"""num_trusted -> positions of the settings with this size, in increasing order of size."""


def _selections(settings: Sequence[SAP]) -> list[SettingsBySize]:
    """Group the settings whose trusted sets are nested: those with equal `skip` and `class_balanced`."""
    # Both options rearrange the ranking, so trusted sets of different options are not prefixes of one order.
    groups: dict[tuple[float, bool], list[int]] = {}
    for which, setting in enumerate(settings):
        groups.setdefault((setting.skip, setting.class_balanced), []).append(which)
    return [
        {
            size: [which for which in group if settings[which].num_trusted == size]
            # In increasing order, as the Gram matrices of a smaller set are the beginning of the larger set's sums.
            for size in sorted({settings[k].num_trusted for k in group})
        }
        for group in groups.values()
    ]


def _corrected(
    settings: Sequence[SAP], sizes: SettingsBySize, ranked: Samples, sites: Sites, model: nn.Module, run: Run
) -> Iterator[tuple[int, nn.Module]]:
    """Lines 2 to 4 for settings whose trusted sets are prefixes of `ranked`, in increasing order of size."""
    # `moments` holds the sums over full blocks so far; the remainder of a size goes into a copy (`at_size`) that no larger size reads.
    block, observed = settings[0].batch_size, 0
    moments: Mapping[str, gram.Moments] = gram.init_moments(sites)
    for size, users in sizes.items():
        run.report_trusted(ranked.index[:size], users)
        # Only full blocks are shared with larger sizes: their blocks begin at multiples of `block`, and sums of float64 depend on the
        # batches, so that sharing a remainder would change the bits of larger sizes.
        in_blocks = size - size % block
        # Algorithm 1, line 2, full blocks: paid by every setting of this size or a larger one.
        with run.meter("collect", [which for n, some in sizes.items() if n >= size for which in some]):
            moments = _observe(model, sites, moments, ranked, range(observed, in_blocks, block), block, run)
        # Algorithm 1, line 2, remainder: what is left below one block, and with it the check, is this size's own.
        with run.meter("collect", users):
            if in_blocks and size - in_blocks == 1 and batch_statistics(model):
                at_size = _observe_merged(model, sites, ranked, size, block, run)
            else:
                at_size = _observe(model, sites, moments, ranked, range(in_blocks, size, block), size - in_blocks, run)
            gram.check_finite(at_size)
        # The next size continues behind the last full block of this one.
        observed = in_blocks
        # Algorithm 1, line 3: energies r and directions V of R R^T, once per size and layer for every alpha.
        with run.meter("factor", users):
            factored = project.factor(model, sites, at_size, getattr(torch, settings[0].build))
            run.meter.count(flops=project.factorisation_flops(factored))
        # For figures only, hence recorded as phase `report`, which is no tuning cost.
        with run.meter("report", users):
            for layer, each in factored.items():
                run.report_series(f"spectrum/{layer}", spectrum.summary(each.basis.energy), users)
        # Frees the Gram matrices before the first corrected copy is made.
        del at_size
        for which in users:
            # Algorithm 1, line 4: scale V's columns by lambda(r) and project, W <- W V diag(lambda) V^T, into a copy of the network.
            with run.meter("build", [which]):
                corrected = project.with_weights(model, sites, {name: each.at(settings[which].alpha) for name, each in factored.items()})
                run.meter.count(flops=sum(each.build_flops for each in factored.values()))
            # Only one corrected copy is alive at a time: the caller scores it before it asks for the next one.
            yield which, corrected


def _observe(
    model: nn.Module, sites: Sites, moments: Mapping[str, gram.Moments], ranked: Samples, starts: range, size: int, run: Run
) -> Mapping[str, gram.Moments]:
    """Add the blocks of `size` samples that begin at `starts` to the moments, with one forward pass per block."""
    # FLOPs are booked as differences, because the moments carry their own running total through nested sizes.
    before = gram.total_flops(moments)
    for start in starts:
        (batch,) = ranked.subset(torch.arange(start, start + size)).batches(size)
        moments = gram.observe(model, sites, moments, batch.inputs)
        run.meter.count(forwards=size)
    run.meter.count(flops=gram.total_flops(moments) - before)
    return moments


def _observe_merged(model: nn.Module, sites: Sites, ranked: Samples, size: int, block: int, run: Run) -> Mapping[str, gram.Moments]:
    """Observe the first `size` samples where a network cannot work on the single one that remains: it goes with the block before it."""
    moments: Mapping[str, gram.Moments] = gram.init_moments(sites)
    # `batches` merges a last batch of one sample. Nothing is shared with other sizes, whose blocks end elsewhere.
    for batch in ranked.subset(torch.arange(size)).batches(block):
        moments = gram.observe(model, sites, moments, batch.inputs)
        run.meter.count(forwards=len(batch.labels))
    run.meter.count(flops=gram.total_flops(moments))
    return moments

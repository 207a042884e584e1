"""Variants of SAP from its released code: other importances, projections away from forget samples, projected outputs, several rounds.

The paper's method is `sap_core.sap.sap`; with all options at their defaults this module computes the same, but slower. Let r be the
energies of a layer's inputs (they sum to one) and V their directions. A matrix M = V diag(w) V^T has the weights

    sap   w = alpha r / ((alpha - 1) r + 1)                            the paper's importance
    sgp   w = alpha s / ((alpha - 1) s + 1),  s = sqrt(r / max r)      scaled gradient projection: singular values over the largest
    gpm   w = 1 for the fewest directions whose energies exceed the fraction `energy`, else 0    gradient projection memory: no alpha

Mr is computed from trusted samples, Mf from forget samples, and an input vector v of a layer becomes P^T v with

    retain             P = Mr
    not_forget         P = I - Mf
    retain_not_forget  P = Mr - Mr Mf
    not_forget_alone   P = I - Mf + Mf Mr      removes only directions of forget samples that trusted samples do not use

On the input side W <- W P^T; on the output side, where V and r are those of the layer's outputs, W <- P^T W and b <- P^T b. Each further
round starts from the network and the activations of the previous one, with alpha multiplied by `growth`.

Source: the released code of SAP (docs/fidelity.md). Deviations: those of `sap`; forget samples are the least trusted samples (the
highest losses) or verified ones, not those with the highest curvature under true labels; `keep_last` keeps that many layers, where the
released option keeps one less; in later rounds every projection is applied once, where the released code applies earlier ones twice.

Shapes: K groups, D inputs per group (on the output side: outputs), Q directions, M rows.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from sap_core.api import FORGET_COUNT, TRUSTED_COUNT, Need, Passes, Run, Samples, Sizes, Task
from sap_core.errors import UserError, at_least, unknown
from sap_core.float64 import to_float64
from sap_core.sap import output_moments as outputs
from sap_core.sap import project, spectrum
from sap_core.sap.bases import ActivationBases, LayerBases, Side, collect_bases
from sap_core.sap.refusal import find_weights, warn_unreached, without
from sap_core.sap.sap import SAP, Strategy, first_inputs, option_of
from sap_core.sap.weights import Sites, classify, parameters_of

Importance = Literal["sap", "sgp", "gpm"]
Projection = Literal["retain", "not_forget", "retain_not_forget", "not_forget_alone"]
Forget = Literal["scored", "verified"]

# Without the threshold `sgp` and the division for dual bases would act on directions that no sample has.
_ZERO_ENERGY = 1e-14
"""Energies below this fraction of the largest one are rounding errors of zero in float64 Gram matrices."""


@dataclass(frozen=True)
class SAPVariant:
    """A setting of a variant.

    Attributes:
        alpha, num_trusted, trusted, class_balanced, batch_size, skip: as in `SAP`; `gpm` ignores alpha.
        importance: the rule for w.
        energy: fraction of the total energy that `gpm` keeps, in (0, 1).
        projection: the matrix P; all but `retain` use forget samples.
        num_forget: number of forget samples.
        forget: source of forget samples: the highest losses of the training split (`scored`), or verified wrong samples (`verified`).
        alpha_forget: alpha of Mf; None: that of Mr.
        side: project inputs, outputs or both; outputs of Linear and Conv2d layers only.
        keep_first, keep_last: number of first and last layers, in the order of the network's modules, that are not changed.
        rounds: number of successive corrections.
        growth: factor on both alphas from one round to the next.
        leave: as in `SAP`.
    """

    name: ClassVar[str] = "sap_variants"
    version: ClassVar[int] = 1

    alpha: float = 30000.0
    num_trusted: int = field(default=1000, metadata=TRUSTED_COUNT)
    trusted: Strategy = "loss"
    class_balanced: bool = False
    batch_size: int = 256
    skip: float = 0.0
    importance: Importance = "sap"
    energy: float = 0.99
    projection: Projection = "retain"
    num_forget: int = field(default=1000, metadata=FORGET_COUNT)
    forget: Forget = "scored"
    alpha_forget: float | None = None
    side: Side = "input"
    keep_first: int = 0
    keep_last: int = 0
    rounds: int = 1
    growth: float = 10.0
    leave: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # A method inherits from nothing, so the common rules are those of SAP's own constructor.
        # `base` checks the fields that SAP has, too.
        self.base()
        for name, options in (("importance", Importance), ("projection", Projection), ("forget", Forget), ("side", Side)):
            if getattr(self, name) not in get_args(options):
                raise unknown(name, getattr(self, name), get_args(options), "SAPVariant")
        if self.alpha_forget is not None:
            spectrum.check_alpha(self.alpha_forget)
        at_least("SAPVariant", 1, num_forget=self.num_forget, rounds=self.rounds)
        at_least("SAPVariant", 0, keep_first=self.keep_first, keep_last=self.keep_last)
        if not 0 < self.energy < 1:
            raise UserError(f"SAPVariant.energy is {self.energy}, but must be a fraction above 0 and below 1; gpm was published with 0.99")
        if not self.growth > 0:
            raise UserError(f"SAPVariant.growth is {self.growth}, but must be above 0; 1 repeats the same alpha")

    def base(self) -> SAP:
        """Return the `SAP` with the fields that both have."""
        return SAP(**{item.name: getattr(self, item.name) for item in fields(SAP) if item.name in self.__dataclass_fields__})

    @property
    def forgets(self) -> bool:
        """Whether this setting uses forget samples."""
        return self.projection != "retain"

    def needs(self) -> frozenset[Need]:
        return self.base().needs() | ({Need.FORGET} if self.forgets and self.forget == "verified" else set())

    def selects_samples(self) -> bool:
        return True

    def family(self) -> Hashable:
        """Settings of one family have the same order of trust."""
        return "variant", self.base().family()

    def computation(self) -> Hashable:
        """Every setting is a separate computation."""
        return self

    def activations_key(self) -> Hashable:
        """Return a key; settings with equal keys use the same activations of the unmodified network, so one pass serves them all."""
        forgotten = (self.num_forget, self.forget) if self.forgets else None
        return self.num_trusted, self.class_balanced, self.skip, forgotten, self.side

    @classmethod
    def correct(cls, settings: Sequence[SAPVariant], model: nn.Module, task: Task, run: Run) -> Iterator[tuple[int, nn.Module]]:
        """See `Corrector.correct`. Settings share the scores, and those with equal samples and sides the activations of the first round.

        Raises:
            UserError: a layer cannot be projected on the requested side, no layer remains to project, or there are too few samples.
            FloatingPointError: the network has diverged.
        """
        base = settings[0].base()
        pool = base.pool(task, max(setting.num_trusted for setting in settings))
        found = find_weights(model, first_inputs(task.train), settings[0].leave, option_of(cls))
        warn_unreached(found)
        sites = found.sites
        for setting in settings:
            setting.check_network(model, sites)
            setting.check(pool, task)
        with run.meter("select"):
            # Algorithm 1, line 1, as for SAP: one ranking from which every setting takes its trusted and its forget samples.
            order = base.rank(pool, model, task, run)
        # Settings with the same samples and sides share one pass and one decomposition of the first round.
        groups: dict[Hashable, list[int]] = {}
        for which, setting in enumerate(settings):
            groups.setdefault(setting.activations_key(), []).append(which)
        for users in groups.values():
            first = settings[users[0]]
            trusted, forget = first.samples(order, pool, task)
            run.report_trusted(trusted.index, users)
            # Verified forget samples are known to be wrong; only a choice by score has a precision worth reporting.
            if forget is not None and first.forget == "scored":
                run.report_forgotten(forget.index, users)
            bases = collect_bases(first.side, first.batch_size, model, sites, trusted, forget, run, users)
            for which in users:
                corrected = settings[which].projected_model(model, sites, bases, 0, run, which)
                # A later round depends on the alpha of its setting, so its activations are not shared. Each projection is applied once; the
                # released recursion applies earlier ones twice from the third network on.
                for number in range(1, settings[which].rounds):
                    recomputed = collect_bases(first.side, first.batch_size, corrected, sites, trusted, forget, run, [which])
                    corrected = settings[which].projected_model(corrected, sites, recomputed, number, run, which)
                yield which, corrected

    @classmethod
    def forecast(cls, settings: Sequence[SAPVariant], sizes: Sizes) -> Passes:
        # SAP's forecast is that of the scores and of one pass over the trusted samples, which is counted below per key instead.
        scores = SAP.forecast([settings[0].base()], sizes)
        passes = Passes(scores.forwards - settings[0].num_trusted, scores.backwards)
        first_rounds = {setting.activations_key(): setting for setting in settings}.values()
        later_rounds = [setting for setting in settings for _ in range(1, setting.rounds)]
        return passes + Passes(forwards=sum(each.num_trusted + each.forgets * each.num_forget for each in (*first_rounds, *later_rounds)))

    @classmethod
    def refuse_network(cls, settings: Sequence[SAPVariant], network: nn.Module, inputs: Tensor) -> None:
        """See `RefusesNetworks`."""
        found = classify(network, inputs)
        warn_unreached(found)
        for setting in {(setting.leave, setting.side, setting.keep_first + setting.keep_last): setting for setting in settings}.values():
            setting.check_network(network, without(network, found, setting.leave, option_of(cls)).sites)

    def check_network(self, model: nn.Module, sites: Sites) -> None:
        """Check that the weights of the network can be projected as this setting asks.

        Raises:
            UserError: they cannot.
        """
        # Before any pass, so that a layer that is not supported on the requested side is refused at once.
        if self.side != "input":
            outputs.init_moments(model, sites)
        if self.keep_first + self.keep_last >= len(sites):
            raise UserError(
                f"SAPVariant.keep_first={self.keep_first} and keep_last={self.keep_last} leave none of the network's {len(sites)} layers "
                f"to project; set smaller values"
            )

    def check(self, pool: Samples, task: Task) -> None:
        """Check that the samples suffice for this setting.

        Raises:
            UserError: they do not.
        """
        self.base().check(pool, task.kind)
        # Both ends of one ranking: beyond this sum a sample would be trusted and forgotten at once.
        if self.forgets and self.forget == "scored" and self.num_trusted + self.num_forget > len(pool):
            raise UserError(
                f"SAPVariant.num_trusted={self.num_trusted} and num_forget={self.num_forget} together exceed the {len(pool)} samples of "
                f"the training split; set smaller values"
            )

    def samples(self, order: Tensor, pool: Samples, task: Task) -> tuple[Samples, Samples | None]:
        """Return (trusted samples, forget samples); unless verified, forget samples are taken from the other end of the same order."""
        chosen = self.base().select(order, pool.labels)
        trusted = pool.subset(chosen[: self.num_trusted])
        if not self.forgets:
            return trusted, None
        if self.forget == "verified":
            return trusted, task.verified(Need.FORGET, self.num_forget)
        # The least trusted first, so that fewer forget samples are a prefix of more.
        return trusted, pool.subset(chosen.flip(0)[: self.num_forget])

    def projected_model(self, model: nn.Module, sites: Sites, bases: ActivationBases, number: int, run: Run, which: int) -> nn.Module:
        """Return a corrected copy of `model` for round `number` (from 0)."""
        # The released code multiplies alpha by ten from round to round.
        alphas = _Alphas(self.alpha, self.alpha_forget).times(self.growth**number)
        names, parameters = list(sites), parameters_of(model)
        weights: dict[str, Tensor] = {}
        biases: dict[str, Tensor] = {}
        with run.meter("build", [which]):
            # `keep_last` leaves out that many layers, as its name says; `end=k` of the released code leaves out k - 1.
            for name in names[self.keep_first : len(names) - self.keep_last]:
                weights[name] = sites[name].matrix(parameters)
                # Input side: W <- W P^T.
                if self.side != "output":
                    weights[name] = self.projected(weights[name], bases.of(name, "input"), alphas, transposed=True)
                # Output side: W <- P^T W and b <- P^T b, computed as rows times P.
                if self.side != "input":
                    of_outputs = bases.of(name, "output")
                    # P^T W is the transpose of W^T P, so the rows of W^T are projected as they are for inputs.
                    weights[name] = self.projected(weights[name].mT, of_outputs, alphas, transposed=False).mT
                    # The layer's output W x + b is projected as a whole, so its bias must be, too.
                    if (bias := getattr(model.get_submodule(sites[name].calls[0][0]), "bias", None)) is not None:
                        # float64 like the weights: W and b of a layer are rounded once each, at the end.
                        rows_K1O = to_float64(bias.detach()).reshape(len(weights[name]), 1, -1)
                        biases[name] = self.projected(rows_K1O, of_outputs, alphas, transposed=False)
            # Two products per weight, with the directions and back (2 FLOPs per multiply-add each).
            run.meter.count(flops=sum(4.0 * each.numel() * each.shape[-1] for each in weights.values()))
            return _with_biases(project.with_weights(model, sites, weights), biases)

    def projected(self, rows_KMD: Tensor, bases: LayerBases, alphas: _Alphas, transposed: bool) -> Tensor:
        """Return `rows` P^T if `transposed`, else `rows` P."""

        def mr(rows_KMD: Tensor) -> Tensor:
            return self.times(rows_KMD, bases.retain, alphas.retain)

        def mf(rows_KMD: Tensor) -> Tensor:
            assert bases.forget is not None
            return self.times(rows_KMD, bases.forget, alphas.forget)

        # M is symmetric, so transposing P swaps the factors of a product and leaves single matrices as they are.
        if self.projection == "retain":
            return mr(rows_KMD)
        if self.projection == "not_forget":
            return rows_KMD - mf(rows_KMD)
        if self.projection == "retain_not_forget":
            # P^T = Mr - Mf Mr; rows times a product apply its left factor first.
            return mr(rows_KMD) - (mr(mf(rows_KMD)) if transposed else mf(mr(rows_KMD)))
        # P^T = I - Mf + Mr Mf.
        return rows_KMD - mf(rows_KMD) + (mf(mr(rows_KMD)) if transposed else mr(mf(rows_KMD)))

    def times(self, rows_KMD: Tensor, basis: spectrum.Basis, alpha: float) -> Tensor:
        """Return `rows` M without forming M."""
        # Q directions instead of the D x D matrix M: M = V diag(w) V^T is applied factor by factor.
        w_KQ = self.weights(basis.energy, alpha)
        # V = X U diag(r)^-1/2 for a dual basis (equation (5) of `spectrum`): both factors of V appear, hence r and not its root.
        if basis.dual:  # directions of a dual basis have length sqrt(r)
            w_KQ = w_KQ / basis.energy.where(w_KQ > 0, 1.0)
        return (rows_KMD @ basis.directions.mT * w_KQ.unsqueeze(-2)) @ basis.directions

    def weights(self, energy_KQ: Tensor, alpha: float) -> Tensor:
        """Return (K, Q) w by the rule of `importance`; 0 for directions without energy."""
        largest_K1 = energy_KQ.amax(-1, keepdim=True)
        if self.importance == "gpm":
            sorted_KQ, order = energy_KQ.sort(-1, descending=True)
            # The fewest directions that exceed the fraction: a direction is kept while those before it have less. At least one is kept.
            # `before`: the energy of the larger directions.
            before_KQ = sorted_KQ.cumsum(-1) - sorted_KQ
            w_KQ = torch.zeros_like(energy_KQ).scatter(-1, order, (before_KQ < self.energy * energy_KQ.sum(-1, keepdim=True)).double())
        else:
            # The clamp lets a dead layer give 0 / tiny = 0 instead of NaN.
            scaled = (energy_KQ / largest_K1.clamp(min=torch.finfo(torch.float64).tiny)).sqrt()
            # `sap` normalises energies s^2 by their sum, `sgp` singular values s by the largest; the formula of the importance is the same.
            w_KQ = spectrum.importance(energy_KQ if self.importance == "sap" else scaled, alpha)
        # Eigenvalues of absent directions are rounding errors, which `sgp`'s square root would raise to 1e-7 of the largest.
        return w_KQ * (energy_KQ > _ZERO_ENERGY * largest_K1)


@dataclass(frozen=True)
class _Alphas:
    """alpha of Mr, and that of Mf if it has its own."""

    retain: float
    own: float | None

    @property
    def forget(self) -> float:
        return self.retain if self.own is None else self.own

    def times(self, factor: float) -> _Alphas:
        return _Alphas(self.retain * factor, None if self.own is None else self.own * factor)


def _with_biases(model: nn.Module, biases: Mapping[str, Tensor]) -> nn.Module:
    """Set the named biases of `model` in place and return it."""
    with torch.no_grad():
        for name, bias in biases.items():
            # In place in the copy that `with_weights` has just made.
            target = model.get_parameter(f"{name}.bias" if name else "bias")
            target.copy_(bias.reshape(target.shape))
    return model

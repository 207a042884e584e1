"""Relatives of SAP that its released code offers: other importances, projections away from a forget set, output sides, rounds.

Nothing here is needed for the paper's method, which is `sap_core.sap.sap`; with every option at its default this is that method, the slower
way. With r the energies of what a layer saw (they sum to one) and V its directions, a matrix M = V diag(w) V^T has the weights

    sap   w = alpha r / ((alpha - 1) r + 1)                            the paper's importance
    sgp   w = alpha s / ((alpha - 1) s + 1),  s = sqrt(r / max r)      scaled gradient projection: singular values over the largest
    gpm   w = 1 for the fewest directions that hold more than the share `energy`, else 0    gradient projection memory: no alpha

Mr comes from trusted samples, Mf from samples to forget, and a vector v that a layer sees becomes P^T v with

    retain             P = Mr
    not_forget         P = I - Mf
    retain_not_forget  P = Mr - Mr Mf
    not_forget_alone   P = I - Mf + Mf Mr      only what forget samples alone excite is taken away

On the input side W <- W P^T; on the output side, where V and r are of the layer's outputs, W <- P^T W and b <- P^T b. Each further round
starts from the network that the one before made and sees its activations, with alpha times `growth`.

Source: the released code of SAP (docs/fidelity.md). Deviations: those of `sap`; the forget set is the other end of the order of trust (the
highest losses) or verified wrong samples, not the highest curvature under true labels; `keep_last` keeps so many layers, where the released
option keeps one less; in later rounds every projection is applied once, where the released code applies earlier ones twice.

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
from sap_core.sap import gram, project, spectrum
from sap_core.sap import output_moments as outputs
from sap_core.sap.bases import ActivationBases, LayerBases, Side, look
from sap_core.sap.layers import weight_sites
from sap_core.sap.sap import SAP, Strategy

Importance = Literal["sap", "sgp", "gpm"]
Projection = Literal["retain", "not_forget", "retain_not_forget", "not_forget_alone"]
Forget = Literal["scored", "verified"]

_NOTHING = 1e-14
"""Directions below this share of the largest energy are what float64 Gram matrices make of zero."""


@dataclass(frozen=True)
class SAPVariant:
    """The settings of one correction.

    Attributes:
        alpha, num_trusted, trusted, class_balanced, batch_size, skip: as in `SAP`; `gpm` ignores alpha.
        importance: the rule for w.
        energy: share of the energy that `gpm` holds, in (0, 1).
        projection: what P is made of; all but `retain` need forget samples.
        num_forget: how many.
        forget: where they come from: the highest losses of the training split (`scored`), or verified wrong samples (`verified`).
        alpha_forget: alpha of Mf; None: that of Mr.
        side: project inputs, outputs or both. LayerOutputs of Linear and Conv2d layers only.
        keep_first, keep_last: so many layers, in the order of the network's modules, stay as they are.
        rounds: corrections one after another.
        growth: factor on both alphas from one round to the next.
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

    def __post_init__(self) -> None:
        self.base()  # checks what both have
        for name, options in (("importance", Importance), ("projection", Projection), ("forget", Forget), ("side", Side)):
            if getattr(self, name) not in get_args(options):
                raise unknown(name, getattr(self, name), get_args(options), "SAPVariant")
        if self.alpha_forget is not None:
            spectrum.check_alpha(self.alpha_forget)
        at_least("SAPVariant", 1, num_forget=self.num_forget, rounds=self.rounds)
        at_least("SAPVariant", 0, keep_first=self.keep_first, keep_last=self.keep_last)
        if not 0 < self.energy < 1:
            raise UserError(f"SAPVariant.energy is {self.energy}, but must be a share above 0 and below 1; gpm was published with 0.99")
        if not self.growth > 0:
            raise UserError(f"SAPVariant.growth is {self.growth}, but must be above 0; 1 repeats the same alpha")

    def base(self) -> SAP:
        """The fields that `SAP` has, too."""
        return SAP(**{item.name: getattr(self, item.name) for item in fields(SAP) if item.name in self.__dataclass_fields__})

    @property
    def forgets(self) -> bool:
        return self.projection != "retain"

    def needs(self) -> frozenset[Need]:
        return self.base().needs() | ({Need.FORGET} if self.forgets and self.forget == "verified" else set())

    def selects_samples(self) -> bool:
        return True

    def family(self) -> Hashable:
        """What decides the order of trust."""
        return "variant", self.base().family()

    def computation(self) -> Hashable:
        """Every setting is a computation of its own."""
        return self

    def seen_with(self) -> Hashable:
        """Settings with equal keys look at the same samples on the same sides of the unmodified network."""
        forgotten = (self.num_forget, self.forget) if self.forgets else None
        return self.num_trusted, self.class_balanced, self.skip, forgotten, self.side

    @classmethod
    def correct(cls, settings: Sequence[SAPVariant], model: nn.Module, task: Task, run: Run) -> Iterator[tuple[int, nn.Module]]:
        """See `Corrector.correct`. Shared are the scores, and what settings with equal samples and sides see in their first round.

        Raises:
            UserError: a layer that cannot be projected on the side asked for, no layer left to project, or too few samples.
            FloatingPointError: the network has diverged.
        """
        base = settings[0].base()
        pool = base.pool(task, max(setting.num_trusted for setting in settings))
        for setting in settings:
            setting.check(model, pool, task)
        with run.meter("select"):
            order = base.rank(pool, model, task, run)
        groups: dict[Hashable, list[int]] = {}
        for which, setting in enumerate(settings):
            groups.setdefault(setting.seen_with(), []).append(which)
        for users in groups.values():
            first = settings[users[0]]
            trusted, forget = first.samples(order, pool, task)
            run.report_trusted(trusted.index, users)
            if forget is not None and first.forget == "scored":
                run.report_forgotten(forget.index, users)
            spaces = look(first.side, first.batch_size, model, trusted, forget, run, users)
            for which in users:
                corrected = settings[which].applied(model, spaces, 0, run, which)
                for number in range(1, settings[which].rounds):
                    again = look(first.side, first.batch_size, corrected, trusted, forget, run, [which])
                    corrected = settings[which].applied(corrected, again, number, run, which)
                yield which, corrected

    @classmethod
    def forecast(cls, settings: Sequence[SAPVariant], sizes: Sizes) -> Passes:
        scores = SAP.forecast([settings[0].base()], sizes)
        passes = Passes(scores.forwards - settings[0].num_trusted, scores.backwards)
        looks = {setting.seen_with(): setting for setting in settings}.values()
        repeats = [setting for setting in settings for _ in range(1, setting.rounds)]
        return passes + Passes(forwards=sum(each.num_trusted + each.forgets * each.num_forget for each in (*looks, *repeats)))

    def check(self, model: nn.Module, pool: Samples, task: Task) -> None:
        """Raises UserError where network or samples cannot serve this setting."""
        self.base().check(pool, task.kind)
        layers = len(gram.init_moments(model))
        if self.side != "input":
            outputs.init_moments(model)
        if self.keep_first + self.keep_last >= layers:
            raise UserError(
                f"SAPVariant.keep_first={self.keep_first} and keep_last={self.keep_last} leave none of the network's {layers} layers "
                f"to project; keep fewer"
            )
        if self.forgets and self.forget == "scored" and self.num_trusted + self.num_forget > len(pool):
            raise UserError(
                f"SAPVariant.num_trusted={self.num_trusted} and num_forget={self.num_forget} together exceed the {len(pool)} samples of "
                f"the training split; ask for fewer"
            )

    def samples(self, order: Tensor, pool: Samples, task: Task) -> tuple[Samples, Samples | None]:
        """(trusted samples, samples to forget), the latter the other end of the same order unless verified."""
        chosen = self.base().select(order, pool.labels)
        trusted = pool.subset(chosen[: self.num_trusted])
        if not self.forgets:
            return trusted, None
        if self.forget == "verified":
            return trusted, task.verified(Need.FORGET, self.num_forget)
        return trusted, pool.subset(chosen.flip(0)[: self.num_forget])

    def applied(self, model: nn.Module, spaces: ActivationBases, number: int, run: Run, which: int) -> nn.Module:
        """A corrected copy of `model`, in round `number` (from 0)."""
        alphas = _Alphas(self.alpha, self.alpha_forget).times(self.growth**number)
        names = list(gram.init_moments(model))
        weights: dict[str, Tensor] = {}
        biases: dict[str, Tensor] = {}
        with run.meter("build", [which]):
            for name in names[self.keep_first : len(names) - self.keep_last]:
                site = weight_sites(model)[name]
                weights[name] = project.as_matrix(site.weight, site.layout)
                if self.side != "output":  # W P^T
                    weights[name] = self.projected(weights[name], spaces.of(name, "input"), alphas, transposed=True)
                if self.side != "input":  # P^T W and P^T b, as rows times P
                    seen = spaces.of(name, "output")
                    weights[name] = self.projected(weights[name].mT, seen, alphas, transposed=False).mT
                    if (bias := getattr(model.get_submodule(site.layer), "bias", None)) is not None:
                        rows_K1O = bias.detach().to(torch.float64).reshape(len(weights[name]), 1, -1)
                        biases[name] = self.projected(rows_K1O, seen, alphas, transposed=False)
            run.meter.count(flops=sum(4.0 * each.numel() * each.shape[-1] for each in weights.values()))
            return _with_biases(project.with_weights(model, weights), biases)

    def projected(self, rows_KMD: Tensor, seen: LayerBases, alphas: _Alphas, transposed: bool) -> Tensor:
        """`rows` P^T, or `rows` P."""

        def mr(rows_KMD: Tensor) -> Tensor:
            return self.times(rows_KMD, seen.retain, alphas.retain)

        def mf(rows_KMD: Tensor) -> Tensor:
            assert seen.forget is not None
            return self.times(rows_KMD, seen.forget, alphas.forget)

        if self.projection == "retain":
            return mr(rows_KMD)
        if self.projection == "not_forget":
            return rows_KMD - mf(rows_KMD)
        if self.projection == "retain_not_forget":
            return mr(rows_KMD) - (mr(mf(rows_KMD)) if transposed else mf(mr(rows_KMD)))
        return rows_KMD - mf(rows_KMD) + (mf(mr(rows_KMD)) if transposed else mr(mf(rows_KMD)))

    def times(self, rows_KMD: Tensor, basis: spectrum.Basis, alpha: float) -> Tensor:
        """`rows` M, without forming M."""
        w_KQ = self.weights(basis.energy, alpha)
        if basis.dual:  # its directions have length sqrt(r)
            w_KQ = w_KQ / basis.energy.where(w_KQ > 0, 1.0)
        return (rows_KMD @ basis.directions.mT * w_KQ.unsqueeze(-2)) @ basis.directions

    def weights(self, energy_KQ: Tensor, alpha: float) -> Tensor:
        """(K, Q) w by the rule; 0 for directions without energy."""
        largest_K1 = energy_KQ.amax(-1, keepdim=True)
        if self.importance == "gpm":
            falling, order = energy_KQ.sort(-1, descending=True)
            held_before = falling.cumsum(-1) - falling
            w_KQ = torch.zeros_like(energy_KQ).scatter(-1, order, (held_before < self.energy * energy_KQ.sum(-1, keepdim=True)).double())
        else:
            scaled = (energy_KQ / largest_K1.clamp(min=torch.finfo(torch.float64).tiny)).sqrt()
            w_KQ = spectrum.importance(energy_KQ if self.importance == "sap" else scaled, alpha)
        return w_KQ * (energy_KQ > _NOTHING * largest_K1)


@dataclass(frozen=True)
class _Alphas:
    """Of Mr and of Mf."""

    retain: float
    own: float | None

    @property
    def forget(self) -> float:
        return self.retain if self.own is None else self.own

    def times(self, factor: float) -> _Alphas:
        return _Alphas(self.retain * factor, None if self.own is None else self.own * factor)


def _with_biases(model: nn.Module, biases: Mapping[str, Tensor]) -> nn.Module:
    """`model`, its named biases set."""
    with torch.no_grad():
        for name, bias in biases.items():
            target = model.get_parameter(f"{name}.bias" if name else "bias")
            target.copy_(bias.reshape(target.shape))
    return model

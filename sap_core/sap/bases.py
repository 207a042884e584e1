"""What trusted samples and samples to forget excite in every layer, on the side of inputs, of outputs or both, decomposed.

The plain way, for `variants`: one pass over each set, every column counted, one basis per layer and side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from sap_core.api import Run, Samples
from sap_core.sap import gram, project
from sap_core.sap import output_moments as outputs
from sap_core.sap.spectrum import Basis

Side = Literal["input", "output", "both"]
Bases = Mapping[str, Mapping[str, Basis]]
"""side -> layer -> basis."""


@dataclass(frozen=True)
class Seen:
    """One layer on one side: what trusted samples excite, and what those to forget do."""

    retain: Basis
    forget: Basis | None


@dataclass(frozen=True)
class Spaces:
    """Every layer on every side that was looked at."""

    retain: Bases
    forget: Bases | None

    def of(self, layer: str, side: str) -> Seen:
        return Seen(self.retain[side][layer], None if self.forget is None else self.forget[side][layer])


def look(side: Side, batch_size: int, model: nn.Module, trusted: Samples, forget: Samples | None, run: Run, users: Sequence[int]) -> Spaces:
    """Books the passes as `collect` and the decompositions as `factor`, for the settings `users`.

    Raises:
        UserError: see `gram.validate` and `outputs.unseen`.
        FloatingPointError: something seen is not finite: the network has diverged.
    """
    retain = _bases(side, batch_size, model, trusted, run, users)
    return Spaces(retain, None if forget is None else _bases(side, batch_size, model, forget, run, users))


def _bases(side: Side, batch_size: int, model: nn.Module, samples: Samples, run: Run, users: Sequence[int]) -> Bases:
    with run.meter("collect", users):
        ins = gram.validate(model) if side != "output" else {}
        outs = outputs.unseen(model) if side != "input" else {}
        for batch in samples.batches(batch_size):
            with outputs.watching(model, outs) as seen:
                ins = gram.observe(model, ins, batch.inputs)
            outs = seen
            run.meter.count(forwards=len(batch.labels))
        for moments in filter(None, (ins, outs)):
            gram.check_finite(moments)
            run.meter.count(flops=gram.total_flops(moments))
    with run.meter("factor", users):
        made = {id(each): project.basis_of(each) for each in {id(each): each for each in (*ins.values(), *outs.values())}.values()}
        run.meter.count(flops=sum(map(project.basis_flops, made.values())))
    return {
        "input": {name: made[id(each)] for name, each in ins.items()},
        "output": {name: made[id(each)] for name, each in outs.items()},
    }

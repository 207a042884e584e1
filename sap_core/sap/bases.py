"""Bases of the activation spaces of trusted and forget samples, for inputs, outputs or both sides of every layer.

Used by `variants`; unlike `sap` it shares no work between sizes: one pass over each set, and one basis per layer and side.
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
from sap_core.sap.weights import Sites

Side = Literal["input", "output", "both"]
Bases = Mapping[str, Mapping[str, Basis]]
"""side -> name of the weight -> basis."""


@dataclass(frozen=True)
class LayerBases:
    """Bases of one side of a layer: of trusted samples, and of forget samples if there are any."""

    retain: Basis
    forget: Basis | None


@dataclass(frozen=True)
class ActivationBases:
    """Bases of all layers, on the requested sides."""

    retain: Bases
    forget: Bases | None

    def of(self, layer: str, side: str) -> LayerBases:
        """Return the bases of one layer on one side, "input" or "output"."""
        return LayerBases(self.retain[side][layer], None if self.forget is None else self.forget[side][layer])


def collect_bases(
    side: Side, batch_size: int, model: nn.Module, sites: Sites, trusted: Samples, forget: Samples | None, run: Run, users: Sequence[int]
) -> ActivationBases:
    """Compute the bases of every layer. Passes are recorded as `collect` and decompositions as `factor`, for the settings `users`.

    Raises:
        UserError: see `output_moments.init_moments`, or a weight got no input.
        FloatingPointError: an activation is not finite, so the network has diverged.
    """
    # Two passes, one per set: unlike SAP's family this code serves one setting's samples at a time.
    retain = _bases(side, batch_size, model, sites, trusted, run, users)
    return ActivationBases(retain, None if forget is None else _bases(side, batch_size, model, sites, forget, run, users))


def _bases(side: Side, batch_size: int, model: nn.Module, sites: Sites, samples: Samples, run: Run, users: Sequence[int]) -> Bases:
    # One pass per set of samples serves both sides: pre-hooks see the inputs, hooks the outputs.
    with run.meter("collect", users):
        ins = gram.init_moments(sites) if side != "output" else {}
        outs = outputs.init_moments(model, sites) if side != "input" else {}
        for batch in samples.batches(batch_size):
            with outputs.recording_outputs(model, sites, outs) as updated:
                # `observe` makes the forward pass; the surrounding block records its outputs on the way.
                ins = gram.observe(model, sites, ins, batch.inputs)
            outs = updated
            run.meter.count(forwards=len(batch.labels))
        # A side that was not asked for is empty.
        for moments in filter(None, (ins, outs)):
            gram.check_finite(moments)
            run.meter.count(flops=gram.total_flops(moments))
    with run.meter("factor", users):
        # By identity: layers with a common input share one decomposition.
        bases = {id(each): project.decompose(each) for each in {id(each): each for each in (*ins.values(), *outs.values())}.values()}
        run.meter.count(flops=sum(map(project.decomposition_flops, bases.values())))
    return {
        "input": {name: bases[id(each)] for name, each in ins.items()},
        "output": {name: bases[id(each)] for name, each in outs.items()},
    }

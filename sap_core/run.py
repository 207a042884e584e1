"""A `Run` without a platform, for library use, tests and notebooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from sap_core.api import State
from sap_core.cost import CostMeter


class PlainRun:
    """Keeps everything that a method reports in memory; never stores a checkpoint and never stops.

    Args:
        settings: number of settings in the family.
        resume: state that `saved_state` returns.
    """

    def __init__(self, settings: int = 1, resume: State | None = None) -> None:
        self.meter = CostMeter(settings)
        self.curve: list[dict[str, float]] = []
        self.trusted_sets: dict[int, Tensor] = {}
        self.forgotten_sets: dict[int, Tensor] = {}
        self.observations: dict[tuple[str, int], dict[int, float]] = {}
        self._resume = resume

    def saved_state(self) -> State | None:
        return self._resume

    def end_epoch(self, number: int, model: nn.Module, state: Callable[[], State], kept: Tensor | None = None, **scalars: float) -> None:
        # `state` is not called: it may copy all weights, and nothing would store them.
        self.curve.append({"epoch": number, **({} if kept is None else {"num_kept": len(kept)}), **scalars})

    def report_trusted(self, index: Tensor, used_by: Sequence[int] | None = None) -> None:
        for which in range(self.meter.settings) if used_by is None else used_by:
            self.trusted_sets[which] = index

    def report_forgotten(self, index: Tensor, used_by: Sequence[int] | None = None) -> None:
        for which in range(self.meter.settings) if used_by is None else used_by:
            self.forgotten_sets[which] = index

    def report_series(self, name: str, values: Mapping[int, float], used_by: Sequence[int] | None = None) -> None:
        # A series of shared work is stored with its first user, as by the platform.
        self.observations[name, 0 if used_by is None else used_by[0]] = dict(values)

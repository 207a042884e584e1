"""The platform's side of a running job: curve, checkpoints, stop requests."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from torch import Tensor, nn

from sap_core.api import State, Stopped
from sap_core.checkpoint import load_state, save_state
from sap_core.cost import CostMeter, CostRecord
from sap_core.records import Point

CHECKPOINT_SECONDS = 30.0

Precision = Callable[[Tensor], float | None]
"""Share of right given labels among samples at universe positions."""


class JobRun:
    """A `Run` that stores its state in the file `last`, beside the artifact to come; without one, what is stopped begins again."""

    def __init__(
        self,
        meter: CostMeter,
        last: Path | None,
        stop: Callable[[], bool] = lambda: False,
        note: Callable[[str], None] = lambda line: None,
        precision: Precision | None = None,
    ) -> None:
        self.meter = meter
        self.points: list[tuple[str, int, float]] = []
        self.trusted_sets: dict[int, Tensor] = {}
        self.forgotten_sets: dict[int, Tensor] = {}
        self.observations: list[tuple[int, str, int, float]] = []  # (setting, name, step, value)
        self._last = last
        self._stop = stop
        self._note = note
        self._precision = precision
        self._stored_at = time.monotonic()
        self._every = float(os.environ.get("SAP_SWEEP_CHECKPOINT_SECONDS", CHECKPOINT_SECONDS))

    def saved_state(self) -> State | None:
        if self._last is None or not self._last.exists():
            return None
        stored = load_state(self._last)
        self.points = [(name, step, value) for name, step, value in json.loads(stored["curve"])]
        self.meter.records += [CostRecord(phase, tuple(users), *amounts) for phase, users, *amounts in json.loads(stored["spent"])]
        self._note(f"continues at epoch {int(stored['number']) + 1}")
        state: State = stored["state"]
        return state

    def end_epoch(self, number: int, model: nn.Module, state: Callable[[], State], kept: Tensor | None = None, **scalars: float) -> None:
        values = dict(scalars)
        if kept is not None:
            values["num_kept"] = len(kept)
            precision = self._precision(kept) if self._precision else None
            if precision is not None:
                values["kept_label_precision"] = precision
        self.points += [(name, number, float(value)) for name, value in values.items()]
        told = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        self._note(f"epoch {number}{': ' if told else ''}{told}")
        stop = self._stop()
        if self._last is not None and (stop or time.monotonic() - self._stored_at >= self._every):
            self._store(self._last, number, state())
        if stop:
            goes_on = "continues there" if self._last is not None else "runs this job again"
            raise Stopped(f"stopped after epoch {number}; the next start {goes_on}")

    def report_trusted(self, index: Tensor, used_by: Sequence[int] | None = None) -> None:
        for which in range(self.meter.settings) if used_by is None else used_by:
            self.trusted_sets[which] = index

    def report_forgotten(self, index: Tensor, used_by: Sequence[int] | None = None) -> None:
        for which in range(self.meter.settings) if used_by is None else used_by:
            self.forgotten_sets[which] = index

    def report_series(self, name: str, values: Mapping[int, float], used_by: Sequence[int] | None = None) -> None:
        which = 0 if used_by is None else used_by[0]
        self.observations += [(which, name, step, float(value)) for step, value in values.items()]

    def check_stop(self) -> None:
        """For work without epochs: raises Stopped when a stop was asked for."""
        if self._stop():
            raise Stopped("stopped; the next start runs this job again")

    def forget_checkpoint(self) -> None:
        """The artifact is there: the way to it is no longer needed."""
        if self._last is not None:
            with suppress(FileNotFoundError):
                self._last.unlink()

    def curve(self) -> list[tuple[str, int, float]]:
        """(name, step, value), sorted, so that a resumed run writes what the uninterrupted one does."""
        return sorted(self.points)

    def series(self, job_id: str, run_id: str) -> list[Point]:
        return [Point(job_id, run_id, name, step, value) for name, step, value in self.curve()]

    def _store(self, path: Path, number: int, state: State) -> None:
        books = {"curve": json.dumps(self.points), "spent": json.dumps(self._spent())}
        save_state(path, {"number": number, "state": state, **books})
        self._note(f"checkpoint stored after epoch {number}")
        self._stored_at = time.monotonic()

    def _spent(self) -> list[list[object]]:
        """What was booked so far, one line per phase and users: a resumed run costs what the uninterrupted one does."""
        sums: dict[tuple[str, tuple[int, ...]], list[float]] = {}
        for piece in self.meter.records:
            amounts = sums.setdefault((piece.phase, piece.used_by), [0.0, 0, 0, 0.0])
            for slot, amount in enumerate((piece.seconds, piece.forwards, piece.backwards, piece.flops)):
                amounts[slot] += amount
        return [[phase, list(users), *amounts] for (phase, users), amounts in sums.items()]

"""The platform's implementation of `Run`: learning curves, checkpoints, stop requests, and the reports of methods."""

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
from sap_core.errors import DamagedFile
from sap_core.records import Point

# Short epochs would otherwise spend their time on writing checkpoints. A longer interval would lose more work to a kill.
CHECKPOINT_SECONDS = 30.0
"""Default of the shortest time between two checkpoints (SAP_SWEEP_CHECKPOINT_SECONDS); a kill loses about as much work."""

LabelPrecision = Callable[[Tensor], float | None]
"""The share of correct given labels among samples, given their indices in the training universe."""


class JobRun:
    """A `Run` that stores checkpoints.

    Args:
        meter: records the cost.
        checkpoint: file of the checkpoint, next to the artifact; None: an interrupted job starts over.
        stop: returns True when the job is to stop.
        log: receives one line per event.
        precision: computes the curve `kept_label_precision` from the samples that a trainer keeps.
        owner: id of the job, or of the one run, whose state the checkpoint is; "": not compared.
    """

    def __init__(
        self,
        meter: CostMeter,
        checkpoint: Path | None,
        stop: Callable[[], bool] = lambda: False,
        log: Callable[[str], None] = lambda line: None,
        precision: LabelPrecision | None = None,
        owner: str = "",
    ) -> None:
        self.meter = meter
        self.points: list[tuple[str, int, float]] = []
        self.trusted_sets: dict[int, Tensor] = {}
        self.forgotten_sets: dict[int, Tensor] = {}
        self.observations: list[tuple[int, str, int, float]] = []  # (setting, name, step, value)
        self._checkpoint = checkpoint
        self._stop = stop
        self._log = log
        self._precision = precision
        self._owner = owner
        # A monotonic clock, because a correction of the wall clock must neither delay nor repeat checkpoints.
        self._stored_at = time.monotonic()
        self._interval = float(os.environ.get("SAP_SWEEP_CHECKPOINT_SECONDS", CHECKPOINT_SECONDS))

    def saved_state(self) -> State | None:
        """The state of the checkpoint; also restores the curve and the cost recorded so far. None if it is missing or damaged."""
        if self._checkpoint is None or not self._checkpoint.exists():
            return None
        try:
            stored = load_state(self._checkpoint)
            # The state of another seed would continue as well, and give the network of no seed. Earlier versions stored no owner.
            if (owner := stored.get("owner", self._owner)) != self._owner:
                raise ValueError(f"{self._checkpoint} is the state of {owner}")
            # Curve and cost continue where they were, so that a resumed run reports the same as an uninterrupted one.
            points = [(str(name), int(step), float(value)) for name, step, value in json.loads(stored["curve"])]
            records = [CostRecord(phase, tuple(users), *amounts) for phase, users, *amounts in json.loads(stored["spent"])]
        except (DamagedFile, ValueError, KeyError, TypeError) as error:
            # Nothing is lost but time: the computation starts over and reports the same.
            self._log(f"{error}; the computation starts from its beginning")
            self.delete_checkpoint()
            return None
        self.points = points
        self.meter.records += records
        self._log(f"resumes at epoch {int(stored['number']) + 1}")
        state: State = stored["state"]
        return state

    def end_epoch(self, number: int, model: nn.Module, state: Callable[[], State], kept: Tensor | None = None, **scalars: float) -> None:
        """Record the curve of an epoch; store a checkpoint when one is due.

        Raises:
            Stopped: the job was asked to stop. A checkpoint was stored, unless the lease of the job is lost.
        """
        values = dict(scalars)
        if kept is not None:
            values["num_kept"] = len(kept)
            precision = self._precision(kept) if self._precision else None
            if precision is not None:
                values["kept_label_precision"] = precision
        # The curve is part of the checkpoint, so it is extended before the checkpoint is stored.
        self.points += [(name, number, float(value)) for name, value in values.items()]
        text = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        self._log(f"epoch {number}{': ' if text else ''}{text}")
        # Raises if the lease is lost, before the checkpoint of the new owner could be overwritten.
        stop = self._stop()
        # A stop stores in any case: the interval since the last checkpoint would be lost otherwise.
        if self._checkpoint is not None and (stop or time.monotonic() - self._stored_at >= self._interval):
            # `state` is a function, because copying weights and optimiser state is wasted in epochs that store nothing.
            self._store(self._checkpoint, number, state())
        if stop:
            continuation = "resumes from there" if self._checkpoint is not None else "reruns this job"
            raise Stopped(f"stopped after epoch {number}; the next start {continuation}")

    def report_trusted(self, index: Tensor, used_by: Sequence[int] | None = None) -> None:
        """Record the samples that the settings `used_by` (None: all) trust."""
        for which in range(self.meter.settings) if used_by is None else used_by:
            self.trusted_sets[which] = index

    def report_forgotten(self, index: Tensor, used_by: Sequence[int] | None = None) -> None:
        """Record the samples that the settings `used_by` (None: all) forget."""
        for which in range(self.meter.settings) if used_by is None else used_by:
            self.forgotten_sets[which] = index

    def report_series(self, name: str, values: Mapping[int, float], used_by: Sequence[int] | None = None) -> None:
        """Record the series `name`, step -> value, for the first of the settings `used_by`."""
        # A series of a family is stored once, in the row of its first setting, and not as many copies as there are settings.
        which = 0 if used_by is None else used_by[0]
        self.observations += [(which, name, step, float(value)) for step, value in values.items()]

    def check_stop(self) -> None:
        """For work without epochs.

        Raises:
            Stopped: the job was asked to stop.
        """
        if self._stop():
            raise Stopped("stopped; the next start reruns this job")

    def delete_checkpoint(self) -> None:
        """Delete the checkpoint, once the artifact is complete."""
        if self._checkpoint is not None:
            # A job shorter than the interval never stored one.
            with suppress(FileNotFoundError):
                self._checkpoint.unlink()

    def curve(self) -> list[tuple[str, int, float]]:
        """(name, step, value), sorted, so that a resumed run writes the same as an uninterrupted one."""
        # Sorted rather than in order of arrival: after a resume, an epoch's points may come in another order than without it.
        return sorted(self.points)

    def series(self, job_id: str, run_id: str) -> list[Point]:
        """The curve as points of the run `run_id`."""
        return [Point(job_id, run_id, name, step, value) for name, step, value in self.curve()]

    def _store(self, path: Path, number: int, state: State) -> None:
        # As JSON text: safetensors stores tensors, and these are lists of names and numbers that must be read without running code.
        records = {"curve": json.dumps(self.points), "spent": json.dumps(self._spent())}
        save_state(path, {"number": number, "owner": self._owner, "state": state, **records})
        self._log(f"checkpoint stored after epoch {number}")
        self._stored_at = time.monotonic()

    def _spent(self) -> list[list[object]]:
        """The recorded cost, summed by phase and users, so that a resumed run costs the same as an uninterrupted one."""
        sums: dict[tuple[str, tuple[int, ...]], list[float]] = {}
        for record in self.meter.records:
            # Summed, because the list of records grows with every mini-batch while the number of phases does not.
            amounts = sums.setdefault((record.phase, record.used_by), [0.0, 0, 0, 0.0])
            for slot, amount in enumerate((record.seconds, record.forwards, record.backwards, record.flops)):
                amounts[slot] += amount
        return [[phase, list(users), *amounts] for (phase, users), amounts in sums.items()]

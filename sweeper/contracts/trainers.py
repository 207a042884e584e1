"""Contract checks of trainers, on a small task."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from sap_core.api import Fitted, Task, Trainer
from sap_core.cost import tuning
from sap_core.models.ensemble import Ensemble
from sap_core.run import PlainRun
from sweeper.contracts import toys
from sweeper.contracts.common import (
    Check,
    CheckFailed,
    check_component,
    finite,
    forecast_text,
    global_randomness,
    refuse,
    same_bits,
    same_samples,
    same_shapes,
    sizes_of,
    state_when_stopped,
)  # fmt: skip

R = TypeVar("R", bound=PlainRun)


@dataclass(frozen=True, eq=False)
class TrainerCase:
    """A trainer, on one task. Every run gets a copy of the task."""

    trainer: Trainer
    task: Task

    @cached_property
    def first(self) -> tuple[Fitted | None, toys.StoringRun]:
        """The fit (None if the trainer raised FloatingPointError), and its run."""
        return self.fit(toys.StoringRun())

    def fit(self, run: R, task: Task | None = None) -> tuple[Fitted | None, R]:
        """Trains once, without access to verified samples, on `task` or on a copy of the case's."""
        task = task or toys.copy_of(self.task)
        try:
            # Baselines are trained from given labels alone; reading verified samples fails the check.
            return self.trainer.fit(replace(task, declared=frozenset(), verified_source=refuse), run), run
        except FloatingPointError:
            return None, run


def _has_the_interface(case: TrainerCase) -> None:
    check_component(case.trainer, Trainer)


def _trains_the_tasks_networks(case: TrainerCase) -> str | None:
    fitted, _ = case.first
    if fitted is None:
        return "it diverged"
    # A trainer of several networks may return them all, for pruners that read an ensemble.
    nets = list(fitted.model.nets) if isinstance(fitted.model, Ensemble) else [fitted.model]
    wanted = toys.weights(case.task.build(0))
    for net in nets:
        same_shapes(wanted, toys.weights(net), "the trained network")
        if not finite(toys.weights(net)):
            return "it diverged"
    for name, table in fitted.per_sample.items():
        if len(table) != case.task.train.universe:
            raise CheckFailed(f"per_sample['{name}'] has {len(table)} entries; the universe has {case.task.train.universe} samples")
    return None


def _modifies_no_input(case: TrainerCase) -> None:
    task = toys.copy_of(case.task)
    with global_randomness("fit()"):
        case.fit(PlainRun(), task)
    # Compared with the case's own, which no run has seen: a repeated change would not show between two runs on one task.
    same_samples(case.task, task)


def _is_deterministic(case: TrainerCase) -> None:
    _same_fits(case.first[0], case.fit(toys.StoringRun())[0], "weights that differ when it is rerun")


def _records_its_work(case: TrainerCase) -> str | None:
    fitted, run = case.first
    recorded, forecast = toys.passes(run), case.trainer.forecast(sizes_of(case.task))
    # A trainer that loads a checkpoint.
    if forecast.forwards == 0 and recorded == (0, 0):
        return "it trains nothing"
    if not all(tuning(cost.shared).seconds > 0 for cost in run.meter.costs()) or not recorded[0] > 0:
        raise CheckFailed(
            "no seconds or no passes are recorded; train inside `with run.meter(...)` and call run.meter.count(forwards=..., backwards=...)"
        )
    return "it diverged" if fitted is None else None


def _forecast_is_bound(case: TrainerCase) -> str | None:
    fitted, run = case.first
    forecast, recorded = case.trainer.forecast(sizes_of(case.task)), toys.passes(run)
    # Early stopping makes a training shorter than forecast, never longer.
    if recorded[0] > forecast.forwards or recorded[1] > forecast.backwards:
        raise CheckFailed(forecast_text("fit()", (forecast.forwards, forecast.backwards), recorded))
    if fitted is not None and recorded != (forecast.forwards, forecast.backwards):
        return f"{recorded[0]} forwards and {recorded[1]} backwards of at most {forecast.forwards} and {forecast.backwards}"
    return None


def _resumes(case: TrainerCase) -> str | None:
    complete, reference = case.first
    epochs = len(reference.curve)
    if not epochs:
        return "it has no epochs"
    # After the first epoch, and in the middle, where schedules and warm-ups have changed.
    for after in sorted({1, max(1, epochs // 2)}):
        stored = state_when_stopped(case.fit, first := toys.StoringRun(after))
        if stored is None:
            raise CheckFailed(f"it did not stop after epoch {after} when it was asked to")
        resumed, second = case.fit(toys.StoringRun(resume=stored))
        _same_fits(complete, resumed, f"weights that differ when it was stopped after epoch {after} and resumed")
        # The curve is stored with the rows, so an interrupted job must report it as an uninterrupted one does.
        if first.curve + second.curve != reference.curve:
            raise CheckFailed(f"the curve differs when it was stopped after epoch {after} and resumed")
    _resumes_within_an_epoch(case, complete)
    return None


def _resumes_within_an_epoch(case: TrainerCase, complete: Fitted | None) -> None:
    # The state of the first epoch is stored, and the second one breaks off.
    run = toys.StoringRun()
    try:
        case.fit(run, toys.breaking(toys.copy_of(case.task), 2))
    # Interrupted between two stored states: the training must repeat the epoch from its start, with the same batches.
    except ConnectionError:
        resumed, _ = case.fit(toys.StoringRun(resume=run.stored))
        _same_fits(complete, resumed, "weights that differ when it was interrupted within an epoch and resumed")


TRAINER_CHECKS: tuple[Check[TrainerCase], ...] = (
    Check("it is a frozen dataclass with the interface of a trainer", _has_the_interface),
    Check("it trains the task's networks, and its tables have one entry per sample", _trains_the_tasks_networks),
    Check("it does not modify the given samples, nor torch's global generator", _modifies_no_input),
    Check("the same seed gives the same weights", _is_deterministic),
    Check("it records seconds and passes", _records_its_work),
    Check("it records at most the passes of forecast()", _forecast_is_bound),
    Check("it gives the same weights and curve when resumed", _resumes),
)


def _same_fits(one: Fitted | None, other: Fitted | None, text: str) -> None:
    if (one is None) != (other is None):
        raise CheckFailed(f"it diverges in one of two runs: {text}")
    if one is not None and other is not None:
        same_bits(toys.weights(one.model), toys.weights(other.model), f"the network has {text}")
        same_bits(one.per_sample, other.per_sample, f"per_sample has {text}")

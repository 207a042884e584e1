"""What every trainer promises, on a small task. See `sweeper.contracts.common`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import torch

from sap_core.api import Fitted, Task, Trainer
from sap_core.cost import tuning
from sap_core.models.ensemble import Ensemble
from sap_core.run import PlainRun
from sweeper.contracts import toys
from sweeper.contracts.common import (
    CheckFailed,
    Promise,
    check_component,
    finite,
    forecast_text,
    global_randomness,
    refuse,
    same_bits,
    same_shapes,
    sizes_of,
    stopped,
)  # fmt: skip

R = TypeVar("R", bound=PlainRun)


@dataclass(frozen=True, eq=False)
class TrainerCase:
    """A trainer, on one task."""

    trainer: Trainer
    task: Task

    @cached_property
    def first(self) -> tuple[Fitted | None, toys.StoringRun]:
        """What it fits (None when it says that it diverged), and its run."""
        return self.fit(toys.StoringRun())

    def fit(self, run: R, task: Task | None = None) -> tuple[Fitted | None, R]:
        """Trains once, told the given labels and nothing else."""
        try:
            return self.trainer.fit(replace(task or self.task, declared=frozenset(), verified_source=refuse), run), run
        except FloatingPointError:
            return None, run


def _trainer_is_a_part(case: TrainerCase) -> None:
    check_component(case.trainer, Trainer)


def _trains_what_the_task_builds(case: TrainerCase) -> str | None:
    fitted, _ = case.first
    if fitted is None:
        return "it diverged"
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


def _trainer_leaves_alone(case: TrainerCase) -> None:
    labels, index = case.task.train.labels.clone(), case.task.train.index.clone()
    with global_randomness("fit()"):
        case.fit(PlainRun())
    if not torch.equal(labels, case.task.train.labels) or not torch.equal(index, case.task.train.index):
        raise CheckFailed("the given labels or positions were changed in place")


def _trains_twice_alike(case: TrainerCase) -> None:
    _same_fits(case.first[0], case.fit(toys.StoringRun())[0], "other bits when it is run again")


def _trainer_books(case: TrainerCase) -> str | None:
    fitted, run = case.first
    booked, forecast = toys.passes(run), case.trainer.forecast(sizes_of(case.task))
    if forecast.forwards == 0 and booked == (0, 0):
        return "it trains nothing"
    if not all(tuning(cost.shared).seconds > 0 for cost in run.meter.costs()) or not booked[0] > 0:
        raise CheckFailed(
            "no seconds or no passes are booked; work inside run.meter(...) and say run.meter.count(forwards=..., backwards=...)"
        )
    return "it diverged" if fitted is None else None


def _trainer_forecasts(case: TrainerCase) -> str | None:
    fitted, run = case.first
    forecast, booked = case.trainer.forecast(sizes_of(case.task)), toys.passes(run)
    if booked[0] > forecast.forwards or booked[1] > forecast.backwards:
        raise CheckFailed(forecast_text("fit()", (forecast.forwards, forecast.backwards), booked))
    if fitted is not None and booked != (forecast.forwards, forecast.backwards):
        return f"{booked[0]} forwards and {booked[1]} backwards of at most {forecast.forwards} and {forecast.backwards}"
    return None


def _trainer_resumes(case: TrainerCase) -> str | None:
    whole, reference = case.first
    epochs = len(reference.curve)
    if not epochs:
        return "it has no epochs to be stopped after"
    for after in sorted({1, max(1, epochs // 2)}):
        stored = stopped(case.fit, first := toys.StoringRun(after))
        if stored is None:
            raise CheckFailed(f"asked to stop after epoch {after} it went on")
        resumed, second = case.fit(toys.StoringRun(resume=stored))
        _same_fits(whole, resumed, f"other bits when it was stopped after epoch {after} and resumed")
        if first.curve + second.curve != reference.curve:
            raise CheckFailed(f"the curve differs when it was stopped after epoch {after} and resumed")
    _resumes_within_an_epoch(case, whole)
    return None


def _resumes_within_an_epoch(case: TrainerCase, whole: Fitted | None) -> None:
    run = toys.StoringRun()
    try:
        case.fit(run, toys.breaking(case.task, 2))
    except ConnectionError:
        resumed, _ = case.fit(toys.StoringRun(resume=run.stored))
        _same_fits(whole, resumed, "other bits when it broke off within an epoch and was resumed")


TRAINER: tuple[Promise[TrainerCase], ...] = (
    Promise("it is a frozen dataclass that offers what a trainer must", _trainer_is_a_part),
    Promise("it trains the networks that the task builds, and its tables have a line per sample", _trains_what_the_task_builds),
    Promise("the given labels and global randomness are left alone", _trainer_leaves_alone),
    Promise("the same seed gives the same weights", _trains_twice_alike),
    Promise("seconds and passes are booked", _trainer_books),
    Promise("no more passes are booked than forecast() says", _trainer_forecasts),
    Promise("stopped and resumed it gives the same weights and curve", _trainer_resumes),
)


def _same_fits(one: Fitted | None, other: Fitted | None, text: str) -> None:
    if (one is None) != (other is None):
        raise CheckFailed(f"it diverges once and not the other time: {text}")
    if one is not None and other is not None:
        same_bits(toys.weights(one.model), toys.weights(other.model), f"the network has {text}")
        same_bits(one.per_sample, other.per_sample, f"per_sample has {text}")

"""What every corrector promises, on families of settings and a small network. See `sweeper.contracts.common`."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from sap_core.api import Corrector, ForecastsUpperBound, Need, SelectsSamples, Task, UndeclaredNeed
from sap_core.cost import tuning
from sap_core.run import PlainRun
from sweeper.contracts import toys
from sweeper.contracts.common import (
    CheckFailed,
    Promise,
    Weights,
    check_component,
    finite,
    forecast_text,
    global_randomness,
    named,
    same_bits,
    same_shapes,
    sizes_of,
    stopped,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class CorrectorCase:
    """Families of settings of one corrector, on one network."""

    families: tuple[tuple[Corrector, ...], ...]
    model: nn.Module
    task: Task

    @cached_property
    def first(self) -> list[tuple[dict[int, Weights] | None, PlainRun]]:
        """The result of each family: position -> weights (None when the method reports that it diverged), and its run."""
        return [self.run(settings) for settings in self.families]

    def forward_calls(self, setting: Corrector) -> int:
        """How many times a setting alone calls a module with parameters, whatever it records in its meter."""
        with toys.counted_calls() as calls:
            self.run([setting])
        return len(calls)

    def run(self, settings: Sequence[Corrector], run: PlainRun | None = None) -> tuple[dict[int, Weights] | None, PlainRun]:
        """Runs one family with the verified samples that it declares."""
        run = run or PlainRun(len(settings))
        needs: frozenset[Need] = frozenset().union(*(setting.needs() for setting in settings))
        found: dict[int, Weights] = {}
        try:
            for position, net in type(settings[0]).correct(settings, self.model, self.task.allow(needs), run):
                if position in found:
                    raise CheckFailed(f"setting {position} of {named(settings[0])} is yielded twice")
                found[position] = toys.weights(net)
        except FloatingPointError:
            return None, run
        return found, run


def _corrector_is_a_part(case: CorrectorCase) -> None:
    for setting in itertools.chain(*case.families):
        check_component(setting, Corrector)
        needs = setting.needs()
        if not isinstance(needs, frozenset) or not all(isinstance(need, Need) for need in needs):
            raise CheckFailed(f"needs() of {named(setting)} gives {needs!r}; it must be a frozenset of sap_core.api.Need")


def _every_setting_once(case: CorrectorCase) -> str | None:
    diverged = 0
    for settings, (found, _) in zip(case.families, case.first, strict=True):
        diverged += found is None
        if found is not None and sorted(found) != list(range(len(settings))):
            raise CheckFailed(f"a family of {len(settings)} settings yields the positions {sorted(found)} ({named(settings[0])})")
    return _diverged(diverged, len(case.families), "family", "families")


def _model_is_left_alone(case: CorrectorCase) -> None:
    before, training = toys.weights(case.model), case.model.training
    labels = case.task.train.labels.clone()
    for settings in case.families:
        with global_randomness(named(settings[0])):
            case.run(settings)
        same_bits(before, toys.weights(case.model), "the network that it was given was changed")
        if case.model.training != training:
            raise CheckFailed(f"the network that it was given was left in {'training' if case.model.training else 'evaluation'} mode")
        if not torch.equal(labels, case.task.train.labels):
            raise CheckFailed("the given labels were changed in place")


def _same_names_and_shapes(case: CorrectorCase) -> None:
    before = toys.weights(case.model)
    for settings, (found, _) in zip(case.families, case.first, strict=True):
        for position, weights in (found or {}).items():
            same_shapes(before, weights, named(settings[position]))


def _finite_or_diverged(case: CorrectorCase) -> str | None:
    diverged = 0
    inputs = next(iter(case.task.val.batches(len(case.task.val)))).inputs
    probe = copy.deepcopy(case.model)
    for settings, (found, _) in zip(case.families, case.first, strict=True):
        for position in range(len(settings)):
            weights = None if found is None else found.get(position)
            if weights is None or not finite(weights):
                diverged += 1
                continue
            probe.load_state_dict(weights)
            with torch.no_grad():
                if not bool(probe.eval()(inputs).isfinite().all()):
                    raise CheckFailed(f"{named(settings[position])} has finite weights and outputs that are not finite")
    return _diverged(diverged, sum(map(len, case.families)), "setting", "settings")


def _corrects_twice_alike(case: CorrectorCase) -> None:
    for settings, (found, _) in zip(case.families, case.first, strict=True):
        again, _ = case.run(settings)
        _same_families(found, again, settings, "has other bits when it is run again")


def _alone_as_in_its_family(case: CorrectorCase) -> None:
    settings, (found, _) = case.families[-1], case.first[-1]
    for position, setting in enumerate(settings):
        alone, _ = case.run([setting])
        together = None if found is None else {0: found[position]}
        _same_families(together, alone, [setting], "has other bits alone than in its family")


def _equal_computations(case: CorrectorCase) -> None:
    settings, (found, _) = case.families[-1], case.first[-1]
    keys = [setting.computation() for setting in settings]
    for one, other in itertools.combinations(found or {}, 2):
        if keys[one] == keys[other] and found is not None:
            text = f"{named(settings[one])} and {named(settings[other])} are called one computation but differ"
            same_bits(found[one], found[other], text)


def _declares_its_needs(case: CorrectorCase) -> None:
    for settings in case.families:
        needs = settings[0].needs()
        told = case.task.allow(frozenset())
        try:
            for _ in type(settings[0]).correct(settings, copy.deepcopy(case.model), told, PlainRun(len(settings))):
                pass
        except UndeclaredNeed as error:
            if not needs:
                raise CheckFailed(f"{named(settings[0])}: {error}") from error
            continue
        except FloatingPointError:
            continue
        if needs:
            raise CheckFailed(f"{named(settings[0])} declares {', '.join(sorted(needs))} and does without; take it out of needs()")


def _declares_its_selection(case: CorrectorCase) -> None:
    for settings, (_, run) in zip(case.families, case.first, strict=True):
        for position, setting in enumerate(settings):
            if setting.needs() != settings[0].needs():
                raise CheckFailed(
                    f"{named(setting)} and {named(settings[0])} are of one family and differ in needs(); give them other keys in family()"
                )
            declares = bool(setting.needs()) or (isinstance(setting, SelectsSamples) and setting.selects_samples())
            if not declares and (position in run.trusted_sets or position in run.forgotten_sets):
                raise CheckFailed(
                    f"{named(setting)} reports samples by run.report_trusted or run.report_forgotten and neither needs() nor selects_samples() says so; "
                    f"add the method selects_samples(self) -> bool"
                )


def _books_its_work(case: CorrectorCase) -> None:
    for settings, (found, run) in zip(case.families, case.first, strict=True):
        for position, cost in enumerate([tuning(cost.shared) for cost in run.meter.costs()] if found is not None else ()):
            setting = settings[position]
            if not cost.seconds > 0:
                raise CheckFailed(f"no time is booked for {named(setting)}; work inside run.meter(...)")
            if cost.forwards > 0:
                continue
            if type(setting).forecast([setting], sizes_of(case.task)).forwards > 0:
                raise CheckFailed(f"no passes are booked for {named(setting)}; call run.meter.count(forwards=..., backwards=...)")
            if calls := case.forward_calls(setting):
                raise CheckFailed(
                    f"{named(setting)} calls the network's modules {calls} times, but no passes are booked for it and forecast() gives "
                    f"none; call run.meter.count(forwards=..., backwards=...)"
                )


def _forecasts_its_passes(case: CorrectorCase) -> str | None:
    unknown = 0
    for settings, (found, run) in zip(case.families, case.first, strict=True):
        if found is None or not all(map(finite, found.values())):
            unknown += 1
            continue
        forecast = type(settings[0]).forecast(settings, sizes_of(case.task))
        booked, bound = toys.passes(run), isinstance(settings[0], ForecastsUpperBound) and settings[0].forecast_is_bound
        if bound and booked[0] <= forecast.forwards and booked[1] <= forecast.backwards:
            continue
        if booked != (forecast.forwards, forecast.backwards):
            raise CheckFailed(forecast_text(named(settings[0]), (forecast.forwards, forecast.backwards), toys.passes(run)))
        if not math.isclose(sum(tuning(cost.shared).forwards for cost in run.meter.costs()), forecast.forwards):
            raise CheckFailed(f"the settings' shares of the passes do not add up to the whole ({named(settings[0])})")
    return _diverged(unknown, len(case.families), "family", "families")


def _corrector_resumes(case: CorrectorCase) -> str | None:
    without = 0
    for settings, (found, _) in zip(case.families, case.first, strict=True):
        stored = stopped(lambda run, settings=settings: case.run(settings, run), toys.StoringRun(1, settings=len(settings)))  # type: ignore[misc]
        if stored is None:
            without += 1
            continue
        again, _ = case.run(settings, toys.StoringRun(resume=stored, settings=len(settings)))
        _same_families(found, again, settings, "has other bits when it was stopped after its first epoch and resumed")
    return "it has no epochs to be stopped after" if without == len(case.families) else None


CORRECTOR: tuple[Promise[CorrectorCase], ...] = (
    Promise("it is a frozen dataclass that offers what a corrector must", _corrector_is_a_part),
    Promise("every setting of a family is yielded once", _every_setting_once),
    Promise("the network that it is given, the labels and global randomness are left alone", _model_is_left_alone),
    Promise("a corrected network has the names, shapes and types of the given one", _same_names_and_shapes),
    Promise("weights and outputs are finite, or the setting counts as diverged", _finite_or_diverged),
    Promise("the same seed gives the same weights", _corrects_twice_alike),
    Promise("a setting alone has the weights that it has in its family", _alone_as_in_its_family),
    Promise("settings that it calls one computation have the same weights", _equal_computations),
    Promise("it asks for what it declares in needs(), and for nothing else", _declares_its_needs),
    Promise("it declares that it selects samples by itself, if it does", _declares_its_selection),
    Promise("seconds and all passes are booked for every setting", _books_its_work),
    Promise("forecast() gives the passes that are booked", _forecasts_its_passes),
    Promise("stopped and resumed it gives the same weights", _corrector_resumes),
)


def _same_families(one: dict[int, Weights] | None, other: dict[int, Weights] | None, settings: Sequence[Any], text: str) -> None:
    if (one is None) != (other is None):
        raise CheckFailed(f"{named(settings[0])} diverges once and not the other time: it {text}")
    for position, weights in (one or {}).items():
        same_bits(weights, (other or {}).get(position, {}), f"{named(settings[position])} {text}")


def _diverged(count: int, of: int, one: str, many: str) -> str | None:
    return f"{count} of {of} {one if of == 1 else many} diverged" if count else None

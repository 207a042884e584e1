"""Contract checks of correctors, on families of settings and a small network."""

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
    Check,
    CheckFailed,
    Weights,
    check_component,
    describe,
    finite,
    forecast_text,
    global_randomness,
    same_bits,
    same_samples,
    same_shapes,
    sizes_of,
    state_when_stopped,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class CorrectorCase:
    """Families of settings of one corrector, and the network that they correct.

    Every run gets copies of the network and of the task, so that a corrector that modifies them in place fails the check for that alone,
    in any order of the checks.
    """

    families: tuple[tuple[Corrector, ...], ...]
    model: nn.Module
    task: Task

    @cached_property
    def first(self) -> list[tuple[dict[int, Weights] | None, PlainRun]]:
        """The result of each family: index -> weights (None if the method raised FloatingPointError), and its run."""
        return [self.run(settings) for settings in self.families]

    def forward_calls(self, setting: Corrector) -> int:
        """Number of calls of modules with parameters by a setting that runs alone, whatever it records in its meter."""
        with toys.counted_calls() as calls:
            self.run([setting])
        return len(calls)

    def run(
        self, settings: Sequence[Corrector], run: PlainRun | None = None, model: nn.Module | None = None, task: Task | None = None
    ) -> tuple[dict[int, Weights] | None, PlainRun]:
        """Runs one family with the verified samples that it declares in `needs()`, on `model` and `task` or on copies of the case's."""
        run, model, task = run or PlainRun(len(settings)), model or copy.deepcopy(self.model), task or toys.copy_of(self.task)
        # The platform grants the needs of the family that it runs, no others.
        needs: frozenset[Need] = frozenset().union(*(setting.needs() for setting in settings))
        found: dict[int, Weights] = {}
        try:
            for index, net in type(settings[0]).correct(settings, model, task.allow(needs), run):
                if index in found:
                    raise CheckFailed(f"setting {index} of {describe(settings[0])} is yielded twice")
                # Copied at once: a corrector may modify the network for the next setting.
                found[index] = toys.weights(net)
        # The agreed way to report that the network has diverged; a result, not a failed check.
        except FloatingPointError:
            return None, run
        return found, run


def _has_the_interface(case: CorrectorCase) -> None:
    for setting in itertools.chain(*case.families):
        check_component(setting, Corrector)
        needs = setting.needs()
        if not isinstance(needs, frozenset) or not all(isinstance(need, Need) for need in needs):
            raise CheckFailed(f"needs() of {describe(setting)} returns {needs!r}; it must be a frozenset of sap_core.api.Need")
        for method, key in (("family", setting.family()), ("computation", setting.computation())):
            try:
                hash(key)
            except TypeError as error:
                raise CheckFailed(
                    f"{method}() of {describe(setting)} returns a key that cannot be hashed ({error}); return a tuple"
                ) from error


def _every_setting_once(case: CorrectorCase) -> str | None:
    diverged = 0
    for settings, (found, _) in zip(case.families, case.first, strict=True):
        diverged += found is None
        # In any order, because a method may finish settings as its trajectory passes them.
        if found is not None and sorted(found) != list(range(len(settings))):
            raise CheckFailed(f"a family of {len(settings)} settings yielded the indices {sorted(found)} ({describe(settings[0])})")
    return _diverged(diverged, len(case.families), "family", "families")


def _modifies_no_input(case: CorrectorCase) -> None:
    for settings in case.families:
        model, task = copy.deepcopy(case.model), toys.copy_of(case.task)
        # The given network is shared by all settings and searches of a baseline, so a method works on a copy. Draws from the global
        # generator would make a result depend on what ran before it.
        with global_randomness(describe(settings[0])):
            case.run(settings, model=model, task=task)
        # Compared with the case's own, which no run has seen: a repeated change would not show between two runs on one network.
        same_bits(toys.weights(case.model), toys.weights(model), "the given network was modified")
        if model.training != case.model.training:
            raise CheckFailed(f"the given network was left in {'training' if model.training else 'evaluation'} mode")
        same_samples(case.task, task)


def _same_names_and_shapes(case: CorrectorCase) -> None:
    before = toys.weights(case.model)
    for settings, (found, _) in zip(case.families, case.first, strict=True):
        # Scoring and saving load a corrected network into the architecture of the baseline.
        for index, weights in (found or {}).items():
            same_shapes(before, weights, describe(settings[index]))


def _finite_or_diverged(case: CorrectorCase) -> str | None:
    diverged = 0
    # Outputs are checked, too: finite weights may overflow in the forward pass.
    # One batch of all validation images is enough, as they are few.
    inputs = next(iter(case.task.val.batches(len(case.task.val)))).inputs
    # One network for all settings: only weights change.
    probe = copy.deepcopy(case.model)
    for settings, (found, _) in zip(case.families, case.first, strict=True):
        for index in range(len(settings)):
            weights = None if found is None else found.get(index)
            if weights is None or not finite(weights):
                diverged += 1
                continue
            probe.load_state_dict(weights)
            with torch.no_grad():
                if not bool(probe.eval()(inputs).isfinite().all()):
                    raise CheckFailed(f"{describe(settings[index])} has finite weights but outputs that are not finite")
    return _diverged(diverged, sum(map(len, case.families)), "setting", "settings")


def _is_deterministic(case: CorrectorCase) -> None:
    for settings, (found, _) in zip(case.families, case.first, strict=True):
        # Bitwise, because a row can be rerun at any time and is compared exactly (`sap-sweep rerun`).
        rerun, _ = case.run(settings)
        _same_families(found, rerun, settings, "has weights that differ when it is rerun")


def _is_independent_of_its_family(case: CorrectorCase) -> None:
    # The last family has several settings, see `families_to_try`.
    settings, (found, _) = case.families[-1], case.first[-1]
    for index, setting in enumerate(settings):
        alone, _ = case.run([setting])
        together = None if found is None else {0: found[index]}
        _same_families(together, alone, [setting], "has weights that differ when it runs alone")


def _equal_computations(case: CorrectorCase) -> None:
    settings, (found, _) = case.families[-1], case.first[-1]
    # Reports print `675 (675 distinct)` by these keys, so a wrong key would miscount the settings that were really tried.
    keys = [setting.computation() for setting in settings]
    # All pairs, because equal keys may belong to settings that are far apart.
    for one, other in itertools.combinations(found or {}, 2):
        if keys[one] == keys[other] and found is not None:
            text = f"{describe(settings[one])} and {describe(settings[other])} have equal computation() but differ"
            same_bits(found[one], found[other], text)


def _declares_its_needs(case: CorrectorCase) -> None:
    for settings in case.families:
        needs = settings[0].needs()
        # Without any grant, a method that reads verified samples raises UndeclaredNeed; one that declares a need and does not raise never
        # reads them.
        restricted = toys.copy_of(case.task).allow(frozenset())
        try:
            for _ in type(settings[0]).correct(settings, copy.deepcopy(case.model), restricted, PlainRun(len(settings))):
                pass
        except UndeclaredNeed as error:
            if not needs:
                raise CheckFailed(f"{describe(settings[0])}: {error}") from error
            continue
        except FloatingPointError:
            continue
        if needs:
            raise CheckFailed(
                f"{describe(settings[0])} declares {', '.join(sorted(needs))} in needs() but does not read them; remove them from needs()"
            )


def _declares_its_selection(case: CorrectorCase) -> None:
    for settings, (_, run) in zip(case.families, case.first, strict=True):
        for index, setting in enumerate(settings):
            # Needs are granted per job, and a job is a family.
            if setting.needs() != settings[0].needs():
                raise CheckFailed(
                    f"{describe(setting)} and {describe(settings[0])} have equal family() but differ in needs(); "
                    "return different keys from family()"
                )
            declares = bool(setting.needs()) or (isinstance(setting, SelectsSamples) and setting.selects_samples())
            # The column `information` of rows follows from these declarations.
            if not declares and (index in run.trusted_sets or index in run.forgotten_sets):
                raise CheckFailed(
                    f"{describe(setting)} reports samples by run.report_trusted or run.report_forgotten, but neither needs() nor "
                    "selects_samples() declares it; add the method selects_samples(self) -> bool"
                )


def _records_its_work(case: CorrectorCase) -> None:
    for settings, (found, run) in zip(case.families, case.first, strict=True):
        # Seconds and passes are the cost columns of tables: work that is not recorded would make a method look cheap.
        for index, cost in enumerate([tuning(cost.shared) for cost in run.meter.costs()] if found is not None else ()):
            setting = settings[index]
            if not cost.seconds > 0:
                raise CheckFailed(f"no seconds are recorded for {describe(setting)}; do the work inside `with run.meter(...)`")
            if cost.forwards > 0:
                continue
            if type(setting).forecast([setting], sizes_of(case.task)).forwards > 0:
                raise CheckFailed(f"no passes are recorded for {describe(setting)}; call run.meter.count(forwards=..., backwards=...)")
            # The forecast may agree with the meter and both be wrong, so the calls of the network's modules are counted as well.
            if calls := case.forward_calls(setting):
                raise CheckFailed(
                    f"{describe(setting)} calls the network's modules {calls} times, but records no passes and forecast() returns "
                    f"none; call run.meter.count(forwards=..., backwards=...)"
                )


def _forecast_matches(case: CorrectorCase) -> str | None:
    unknown = 0
    for settings, (found, run) in zip(case.families, case.first, strict=True):
        if found is None or not all(map(finite, found.values())):
            unknown += 1
            continue
        # Schedules, dry runs and upper bounds of searches rely on it.
        forecast = type(settings[0]).forecast(settings, sizes_of(case.task))
        recorded, bound = toys.passes(run), isinstance(settings[0], ForecastsUpperBound) and settings[0].forecast_is_bound
        # A corrector that may stop early forecasts an upper bound.
        if bound and recorded[0] <= forecast.forwards and recorded[1] <= forecast.backwards:
            continue
        if recorded != (forecast.forwards, forecast.backwards):
            raise CheckFailed(forecast_text(describe(settings[0]), (forecast.forwards, forecast.backwards), toys.passes(run)))
        # Shared work is divided among its users, and the parts must add up to what was spent.
        if not math.isclose(sum(tuning(cost.shared).forwards for cost in run.meter.costs()), forecast.forwards):
            raise CheckFailed(f"the settings' shares of the passes do not add up to all passes ({describe(settings[0])})")
    return _diverged(unknown, len(case.families), "family", "families")


def _resumes(case: CorrectorCase) -> str | None:
    without = 0
    for settings, (found, _) in zip(case.families, case.first, strict=True):
        # Stopped after the first epoch, where every method with epochs has stored something and has work left.
        stored = state_when_stopped(lambda run, settings=settings: case.run(settings, run), toys.StoringRun(1, settings=len(settings)))  # type: ignore[misc]
        if stored is None:
            without += 1
            continue
        # A new run from the stored state, as after a kill.
        resumed, _ = case.run(settings, toys.StoringRun(resume=stored, settings=len(settings)))
        _same_families(found, resumed, settings, "has weights that differ when it is stopped after its first epoch and resumed")
    return "it has no epochs" if without == len(case.families) else None


CORRECTOR_CHECKS: tuple[Check[CorrectorCase], ...] = (
    Check("it is a frozen dataclass with the interface of a corrector", _has_the_interface),
    Check("it yields every setting of a family once", _every_setting_once),
    Check("it does not modify the given network and samples, nor torch's global generator", _modifies_no_input),
    Check("a corrected network has the same names, shapes and dtypes as the given one", _same_names_and_shapes),
    Check("weights and outputs are finite, or the setting is reported as diverged", _finite_or_diverged),
    Check("the same seed gives the same weights", _is_deterministic),
    Check("a setting has the same weights alone and in its family", _is_independent_of_its_family),
    Check("settings with equal computation() have the same weights", _equal_computations),
    Check("it reads the verified samples that needs() declares, and no others", _declares_its_needs),
    Check("it declares whether it selects samples", _declares_its_selection),
    Check("it records seconds and all passes of every setting", _records_its_work),
    Check("forecast() equals the recorded passes", _forecast_matches),
    Check("it gives the same weights when stopped and resumed", _resumes),
)


def _same_families(one: dict[int, Weights] | None, other: dict[int, Weights] | None, settings: Sequence[Any], text: str) -> None:
    if (one is None) != (other is None):
        raise CheckFailed(f"{describe(settings[0])} diverges in one of two runs: it {text}")
    for index, weights in (one or {}).items():
        same_bits(weights, (other or {}).get(index, {}), f"{describe(settings[index])} {text}")


def _diverged(count: int, of: int, one: str, many: str) -> str | None:
    return f"{count} of {of} {one if of == 1 else many} diverged" if count else None

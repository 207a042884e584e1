"""Optuna's side of a search: distributions, samplers by their dotted path, the asker of the local backend, and the whole of a search."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from sap_core.components import PACKAGES
from sap_core.construct import locate
from sap_core.errors import UserError
from sap_core.seeding import Stream, stream
from sweeper.config.search_space import LISTS, Domain
from sweeper.search.encoding import Point, Points
from sweeper.search.trials import Asker, Proposals, Score, halve, sample

OPTUNAS = "optuna.samplers"

_SEEDS = 2**32
"""NumPy's generators, which Optuna's samplers draw from, take seeds below this."""


class Shuffled(BaseSampler):
    """All settings of a listed space in a random order: drawing without replacement."""

    def __init__(self, points: Points, order: Sequence[int]) -> None:
        self._points, self._order = points, order

    def infer_relative_search_space(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> dict[str, BaseDistribution]:
        return distributions(self._points)

    def sample_relative(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._points.encode(self._points.at(self._order[trial.number]))

    def sample_independent(self, study: optuna.Study, trial: Any, param_name: str, param_distribution: BaseDistribution) -> Any:
        raise AssertionError("Optuna asks here only for fields outside the relative space, and that has all of them")


def distributions(points: Points) -> dict[str, BaseDistribution]:
    """What Optuna samples each field from. A grid of numbers is ordered: neighbours resemble one another; other lists are not."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it prints a line per study otherwise
    return {domain.field: _distribution(domain) for domain in points.domains}


def _distribution(domain: Domain) -> BaseDistribution:
    if domain.word in LISTS:
        ordered = domain.word == "grid" and all(isinstance(value, int | float) and not isinstance(value, bool) for value in domain.values)
        places = range(len(domain.values))
        return IntDistribution(0, len(places) - 1) if ordered else CategoricalDistribution(list(places))
    low, high = domain.values
    if domain.word == "randint":
        return IntDistribution(int(low), int(high))
    return FloatDistribution(float(low), float(high), log=domain.word == "loguniform")


def random_order(points: Points, rng: Stream) -> list[int]:
    """The places of all settings, shuffled."""
    order: list[int] = rng.child("order").permutation(points.size or 0).tolist()
    return order


def build(entry: Mapping[str, Any] | None, points: Points, rng: Stream) -> BaseSampler:
    """The sampler of a search; no entry means random."""
    if entry is None:
        return (
            Shuffled(points, random_order(points, rng))
            if points.listed
            else optuna.samplers.RandomSampler(rng.child("order").number() % _SEEDS)
        )
    cls, settings = locate(entry["target"]), dict(entry["settings"])
    if "seed" in inspect.signature(cls).parameters:
        settings["seed"] = rng.child("sampler").number() % _SEEDS
    sampler: BaseSampler = cls(**settings)
    return sampler


def check_sampler(target: str, settings: Mapping[str, Any], plugins: Sequence[str]) -> dict[str, Any]:
    """The entry of a user's sampler.

    Raises:
        UserError: a path outside the packages that may be named, no sampler, or settings that it refuses.
    """
    where, allowed = "search.sampler", (OPTUNAS, *PACKAGES, *plugins)
    if not any(target.startswith(f"{package}.") for package in allowed):
        raise UserError(
            f"{where}={target!r} is outside the packages that may be named ({', '.join(allowed)}); add its package with plugins=[...]"
        )
    try:
        cls = locate(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{where}={target} names nothing that exists ({error}); give the dotted path of an Optuna sampler") from error
    if not (isinstance(cls, type) and issubclass(cls, BaseSampler)):
        raise UserError(f"{where}={target} is no sampler of Optuna's (a class below optuna.samplers.BaseSampler); name another")
    if "seed" in settings:
        raise UserError("search.settings.seed would fix one seed for all searches; set search.seeds=[...] instead")
    entry = {"target": target, "settings": dict(settings)}
    try:
        build(entry, Points(()), Stream(0, ("search",)))
    except Exception as error:  # whatever a sampler says about its settings
        raise UserError(f"{where}={target} refuses search.settings={dict(settings)} ({' '.join(str(error).split())}); mend them") from error
    return entry


class OptunaAsker:
    """A study in memory, asked and told by hand. Ray Tune's OptunaSearch does the same in sweeper/backends/ray_backend.py."""

    def __init__(self, space: dict[str, BaseDistribution], sampler: BaseSampler) -> None:
        self._space = space
        self._study = optuna.create_study(direction="maximize", sampler=sampler, pruner=optuna.pruners.NopPruner())

    def ask(self) -> dict[str, Any]:
        self._trial = self._study.ask(fixed_distributions=self._space)
        return self._trial.params

    def tell(self, score: Score) -> None:
        self._study.tell(self._trial, score, state=TrialState.PRUNED if score is None else TrialState.COMPLETE)

    def add(self, parameters: dict[str, Any], score: Score) -> None:
        state = TrialState.PRUNED if score is None else TrialState.COMPLETE
        self._study.add_trial(optuna.trial.create_trial(state=state, value=score, params=parameters, distributions=self._space))


def conduct(
    points: Points,
    spec: Mapping[str, Any],
    baseline_id: str,
    climb: Callable[[int, int, Point], Score],
    close: Callable[[int], None] = lambda configuration: None,
    asker: Callable[[dict[str, BaseDistribution], BaseSampler], Asker] = OptunaAsker,
) -> None:
    """Runs a search's trials, live or replayed.

    Args:
        points: of the space.
        spec: its `seed`, `sampler`, `resource` and `rungs`, as `TrialSearch.spec` has them.
        baseline_id: searches of one seed on two baselines draw differently.
        climb: (number of the trial, number of the configuration, its point without the resource) -> score.
        close: says that a configuration goes no further.
        asker: what is asked for settings.
    """
    resource = spec["resource"]
    entered = points.without(resource) if resource else points
    rng = stream(spec["seed"], "search", baseline_id)
    asked = asker(distributions(entered), build(spec["sampler"], entered, rng)) if entered.domains else None
    proposals = Proposals(entered, asked, rng.child("unseen").generator())
    if resource:
        halve(proposals, spec["rungs"], climb, close, entered.place)
        return

    def evaluate(number: int, point: Point) -> Score:
        score = climb(number, number, point)
        close(number)
        return score

    sample(proposals, spec["rungs"][0], evaluate)

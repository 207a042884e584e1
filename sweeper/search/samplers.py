"""Connects searches to Optuna: distributions, samplers named by a dotted path, the ask-and-tell study, and `run_trials`."""

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
from sweeper.config.packages import OPTUNA_PACKAGE
from sweeper.config.search_space import LIST_TYPES, Domain
from sweeper.search.encoding import Setting, SettingSpace
from sweeper.search.trials import AskTell, Proposals, Score, sequential_search, successive_halving

_SEEDS = 2**32
"""Exclusive upper bound of seeds: Optuna's samplers draw from NumPy generators, which take 32-bit seeds."""


# Optuna's RandomSampler draws with replacement: on a grid it would propose settings again, which are no trials. A shuffled order also lets
# a replay compute a thousand searches at once.
class ShuffledSampler(BaseSampler):
    """Random search without replacement: all settings of a listed space in a random order."""

    def __init__(self, space: SettingSpace, order: Sequence[int]) -> None:
        self._space, self._order = space, order

    def infer_relative_search_space(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> dict[str, BaseDistribution]:
        return distributions(self._space)

    def sample_relative(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        # The number of the trial is the whole state, so the sequence is the same behind Optuna's study and behind Ray Tune's searcher.
        return self._space.encode(self._space.at(self._order[trial.number]))

    def sample_independent(self, study: optuna.Study, trial: Any, param_name: str, param_distribution: BaseDistribution) -> Any:
        raise AssertionError("Optuna samples independently only fields outside the relative space, which contains all of them")


def distributions(space: SettingSpace) -> dict[str, BaseDistribution]:
    """Optuna's distribution of each field.

    A `grid` of numbers is an integer range of indices, so that a sampler may assume that neighbouring values score alike; other lists are
    categorical.
    """
    # Otherwise Optuna prints a line for every study and trial.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return {domain.field: _distribution(domain) for domain in space.domains}


def _distribution(domain: Domain) -> BaseDistribution:
    if domain.type in LIST_TYPES:
        ordered = domain.type == "grid" and all(isinstance(value, int | float) and not isinstance(value, bool) for value in domain.values)
        # Samplers see indices, not values: a grid such as 1e3, 3e3, 1e4 is evenly spaced for them, and values of any type are possible.
        indices = range(len(domain.values))
        return IntDistribution(0, len(indices) - 1) if ordered else CategoricalDistribution(list(indices))
    low, high = domain.values
    if domain.type == "randint":
        return IntDistribution(int(low), int(high))
    return FloatDistribution(float(low), float(high), log=domain.type == "loguniform")


def random_order(space: SettingSpace, rng: Stream) -> list[int]:
    """The indices of all settings in a random order."""
    order: list[int] = rng.child("order").permutation(space.size or 0).tolist()
    return order


def build_sampler(entry: Mapping[str, Any] | None, space: SettingSpace, rng: Stream) -> BaseSampler:
    """The sampler of a search; without an entry, random search."""
    if entry is None:
        return (
            ShuffledSampler(space, random_order(space, rng))
            if space.is_listed
            else optuna.samplers.RandomSampler(rng.child("order").number() % _SEEDS)
        )
    cls, settings = locate(entry["target"]), dict(entry["settings"])
    # The entry may come from a file of jobs, which could name another class or function of an allowed package.
    if not (isinstance(cls, type) and issubclass(cls, BaseSampler)):
        raise UserError(f"the sampler {entry['target']} is not a subclass of optuna.samplers.BaseSampler")
    # Not every sampler has a seed.
    if "seed" in inspect.signature(cls).parameters:
        settings["seed"] = rng.child("sampler").number() % _SEEDS
    sampler: BaseSampler = cls(**settings)
    return sampler


def check_sampler(target: str, settings: Mapping[str, Any], plugins: Sequence[str]) -> dict[str, Any]:
    """Check a sampler named by the configuration and return its entry, `{"target": ..., "settings": ...}`.

    Raises:
        UserError: the path is outside the allowed packages or is not an Optuna sampler, or the sampler rejects its settings.
    """
    where, allowed = "search.sampler", (OPTUNA_PACKAGE, *PACKAGES, *plugins)
    if not any(target.startswith(f"{package}.") for package in allowed):
        raise UserError(
            f"{where}={target!r} is outside the packages that may be named ({', '.join(allowed)}); add its package with plugins=[...]"
        )
    try:
        cls = locate(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{where}={target} cannot be imported ({error}); give the dotted path of an Optuna sampler") from error
    if not (isinstance(cls, type) and issubclass(cls, BaseSampler)):
        raise UserError(
            f"{where}={target} is not a subclass of optuna.samplers.BaseSampler; name one that is, such as optuna.samplers.TPESampler"
        )
    # The seed of a search comes from its own stream and the baseline, so that repeated searches differ and replays repeat them.
    if "seed" in settings:
        raise UserError("search.settings.seed would give all searches one seed; set search.seeds=[...] instead")
    entry = {"target": target, "settings": dict(settings)}
    try:
        # Built once while planning, so that a wrong setting is found before anything is trained.
        build_sampler(entry, SettingSpace(()), Stream(0, ("search",)))
    except Exception as error:  # samplers raise exceptions of any type for bad settings
        raise UserError(
            f"{where}={target} rejects search.settings={dict(settings)} ({' '.join(str(error).split())}); correct search.settings"
        ) from error
    return entry


class OptunaAskTell:
    """An in-memory Optuna study behind the ask-and-tell interface.

    `sweeper.backends.ray_backend` implements the same interface over Ray Tune's OptunaSearch.
    """

    def __init__(self, space: dict[str, BaseDistribution], sampler: BaseSampler) -> None:
        self._space = space
        # Pruning of trials is left to successive halving (`successive_halving`), whose rungs are part of the plan.
        self._study = optuna.create_study(direction="maximize", sampler=sampler, pruner=optuna.pruners.NopPruner())

    def ask(self) -> dict[str, Any]:
        self._trial = self._study.ask(fixed_distributions=self._space)
        return self._trial.params

    def tell(self, score: Score) -> None:
        # A failed setting is reported as pruned, which TPE ranks below all others; it would learn nothing from a trial in state FAIL.
        self._study.tell(self._trial, score, state=TrialState.PRUNED if score is None else TrialState.COMPLETE)

    def add(self, parameters: dict[str, Any], score: Score) -> None:
        state = TrialState.PRUNED if score is None else TrialState.COMPLETE
        self._study.add_trial(optuna.trial.create_trial(state=state, value=score, params=parameters, distributions=self._space))


def run_trials(
    space: SettingSpace,
    spec: Mapping[str, Any],
    baseline_id: str,
    advance: Callable[[int, int, Setting], Score],
    close: Callable[[int], None] = lambda configuration: None,
    make_sampler: Callable[[dict[str, BaseDistribution], BaseSampler], AskTell] = OptunaAskTell,
) -> None:
    """Run all trials of a search, live or replayed.

    Args:
        space: of the search.
        spec: its `seed`, `sampler`, `resource` and `rungs`, as in `TrialSearch.spec`.
        baseline_id: enters the random stream, so that searches with one seed on two baselines draw differently.
        advance: (trial number, configuration number, its setting without the resource) -> score at the configuration's next level.
        close: called with a configuration's number when it will not advance any further.
        make_sampler: wraps distributions and an Optuna sampler in the ask-and-tell interface.
    """
    resource = spec["resource"]
    searched = space.without(resource) if resource else space
    rng = stream(spec["seed"], "search", baseline_id)
    # Optuna cannot ask for a trial of an empty space, which remains if the resource is the only field.
    sampler = make_sampler(distributions(searched), build_sampler(spec["sampler"], searched, rng)) if searched.domains else None
    # Repeated proposals are replaced from a stream of their own, so that they do not shift the sampler's draws.
    proposals = Proposals(searched, sampler, rng.child("unseen").generator())
    if resource:
        successive_halving(proposals, spec["rungs"], advance, close, searched.index)
        return

    def evaluate(number: int, setting: Setting) -> Score:
        score = advance(number, number, setting)
        close(number)
        return score

    sequential_search(proposals, spec["rungs"][0], evaluate)

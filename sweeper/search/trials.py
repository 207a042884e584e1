"""Runs the trials of a search one at a time: sequential search and successive halving. Live searches and replays share these loops.

A setting that a sampler proposes a second time is not a trial and costs nothing: the sampler is passed the known score. After
`MAX_REPEATED_PROPOSALS` such proposals in a row an unseen setting is drawn at random instead, so that every search terminates.

Successive halving (Karnin et al., 2013; Li et al., "A system for massively parallel hyperparameter tuning", MLSys 2020): `rungs[0]`
configurations run to the lowest level of the resource, the best of them continue to the next level, and so on. Deviation from ASHA: a rung
is complete before the next one begins, so that the result does not depend on which worker is faster.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

from sweeper.search.encoding import Setting, SettingSpace, setting_key

MAX_REPEATED_PROPOSALS = 50
"""Consecutive proposals of known settings after which an unseen setting is drawn at random."""

Score = float | None
"""Validation score on the given labels; None for a setting that failed, which ranks below every score."""


class AskTell(Protocol):
    """A sampler behind Optuna's ask-and-tell interface. Parameters are encoded settings, see `SettingSpace`."""

    def ask(self) -> dict[str, Any]:
        """Propose the parameters of the next trial."""

    def tell(self, score: Score) -> None:
        """Report the score of the last proposal."""

    def add(self, parameters: dict[str, Any], score: Score) -> None:
        """Report a setting that the sampler did not propose, and its score."""


class Proposals:
    """Proposes settings that have not been tried yet, by a sampler or (without one) at random."""

    def __init__(self, space: SettingSpace, sampler: AskTell | None, generator: torch.Generator) -> None:
        self.space = space
        self._sampler = sampler
        self._generator = generator
        self._scores: dict[str, Score] = {}
        self._last: tuple[Setting, bool] = {}, False

    def next(self) -> Setting:
        """Propose an untried setting; there must be one. `tell` its score before the next call."""
        if self._sampler is not None:
            # A sampler that has converged proposes known settings again and again.
            for _ in range(MAX_REPEATED_PROPOSALS):
                setting = self.space.decode(self._sampler.ask())
                if setting_key(setting) not in self._scores:
                    self._last = setting, True
                    return setting
                # Every proposal must be answered, or the sampler would keep it as a running trial.
                self._sampler.tell(self._scores[setting_key(setting)])
        setting = self.space.draw(self._generator)
        # Ends, because a budget is cut to the size of the space and so an untried setting exists.
        while setting_key(setting) in self._scores:
            setting = self.space.draw(self._generator)
        self._last = setting, False
        return setting

    def tell(self, score: Score) -> None:
        """Report the score of the last proposal."""
        setting, proposed_by_sampler = self._last
        self._scores[setting_key(setting)] = score
        if self._sampler is None:
            return
        if proposed_by_sampler:
            self._sampler.tell(score)
        else:
            # The sampler did not propose this setting, but may learn from it.
            self._sampler.add(self.space.encode(setting), score)


def sequential_search(proposals: Proposals, budget: int, evaluate: Callable[[int, Setting], Score]) -> None:
    """Evaluate `budget` settings; `evaluate` receives the trial's number and the setting."""
    for number in range(budget):
        proposals.tell(evaluate(number, proposals.next()))


def rung_sizes(budget: int, configurations: int | None, levels: int, eta: int) -> list[int]:
    """Number of configurations at each level: the largest first rung that fits the budget, each further rung 1/eta of it, at least one.

    Args:
        budget: trials of all rungs together.
        configurations: size of the space without the resource; None: unlimited.
        levels: values of the resource.
        eta: reduction factor.
    """

    def ladder(first: int) -> list[int]:
        counts = [first]
        while len(counts) < levels:
            counts.append(max(1, counts[-1] // eta))
        return counts

    first = 1
    # Grown one by one, because the sum of the rungs is not linear in the first one: each rung is rounded down, and never below one.
    while (configurations is None or first < configurations) and sum(ladder(first + 1)) <= budget:
        first += 1
    return ladder(first)


def successive_halving(
    proposals: Proposals,
    rungs: list[int],
    advance: Callable[[int, int, Setting], Score],
    close: Callable[[int], None],
    index: Callable[[Setting], int | None],
) -> None:
    """Promote configurations from rung to rung.

    Args:
        proposals: of settings without the resource; receives the score at the first level only.
        rungs: number of configurations at each level.
        advance: (trial number, configuration number, its setting) -> score at the configuration's next level.
        close: called with a configuration's number when it is dropped or has reached the last level.
        index: a configuration's index in its space, which breaks ties; None: the earlier proposal wins.
    """
    settings, scores, trial = [], {}, 0
    # The first rung: each configuration is proposed after the scores of those before it are known.
    for number in range(rungs[0]):
        settings.append(proposals.next())
        scores[number] = advance(trial, number, settings[number])
        # Only the first level is reported: a sampler would take scores at different levels for scores of the same thing.
        proposals.tell(scores[number])
        trial += 1
    active = list(range(rungs[0]))
    # Further rungs promote the best and propose nothing new.
    for count in rungs[1:]:
        best = sorted(active, key=lambda number: _rank(scores[number], index(settings[number]), number))[:count]
        # Dropped configurations are closed before the others advance: each open one keeps a network in memory.
        for number in active:
            if number not in best:
                close(number)
        # In the order of their proposal, so that trial numbers do not depend on the scores of this rung.
        active = sorted(best)
        for number in active:
            scores[number] = advance(trial, number, settings[number])
            trial += 1
    for number in active:
        close(number)


def _rank(score: Score, index: int | None, number: int) -> tuple[bool, float, int]:
    """Sort key, best first: failed configurations last, then by score, then by index."""
    # Ties go to the earlier setting of the space, as in the selection rule.
    return score is None, -(score or 0.0), number if index is None else index

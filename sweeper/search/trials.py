"""One trial at a time: which setting next, and what the sampler is told. The same loops run live and in a replay.

A setting that a sampler proposes again costs nothing and is no trial: the sampler is told its known score again. After `PATIENCE` such
proposals in a row it is handed an unseen setting at random instead, so that every search comes to its end.

Successive halving (Karnin et al., 2013; Li et al., "A system for massively parallel hyperparameter tuning", MLSys 2020, whose ASHA has no
barrier between rungs; here a rung is complete before the next begins, so that the result does not depend on who is faster): `rungs[0]`
configurations run to the lowest level of the resource, the best of them go on to the next, and so on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

from sweeper.search.encoding import Point, Points, key_of

PATIENCE = 50
"""So many proposals in a row that were all seen before end a sampler's turn."""

Score = float | None
"""Validation score on the given labels; None for a setting that failed, which is worse than any."""


class Asker(Protocol):
    """A sampler that is asked and told in turns. Parameters are a sampler's numbers, see `Points`."""

    def ask(self) -> dict[str, Any]: ...

    def tell(self, score: Score) -> None:
        """The score of what was asked for last."""

    def add(self, parameters: dict[str, Any], score: Score) -> None:
        """A setting that was not asked for, and its score."""


class Proposals:
    """Hands out unseen settings, as long as there are any."""

    def __init__(self, points: Points, asker: Asker | None, generator: torch.Generator) -> None:
        self.points = points
        self._asker = asker
        self._generator = generator
        self._known: dict[str, Score] = {}
        self._last: tuple[Point, bool] = {}, False

    def next(self) -> Point:
        """A setting that was not handed out before; there must be one. `tell` its score before the next."""
        if self._asker is not None:
            for _ in range(PATIENCE):
                point = self.points.decode(self._asker.ask())
                if key_of(point) not in self._known:
                    self._last = point, True
                    return point
                self._asker.tell(self._known[key_of(point)])
        point = self.points.draw(self._generator)
        while key_of(point) in self._known:
            point = self.points.draw(self._generator)
        self._last = point, False
        return point

    def tell(self, score: Score) -> None:
        """The score of the last setting."""
        point, asked = self._last
        self._known[key_of(point)] = score
        if self._asker is None:
            return
        if asked:
            self._asker.tell(score)
        else:
            self._asker.add(self.points.encode(point), score)


def sample(proposals: Proposals, budget: int, evaluate: Callable[[int, Point], Score]) -> None:
    """Evaluates `budget` settings; `evaluate` gets the number of the trial and the setting."""
    for number in range(budget):
        proposals.tell(evaluate(number, proposals.next()))


def rungs_of(budget: int, configurations: int | None, levels: int, eta: int) -> list[int]:
    """How many configurations reach each level: as many at the first as the budget of trials allows, then a part of 1/eta, at least one."""

    def ladder(first: int) -> list[int]:
        counts = [first]
        while len(counts) < levels:
            counts.append(max(1, counts[-1] // eta))
        return counts

    first = 1
    while (configurations is None or first < configurations) and sum(ladder(first + 1)) <= budget:
        first += 1
    return ladder(first)


def halve(
    proposals: Proposals,
    rungs: list[int],
    climb: Callable[[int, int, Point], Score],
    close: Callable[[int], None],
    place: Callable[[Point], int | None],
) -> None:
    """Takes configurations up the rungs.

    Args:
        proposals: of settings without the resource; told the score at the first level.
        rungs: how many reach each level.
        climb: (number of the trial, number of the configuration, its point) -> score at the configuration's next level.
        close: gives a configuration up, or says that it has reached the last level.
        place: the place of a configuration in the order of its space, which breaks ties; None: the earlier proposal is the better.
    """
    points, scores, trial = [], {}, 0
    for number in range(rungs[0]):
        points.append(proposals.next())
        scores[number] = climb(trial, number, points[number])
        proposals.tell(scores[number])
        trial += 1
    going = list(range(rungs[0]))
    for count in rungs[1:]:
        best = sorted(going, key=lambda number: _rank(scores[number], place(points[number]), number))[:count]
        for number in going:
            if number not in best:
                close(number)
        going = sorted(best)
        for number in going:
            scores[number] = climb(trial, number, points[number])
            trial += 1
    for number in going:
        close(number)


def _rank(score: Score, place: int | None, number: int) -> tuple[bool, float, int]:
    """Smaller is better: failed last, then by score, then by place."""
    return score is None, -(score or 0.0), number if place is None else place

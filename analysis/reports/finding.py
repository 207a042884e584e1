"""The finding of a store in one sentence: which methods improve on the unmodified model, how they compare, and what their tuning costs.

Every part rests on a test with Holm's correction: over the seeds of a single cell, or over the cells (`analysis.tuning.significance`). Each
method counts with its first search space in a cell, as in the table `tests`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from analysis.store.labels import MEASURES, REFERENCES, counted, method_label
from analysis.store.results import CellResult
from analysis.store.selection_rule import score_column
from analysis.store.stats import difference, number_of, summarise
from analysis.tables.method_rows import MethodRow, method_rows
from analysis.tuning.cost import Unit, per_seed, unit_of
from analysis.tuning.significance import CellComparison, MethodComparison, Verdict, corrected_tests
from sap_core.records import VANILLA

RULE = "val_noisy"

Outcome = Literal["ahead", "behind", "equal", "undecided", "untested"]
"""Of a comparison. Equal: the same scores. Undecided: the test is not significant. Untested: too few seeds or cells for a test."""


def contenders(cell: CellResult) -> list[MethodRow]:
    """The methods that a cell compares, each with the first of its search spaces."""
    found: dict[str, MethodRow] = {}
    for row in method_rows(cell, (RULE,)):
        if row.method not in REFERENCES:
            found.setdefault(row.method, row)
    return list(found.values())


@dataclass(frozen=True)
class Finding:
    """What the tests say about the methods of some cells; labels are those of `method_label`."""

    gains: Mapping[str, Outcome]  # method -> its comparison with the unmodified model
    first: str | None  # SAP, or the first method; None if no search is complete
    against: Mapping[str, Outcome]  # other method -> the comparison of `first` with it
    costs: Mapping[str, float]  # other method -> cost of its complete search as a multiple of that of `first`
    seeds: int
    cells: int
    # Method -> the cells, or seeds of a single cell, in which it was compared, where these are not all: "in 1 of 2 cells".
    gains_in: Mapping[str, str] = field(default_factory=dict)
    against_in: Mapping[str, str] = field(default_factory=dict)

    def sentence(self) -> str:
        """The finding in words."""
        if self.first is None:
            return "No search of a method can be evaluated yet: none has all of its rows and an unmodified model."
        parts = [
            *_gains_texts(self._named(self.gains, self.gains_in), self._basis),
            *self._against_text(),
            *_costs_text(self.costs, self.first),
        ]
        return "; ".join(parts) + "."

    @property
    def _basis(self) -> str:
        return counted(self.cells, "cell") if self.cells > 1 else counted(self.seeds, "seed")

    def _named(self, outcomes: Mapping[str, Outcome], compared_in: Mapping[str, str]) -> dict[str, Outcome]:
        """The outcomes, by method and the cells or seeds that they hold for, unless these are all."""
        return {f"{name} ({compared_in[name]})" if name in compared_in else name: outcomes[name] for name in outcomes}

    def _against_text(self) -> Iterator[str]:
        if self.first is None or not self.against:
            return
        by = _grouped(self._named(self.against, self.against_in))
        texts = [f"{verb} {joined(by[outcome])}" for outcome, verb in (("ahead", "beats"), ("behind", "is beaten by")) if outcome in by]
        if "equal" in by:
            texts.append(f"scores the same as {joined(by['equal'])}")
        if texts:
            yield f"{self.first} {joined(texts)}"
        if "undecided" in by:
            verb = "do" if self._basis[-1] == "s" else "does"
            yield f"{self._basis} {verb} not separate {self.first} from {joined(by['undecided'])}"
        if "untested" in by and "untested" not in self.gains.values():
            yield f"{self.first} and {joined(by['untested'])} cannot be tested on {self._basis}"


def find(cells: Sequence[CellResult]) -> Finding:
    """Compares the methods of cells that share their measure. Differences are of percent for accuracies."""
    rows = [(cell, {method_label(row.method): row for row in contenders(cell)}) for cell in cells]
    scores = [{name: _scores(cell, row) for name, row in found.items()} for cell, found in rows]
    unmodified = [_unmodified(cell) for cell in cells]
    names = list(dict.fromkeys(name for found in scores for name, by_seed in found.items() if by_seed))
    gains = {
        name: [(cell.name, own.get(name, {}), base) for cell, own, base in zip(cells, scores, unmodified, strict=True)] for name in names
    }
    sap = method_label("sap")
    first = sap if sap in names else names[0] if names else None
    others = [name for name in names if name != first]
    pairs = {
        name: [(cell.name, own.get(str(first), {}), own.get(name, {})) for cell, own in zip(cells, scores, strict=True)] for name in others
    }
    return Finding(
        gains=_outcomes(gains, method_label(VANILLA)),
        first=first,
        against=_outcomes(pairs, str(first), reverse=True),
        costs={name: ratio for name in others if (ratio := _cost_ratio([found for _, found in rows], str(first), name)) is not None},
        seeds=max((len(cell.seeds) for cell in cells), default=0),
        cells=len(cells),
        gains_in=_in_a_part(gains, cells),
        against_in=_in_a_part(pairs, cells),
    )


def _scores(cell: CellResult, row: MethodRow) -> dict[int, float]:
    """Seed -> test score of the selected setting, in the printed unit; none of an unfinished search, whose choice may still change."""
    if row.incomplete:
        return {}
    found = zip(row.searches, row.scores(RULE, score_column("test_oracle", cell.measure)), strict=True)
    return {search.seed: score * MEASURES[cell.measure].factor for search, score in found if score is not None}


def _unmodified(cell: CellResult) -> dict[int, float]:
    column, factor = score_column("test_oracle", cell.measure), MEASURES[cell.measure].factor
    found = {baseline.seed: number_of(baseline.row[column]) for baseline in cell.baselines if baseline.row is not None}
    return {seed: score * factor for seed, score in found.items() if score is not None}


Pair = tuple[str, Mapping[int, float], Mapping[int, float]]
"""The name of a cell, and the scores of two methods in it by seed."""


def _outcomes(pairs: Mapping[str, Sequence[Pair]], other: str, reverse: bool = False) -> dict[str, Outcome]:
    """The outcome of each comparison, corrected for all of them; `reverse` if `other` is the first method of the pairs."""
    compared = {name: _comparison(name, other, own, reverse) for name, own in pairs.items()}
    verdicts = corrected_tests(list(compared.values())).verdicts
    return {name: _outcome(verdict) for name, verdict in zip(compared, verdicts, strict=True)}


def _in_a_part(pairs: Mapping[str, Sequence[Pair]], cells: Sequence[CellResult]) -> dict[str, str]:
    """Name -> the cells with a seed of both methods, where some have none, or of a single cell the seeds with scores of both."""
    shared = {name: [len(set(one) & set(two)) for _, one, two in of_cells] for name, of_cells in pairs.items()}
    if len(cells) == 1:
        seeds = len(cells[0].seeds)
        return {name: f"on {count} of {seeds} seeds" for name, (count,) in shared.items() if count < seeds}
    counts = {name: sum(map(bool, of_cells)) for name, of_cells in shared.items()}
    return {name: f"in {count} of {len(cells)} cells" for name, count in counts.items() if count < len(cells)}


def _comparison(name: str, other: str, pairs: Sequence[Pair], reverse: bool) -> MethodComparison:
    found = []
    for cell, one, two in pairs:
        # Paired by seed, so that differences between the baselines do not enter.
        seeds = [seed for seed in one if seed in two]
        if seeds:
            differences = tuple(difference(one[seed], two[seed]) for seed in seeds)
            found.append(CellComparison(cell, summarise(one[seed] for seed in seeds), summarise(two[seed] for seed in seeds), differences))
    return MethodComparison("", *((other, name) if reverse else (name, other)), tuple(found))


def _outcome(verdict: Verdict) -> Outcome:
    differences = [each for pair in verdict.comparison.pairs for each in pair.differences]
    if differences and all(round(each, 9) == 0 for each in differences):
        return "equal"
    # Welch's test is not paired; differences that are the same on every seed have no paired test.
    if verdict.corrected is None or verdict.test == "welch":
        return "untested"
    return "undecided" if not verdict.significant else "ahead" if verdict.direction > 0 else "behind"


def _cost_ratio(cells: Sequence[Mapping[str, MethodRow]], first: str, other: str) -> float | None:
    """The cost of the other complete search as a multiple of the first one's: geometric mean over the cells in which both are complete."""
    ratios = []
    for found in cells:
        rows = [found[name] for name in (first, other) if name in found]
        if len(rows) < 2 or any(row.incomplete for row in rows):
            continue
        # FLOPs as soon as one of the two shared its device.
        unit: Unit = "seconds" if all(unit_of(row.searches) == "seconds" for row in rows) else "flops"
        (one, _), (two, _) = (per_seed(row.searches, unit) for row in rows)
        if one.mean and two.mean:
            ratios.append(two.mean / one.mean)
    return math.exp(math.fsum(map(math.log, ratios)) / len(ratios)) if ratios else None


_VERBS: dict[Outcome, tuple[str, str]] = {
    "ahead": ("improves on the unmodified model", "improve on the unmodified model"),
    "behind": ("is worse than the unmodified model", "are worse than the unmodified model"),
    "undecided": ("shows no significant gain", "show no significant gain"),
    "equal": ("changes no score", "change no score"),
}
"""Of a method compared with the unmodified model, in the singular and in the plural."""


def _gains_texts(gains: Mapping[str, Outcome], basis: str) -> Iterator[str]:
    by = _grouped(gains)
    for outcome, verbs in _VERBS.items():
        if outcome in by:
            yield f"{joined(by[outcome])} {verbs[len(by[outcome]) > 1]}"
    if "untested" in by:
        yield f"{joined(by['untested'])} cannot be tested on {basis}"


def _costs_text(costs: Mapping[str, float], first: str) -> Iterator[str]:
    if costs:
        largest = sorted(costs.items(), key=lambda item: -item[1])
        parts = [f"{ratio_number(ratio)} ({name})" for name, ratio in largest]
        yield f"tuning costs {joined(parts)} times that of {first}"


def ratio_number(ratio: float) -> str:
    """A ratio with three significant digits and no exponent: 139, 11.5, 0.0123."""
    digits = 2 - math.floor(math.log10(ratio)) if ratio > 0 else 0
    return f"{round(ratio, digits):,.{max(0, digits)}f}"


def _grouped(outcomes: Mapping[str, Outcome]) -> dict[Outcome, list[str]]:
    found: dict[Outcome, list[str]] = {}
    for name, outcome in outcomes.items():
        found.setdefault(outcome, []).append(name)
    return found


def joined(words: Sequence[str]) -> str:
    """`A`, `A and B`, `A, B and C`."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)

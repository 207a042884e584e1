"""How much SAP's alpha matters: the curve, the range in which it is good, and what is lost when it is taken from another cell."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.store.results import CellResult, SearchResult
from analysis.store.selection_rule import best, score_column
from analysis.store.stats import Summary, summarise

ALPHA = "alpha"
TOLERANCE = 0.01
"""Settings whose mean test score is at most so much below the best one's are good: a point of accuracy."""


@dataclass(frozen=True)
class AlphaCurve:
    """One space's scores by alpha, smallest first, the other fields fixed."""

    method: str
    space: str | None
    others: str  # the fixed fields that differ between the curves of a space: "num_trusted 200"; empty where there is one curve
    alphas: tuple[float, ...]
    test: tuple[Summary, ...]  # over the seeds
    val: tuple[Summary, ...]  # on the given validation labels


@dataclass(frozen=True)
class GoodRange:
    """The alphas around the best one whose means are within WITHIN of it."""

    best: float
    low: float
    high: float
    count: int
    open_low: bool  # the range begins at the space's smallest alpha, so it may go on
    open_high: bool

    @property
    def width(self) -> float:
        """Largest alpha over smallest."""
        return self.high / self.low


@dataclass(frozen=True)
class Transfer:
    """What one cell loses with the alpha that was tuned on another."""

    origin: str
    cell: str
    alpha: float | None  # None: the other cell keeps its unmodified model
    loss: float


def alpha_curves(cell: CellResult) -> tuple[AlphaCurve, ...]:
    """The curves of the cell's spaces with at least three alphas."""
    found = []
    for (method, space), searches in cell.methods.items():
        for others, rows in _groups(searches):
            alphas = sorted(rows[ALPHA].unique())
            if len(alphas) >= 3:
                points = [rows[rows[ALPHA] == alpha] for alpha in alphas]
                scores = [
                    tuple(summarise(point[score_column(rule, cell.measure)].astype(float)) for point in points)
                    for rule in ("test_oracle", "val_noisy")
                ]
                found.append(AlphaCurve(method, space, others, tuple(map(float, alphas)), *scores))
    return tuple(found)


def good_range(curve: AlphaCurve) -> GoodRange | None:
    """None when no alpha has a score."""
    means = np.array([np.nan if point.mean is None else point.mean for point in curve.test])
    if np.isnan(means).all():
        return None
    top = int(np.nanargmax(means))
    good = means >= means[top] - TOLERANCE - 1e-12
    low = top - sum(1 for _ in itertools.takewhile(bool, good[:top][::-1]))
    high = top + sum(1 for _ in itertools.takewhile(bool, good[top + 1 :]))
    last = len(means) - 1
    return GoodRange(curve.alphas[top], curve.alphas[low], curve.alphas[high], high - low + 1, low == 0, high == last)


def transfers(cells: Sequence[CellResult], method: str, space: str | None, rule: str = "val_noisy") -> tuple[Transfer, ...]:
    """For every pair of cells: alpha is chosen on one, by its mean validation score over the seeds, and used on the other.

    The loss is the mean test score of what the cell's own searches choose (seed by seed) minus that of the other cell's alpha.
    Only spaces in which nothing but alpha varies, and cells in which the alpha was tried.
    """
    swept = [(cell, searches) for cell in cells if (searches := cell.methods.get((method, space))) and len(_groups(searches)) == 1]
    chosen = {cell.name: _pooled(searches, rule) for cell, searches in swept}
    found = []
    for cell, searches in swept:
        test = score_column("test_oracle", cell.measure)
        own = summarise(None if (row := search.choose(rule).row) is None else float(row[test]) for search in searches).mean
        (_, rows) = _groups(searches)[0]
        unmodified = summarise(float(search.vanilla[test]) for search in searches if search.vanilla is not None).mean
        for origin, alpha in chosen.items():
            there = unmodified if alpha is None else summarise(rows.loc[rows[ALPHA] == alpha, test].astype(float)).mean
            if origin != cell.name and own is not None and there is not None:
                found.append(Transfer(origin, cell.name, alpha, own - there))
    return tuple(found)


def _pooled(searches: Sequence[SearchResult], rule: str) -> float | None:
    """The alpha with the highest mean validation score over the seeds; None when the unmodified models' mean is as high."""
    column = score_column(rule, searches[0].measure)
    (_, rows) = _groups(searches)[0]
    means = rows.groupby("position")[column].mean()
    unmodified = summarise(float(search.vanilla[column]) for search in searches if search.vanilla is not None).mean
    place = best(float("nan") if unmodified is None else unmodified, means.tolist())
    return None if place is None else float(rows.loc[rows["position"] == means.index[place], ALPHA].iloc[0])


def _groups(searches: Sequence[SearchResult]) -> list[tuple[str, pd.DataFrame]]:
    """The ok rows of all seeds with their alpha, apart by the other fields; empty where a space has no alpha."""
    rows = pd.concat([search.rows[search.rows["status"] == "ok"] for search in searches])
    settings = [json.loads(text) for text in rows["settings"]]
    if not settings or not all(ALPHA in setting for setting in settings):
        return []
    fields = [name for name in settings[0] if name != ALPHA and len({json.dumps(setting.get(name)) for setting in settings}) > 1]
    told = [", ".join(f"{name} {setting.get(name)}" for name in fields) for setting in settings]
    rows = rows.assign(alpha=[float(setting[ALPHA]) for setting in settings], others=told)
    return [(str(others), part) for others, part in rows.groupby("others", sort=False)]

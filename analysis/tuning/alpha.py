"""Sensitivity to SAP's alpha: score by alpha, the range of good values, and the loss if alpha is transferred from another cell."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.store.results import CellResult, SearchResult
from analysis.store.selection_rule import best, score_column
from analysis.store.stats import TOLERANCE as ROUNDING
from analysis.store.stats import Summary, difference, summarise

ALPHA = "alpha"
"""Name of the hyperparameter."""

TOLERANCE = 0.01
"""An alpha is good if its mean test score is at most this much below the best one's: one point of accuracy."""


@dataclass(frozen=True)
class AlphaCurve:
    """The scores of one space by alpha, with all other hyperparameters fixed."""

    method: str
    space: str | None
    others: str  # the fixed hyperparameters that tell the curves of a space apart: "num_trusted 200"; empty for a single curve
    alphas: tuple[float, ...]  # ascending
    test: tuple[Summary, ...]  # test scores, over the seeds
    val: tuple[Summary, ...]  # scores on the given validation labels, over the seeds


@dataclass(frozen=True)
class GoodRange:
    """The contiguous range of good alphas around the best one (see `TOLERANCE`)."""

    best: float
    low: float
    high: float
    count: int  # alphas of the space in the range
    open_low: bool  # the range starts at the smallest alpha of the space, so the true range may be wider
    open_high: bool

    @property
    def width(self) -> float:
        """Largest alpha over smallest."""
        return self.high / self.low


@dataclass(frozen=True)
class Transfer:
    """The test score that one cell loses with the alpha that was tuned on another cell."""

    origin: str  # the cell on which alpha was tuned
    cell: str  # the cell on which it is used
    alpha: float | None  # None if the origin keeps its unmodified model
    loss: float


def alpha_curves(cell: CellResult) -> tuple[AlphaCurve, ...]:
    """The curves of all spaces of the cell with at least three alphas."""
    found = []
    for (method, space), searches in cell.methods.items():
        # One curve for each combination of the other hyperparameters.
        for others, rows in _groups(searches):
            alphas = sorted(rows[ALPHA].unique())
            # Two points make no curve.
            if len(alphas) >= 3:
                points = [rows[rows[ALPHA] == alpha] for alpha in alphas]
                scores = [
                    tuple(summarise(point[score_column(rule, cell.measure)].astype(float)) for point in points)
                    for rule in ("test_oracle", "val_noisy")
                ]
                found.append(AlphaCurve(method, space, others, tuple(map(float, alphas)), *scores))
    return tuple(found)


def good_range(curve: AlphaCurve) -> GoodRange | None:
    """The range of good alphas; None if no alpha has a score."""
    means = np.array([np.nan if point.mean is None else point.mean for point in curve.test])
    if np.isnan(means).all():
        return None
    # Of equal maxima the smallest alpha, equal up to rounding.
    top = int(np.flatnonzero(means >= np.nanmax(means) - ROUNDING)[0])
    # A mean that is exactly TOLERANCE below counts, whatever its last bits.
    good = means >= means[top] - TOLERANCE - ROUNDING
    # Contiguous: a good alpha beyond a bad one does not widen the range, because a coarse search between them would miss it.
    low = top - sum(1 for _ in itertools.takewhile(bool, good[:top][::-1]))
    high = top + sum(1 for _ in itertools.takewhile(bool, good[top + 1 :]))
    last = len(means) - 1
    return GoodRange(curve.alphas[top], curve.alphas[low], curve.alphas[high], high - low + 1, low == 0, high == last)


def transfers(cells: Sequence[CellResult], method: str, space: str | None, rule: str = "val_noisy") -> tuple[Transfer, ...]:
    """The loss for every ordered pair of cells: alpha is tuned on one cell, by its mean validation score, and used on the other.

    The loss is the mean test score of the settings that the cell's own searches select (seed by seed) minus the mean test score of the
    transferred alpha. Covers spaces in which only alpha varies, and cells in which the transferred alpha was tried.
    """
    # With further hyperparameters one alpha would be several settings, and the transfer would not be of alpha alone.
    # Where every setting failed, nothing is known of any alpha.
    swept = [
        (cell, searches)
        for cell in cells
        if (searches := cell.methods.get((method, space)))
        and len(_groups(searches)) == 1
        and any((search.rows["status"] == "ok").any() for search in searches)
    ]
    chosen = {cell.name: _pooled(searches, rule) for cell, searches in swept}
    found = []
    for cell, searches in swept:
        test = score_column("test_oracle", cell.measure)
        # The comparison is with what a user of this cell would get: each seed's own search, the unmodified model a candidate.
        own = summarise(None if (row := search.choose(rule).row) is None else float(row[test]) for search in searches).mean
        (_, rows) = _groups(searches)[0]
        unmodified = summarise(float(search.vanilla[test]) for search in searches if search.vanilla is not None).mean
        for origin, alpha in chosen.items():
            # An origin that keeps its unmodified model transfers the advice not to correct.
            transferred = unmodified if alpha is None else summarise(rows.loc[rows[ALPHA] == alpha, test].astype(float)).mean
            if origin != cell.name and own is not None and transferred is not None:
                found.append(Transfer(origin, cell.name, alpha, difference(own, transferred)))
    return tuple(found)


def _pooled(searches: Sequence[SearchResult], rule: str) -> float | None:
    """The alpha with the highest mean validation score over the seeds; None if the unmodified models have at least that mean."""
    column = score_column(rule, searches[0].measure)
    (_, rows) = _groups(searches)[0]
    # By position, so that ties go to the earlier alpha of the space, as in the selection rule.
    means = rows.groupby("position")[column].mean()
    unmodified = summarise(float(search.vanilla[column]) for search in searches if search.vanilla is not None).mean
    # Without rounding errors, so that equal means are a tie.
    index = best(float("nan") if unmodified is None else round(unmodified, 9), [round(mean, 9) for mean in means.tolist()])
    return None if index is None else float(rows.loc[rows["position"] == means.index[index], ALPHA].iloc[0])


def _groups(searches: Sequence[SearchResult]) -> list[tuple[str, pd.DataFrame]]:
    """The ok rows of all seeds with a column `alpha`, grouped by the other hyperparameters; empty for a space without alpha."""
    # A diverged setting has no score at its alpha.
    rows = pd.concat([search.rows[search.rows["status"] == "ok"] for search in searches])
    settings = [json.loads(text) for text in rows["settings"]]
    if not settings or not all(ALPHA in setting for setting in settings):
        return []
    # Fields that are the same in all settings do not tell curves apart, and would only lengthen labels.
    fields = [name for name in settings[0] if name != ALPHA and len({json.dumps(setting.get(name)) for setting in settings}) > 1]
    others = [", ".join(f"{name} {setting.get(name)}" for name in fields) for setting in settings]
    rows = rows.assign(alpha=[float(setting[ALPHA]) for setting in settings], others=others)
    return [(str(others), part) for others, part in rows.groupby("others", sort=False)]

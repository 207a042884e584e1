"""The noise as it fell: which label the training samples of each true class were given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.plots import style as ink
from analysis.store.load import Results, series_by_prefix
from analysis.store.results import cells
from analysis.tables.notes import noise_words

PREFIX = "transition/"
WRITTEN = 12
"""Matrices with at most so many classes have their numbers written in."""


@dataclass(frozen=True)
class Matrix:
    """One noise on one data set; the first seed's training split."""

    title: str
    seed: int
    counts: np.ndarray  # [true class, given class]

    @property
    def shares(self) -> np.ndarray:
        """Rows that sum to one (to zero, where a class has no sample)."""
        sums: np.ndarray = self.counts.sum(axis=1, keepdims=True)
        return np.divide(self.counts, sums, out=np.zeros_like(self.counts), where=sums > 0)


def numbers(results: Results) -> tuple[Matrix, ...]:
    """One matrix per data set, kind and rate of noise whose transitions are known."""
    points = series_by_prefix(results, PREFIX)
    if points.empty:
        return ()
    found: dict[str, Matrix] = {}
    for cell in cells(results):
        for baseline in cell.baselines:
            mine = points[points["run_id"] == baseline.baseline_id]
            if baseline.row is None or mine.empty:
                continue
            title = f"{baseline.row['dataset']}, {noise_words(baseline.row)}"
            if title not in found:
                true = mine["name"].str.removeprefix(PREFIX).astype(int).to_numpy()
                given = mine["step"].to_numpy(dtype=int)
                counts = np.zeros((max(true.max(), given.max()) + 1,) * 2)
                counts[true, given] = mine["value"].to_numpy(dtype=float)
                found[title] = Matrix(title, baseline.seed, counts)
    return tuple(found.values())


def draw(results: Results, page: ink.Page = ink.TWO) -> ink.Figure | None:
    """The figure; None when the store knows no transitions."""
    found = numbers(results)
    if not found:
        return None
    figure, axes = ink.panels(len(found), page, height=0.92, across=page.across)
    for axis, matrix in zip(axes, found, strict=True):
        shares = 100 * matrix.shares
        image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        axis.grid(visible=False)
        if len(shares) <= WRITTEN:
            for (true, given), share in np.ndenumerate(shares):
                if share > 0:
                    shade = "white" if share > 55 else "black"
                    axis.text(
                        given, true, f"{share:.0f}" if share >= 0.5 else "<1", ha="center", va="center", fontsize=page.size - 2, color=shade
                    )
            axis.set_xticks(range(len(shares)))
            axis.set_yticks(range(len(shares)))
        axis.set_xlabel("Given label")
        axis.set_ylabel("True class")
    ink.headings(figure, "Given labels of each true class", [f"{matrix.title}; seed {matrix.seed}" for matrix in found], page)
    if max(len(matrix.counts) for matrix in found) > WRITTEN:
        figure.colorbar(image, ax=axes, label="Share of the class (%)", fraction=0.03)
    else:
        ink.note_below(figure, "Share of each true class in percent; nothing is written where no sample is", page)
    return figure

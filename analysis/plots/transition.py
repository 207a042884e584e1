"""Figure `transition`: the empirical transition matrix of the label noise, from true class to given label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.plots import figures
from analysis.store.labels import dataset_label
from analysis.store.load import Results, series_by_prefix
from analysis.store.results import cells
from analysis.tables.notes import noise_title

PREFIX = "transition/"
MAX_ANNOTATED = 12
"""The largest number of classes for which the entries are printed as numbers."""


@dataclass(frozen=True)
class TransitionMatrix:
    """The noise on the training split of one data set, for the first seed."""

    title: str
    seed: int
    counts: np.ndarray  # [true class, given class]

    @property
    def shares(self) -> np.ndarray:
        """The counts with rows normalised to one; the row of a class without samples is zero."""
        sums: np.ndarray = self.counts.sum(axis=1, keepdims=True)
        return np.divide(self.counts, sums, out=np.zeros_like(self.counts), where=sums > 0)


def numbers(results: Results) -> tuple[TransitionMatrix, ...]:
    """Computes one matrix per data set, noise and noise rate whose true labels are known."""
    points = series_by_prefix(results, PREFIX)
    if points.empty:
        return ()
    found: dict[str, TransitionMatrix] = {}
    for cell in cells(results):
        for baseline in cell.baselines:
            own = points[points["run_id"] == baseline.baseline_id]
            if baseline.row is None or own.empty:
                continue
            title = f"{dataset_label(str(baseline.row['dataset']))}, {noise_title(baseline.row)}"
            # Noise does not depend on the network, so one matrix represents all cells of a data set and noise.
            if title not in found:
                true = own["name"].str.removeprefix(PREFIX).astype(int).to_numpy()
                given = own["step"].to_numpy(dtype=int)
                # A class may occur only as a true or only as a given label.
                counts = np.zeros((max(true.max(), given.max()) + 1,) * 2)
                counts[true, given] = own["value"].to_numpy(dtype=float)
                found[title] = TransitionMatrix(title, baseline.seed, counts)
    return tuple(found.values())


def draw(results: Results, page: figures.PageWidth = figures.TWO_COLUMNS) -> figures.Figure | None:
    """Draws the figure; None if the store has no transition counts."""
    found = numbers(results)
    if not found:
        return None
    figure, axes = figures.panels(len(found), page, height=0.92, across=page.max_panels)
    for axis, matrix in zip(axes, found, strict=True):
        shares = 100 * matrix.shares
        # Fixed limits, so that panels can be compared.
        image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        axis.grid(visible=False)
        if len(shares) <= MAX_ANNOTATED:
            for (true, given), share in np.ndenumerate(shares):
                if share > 0:
                    # Readable on the dark end of the colour map.
                    shade = "white" if share > 55 else "black"
                    axis.text(
                        given,
                        true,
                        f"{share:.0f}" if share >= 0.5 else "<1",
                        ha="center",
                        va="center",
                        fontsize=7,
                        color=shade,
                    )
            axis.set_xticks(range(len(shares)))
            axis.set_yticks(range(len(shares)))
        axis.set_xlabel("Given label")
        axis.set_ylabel("True class")
    figures.set_titles(figure, "Label noise: given labels by true class", [f"{matrix.title}; seed {matrix.seed}" for matrix in found], page)
    # With printed numbers a colour bar would repeat them.
    if max(len(matrix.counts) for matrix in found) > MAX_ANNOTATED:
        figure.colorbar(image, ax=axes, label="Share of the class (%)", fraction=0.03)
    else:
        figures.note_below(figure, "Percent of each true class; empty entries have no sample", page)
    return figure

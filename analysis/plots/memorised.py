"""Figure `memorised`: shares of the mislabelled training samples predicted as their given label, their true label, or another class."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from analysis.plots import figures
from analysis.store.labels import counted, method_label
from analysis.store.load import Results
from analysis.store.results import cells
from analysis.store.stats import summarise
from analysis.tables.notes import cell_title
from analysis.tuning.headline import RULE
from sap_core.records import VANILLA

OUTCOMES = ("given label (memorised)", "true label (corrected)", "another class")


@dataclass(frozen=True)
class PredictionShares:
    """Shares of the mislabelled training samples by predicted class, mean over the seeds; they sum to one."""

    name: str
    given: float
    true: float

    @property
    def other(self) -> float:
        # A difference of two means may be slightly negative.
        return max(0.0, 1.0 - self.given - self.true)


@dataclass(frozen=True)
class MemorisedPanel:
    """The bars of one cell: the unmodified models, then the selected setting of each search."""

    title: str
    seeds: int
    bars: tuple[PredictionShares, ...]


def numbers(results: Results) -> tuple[MemorisedPanel, ...]:
    """Computes one panel per cell whose mislabelled samples are known."""
    found = []
    for cell in cells(results):
        named = [(f"{method_label(VANILLA)} (before)", [baseline.row for baseline in cell.baselines])]
        named += [
            (method_label(method, space), [search.choose(RULE).row for search in searches])
            for (method, space), searches in cell.methods.items()
        ]
        bars = tuple(shares for name, rows in named if (shares := _shares(name, rows)) is not None)
        # without the unmodified model there is no comparison
        if len(bars) > 1 and bars[0].name.startswith(method_label(VANILLA)):
            found.append(MemorisedPanel(cell_title(cell), len(cell.seeds), bars))
    return tuple(found)


def _shares(name: str, rows: Iterable[pd.Series | None]) -> PredictionShares | None:
    known = [row for row in rows if row is not None]
    given = summarise(row["mislabelled_given_acc"] for row in known).mean
    true = summarise(row["mislabelled_true_acc"] for row in known).mean
    return None if given is None or true is None else PredictionShares(name, given, true)


def draw(results: Results, page: figures.PageWidth = figures.TWO_COLUMNS) -> figures.Figure | None:
    """Draws the figure; None if the true labels are unknown."""
    found = numbers(results)
    if not found:
        return None
    most = max(len(panel.bars) for panel in found)
    figure, axes = figures.panels(
        len(found), page, height=max(0.3, (0.048 if page.max_panels > 1 else 0.065) * most), across=min(2, page.max_panels)
    )
    for axis, panel in zip(axes, found, strict=True):
        left = [0.0] * len(panel.bars)
        for index, (label, fill, hatch) in enumerate(zip(OUTCOMES, ("#D55E00", "#56B4E9", "#D9D9D9"), ("////", "", "...."), strict=True)):
            # Hatched as well as coloured, for print in grey.
            values = [100 * (bar.given, bar.true, bar.other)[index] for bar in panel.bars]
            axis.barh(
                range(len(panel.bars)), values, left=left, color=fill, hatch=hatch, edgecolor="white", linewidth=0, height=0.7, label=label
            )
            # Stacked: the three shares of a bar add up to one.
            left = [before + value for before, value in zip(left, values, strict=True)]
        axis.set_yticks(range(len(panel.bars)), [bar.name for bar in panel.bars])
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
        axis.set_xlim(0, 100)
        axis.set_xlabel("Mislabelled training samples (%)")
    subtitles = [f"{panel.title}; mean over {counted(panel.seeds, 'seed')}" for panel in found]
    figures.set_titles(figure, "Predictions on mislabelled training samples", subtitles, page, room=1.9)
    figures.legend_below(figure, f"Predicted class; setting selected by {RULE}", page, columns=3)
    return figure

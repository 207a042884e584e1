"""What becomes of wrong labels: of the wrongly labelled training samples, those predicted as given, as they truly are, and otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from analysis.plots import style as ink
from analysis.store.labels import counted, method_label
from analysis.store.load import Results
from analysis.store.results import cells
from analysis.store.stats import summarise
from analysis.tables.notes import cell_title
from analysis.tuning.headline import RULE
from sap_core.records import VANILLA

KINDS = ("as given (memorised)", "as true (repaired)", "as another class")


@dataclass(frozen=True)
class Fate:
    """Shares of the wrongly labelled training samples, mean over the seeds; they sum to one."""

    name: str
    as_given: float
    as_true: float

    @property
    def otherwise(self) -> float:
        return max(0.0, 1.0 - self.as_given - self.as_true)


@dataclass(frozen=True)
class FatePanel:
    """One cell: the unmodified models, then what each search chose."""

    title: str
    seeds: int
    bars: tuple[Fate, ...]


def numbers(results: Results) -> tuple[FatePanel, ...]:
    """One panel per cell whose wrong labels are known."""
    found = []
    for cell in cells(results):
        named = [(f"{method_label(VANILLA)} (before)", [baseline.row for baseline in cell.baselines])]
        named += [
            (method_label(method, space), [search.choose(RULE).row for search in searches])
            for (method, space), searches in cell.methods.items()
        ]
        bars = tuple(fate for name, rows in named if (fate := _fate(name, rows)) is not None)
        if len(bars) > 1 and bars[0].name.startswith(method_label(VANILLA)):
            found.append(FatePanel(cell_title(cell), len(cell.seeds), bars))
    return tuple(found)


def _fate(name: str, rows: Iterable[pd.Series | None]) -> Fate | None:
    there = [row for row in rows if row is not None]
    given = summarise(row["mislabelled_given_acc"] for row in there).mean
    true = summarise(row["mislabelled_true_acc"] for row in there).mean
    return None if given is None or true is None else Fate(name, given, true)


def draw(results: Results, page: ink.Page = ink.TWO) -> ink.Figure | None:
    """The figure; None when nobody knows which labels are wrong."""
    found = numbers(results)
    if not found:
        return None
    most = max(len(panel.bars) for panel in found)
    figure, axes = ink.panels(len(found), page, height=max(0.3, (0.048 if page.across > 1 else 0.065) * most), across=min(2, page.across))
    for axis, panel in zip(axes, found, strict=True):
        left = [0.0] * len(panel.bars)
        for turn, (kind, fill, hatch) in enumerate(zip(KINDS, ("#D55E00", "#56B4E9", "#D9D9D9"), ("////", "", "...."), strict=True)):
            values = [100 * (bar.as_given, bar.as_true, bar.otherwise)[turn] for bar in panel.bars]
            axis.barh(
                range(len(panel.bars)), values, left=left, color=fill, hatch=hatch, edgecolor="white", linewidth=0, height=0.7, label=kind
            )
            left = [before + value for before, value in zip(left, values, strict=True)]
        axis.set_yticks(range(len(panel.bars)), [bar.name for bar in panel.bars])
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
        axis.set_xlim(0, 100)
        axis.set_xlabel("Wrongly labelled training samples (%)")
    subtitles = [f"{panel.title}; mean over {counted(panel.seeds, 'seed')}" for panel in found]
    ink.headings(figure, "Wrong labels before and after correction", subtitles, page, room=1.9)
    ink.legend_below(figure, f"Predicted as; of the setting that {RULE} chooses", page, columns=3)
    return figure

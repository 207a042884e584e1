"""FLOPs of one setting, of a whole search as spent and one by one, and of training the baseline: they do not depend on the machine."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.plots import style as ink
from analysis.store.labels import counted, method_label
from analysis.store.load import Results
from analysis.store.results import CellResult, cells
from analysis.store.stats import summarise
from analysis.tables.notes import cell_title

KINDS = ("one setting by itself", "whole search, as spent", "whole search, one by one")
GIGA = 1e-9


@dataclass(frozen=True)
class Compute:
    """One search, or the baseline's training; GFLOP, means over the seeds. None where it is not known, or does not apply."""

    name: str
    one: float | None
    shared: float | None
    alone: float | None


@dataclass(frozen=True)
class ComputePanel:
    """One cell."""

    title: str
    seeds: int
    bars: tuple[Compute, ...]


def numbers(results: Results) -> tuple[ComputePanel, ...]:
    """One panel per cell whose searches know their FLOPs."""
    found = []
    for cell in cells(results):
        bars = _bars(cell)
        if any(bar.shared is not None for bar in bars):
            found.append(ComputePanel(cell_title(cell), len(cell.seeds), bars))
    return tuple(found)


def _bars(cell: CellResult) -> tuple[Compute, ...]:
    trained = summarise(None if baseline.row is None else baseline.row["flops"] for baseline in cell.baselines).times(GIGA).mean
    bars = [] if trained is None else [Compute("Training of the baseline", trained, None, None)]
    for (method, space), searches in cell.methods.items():
        one = summarise(summarise(search.rows["standalone_flops"].astype(float)).mean for search in searches).times(GIGA).mean
        shared = summarise(float(search.rows["flops"].sum(min_count=1)) for search in searches).times(GIGA).mean
        alone = summarise(float(search.rows["standalone_flops"].sum(min_count=1)) for search in searches).times(GIGA).mean
        several = max(len(search.planned) for search in searches) > 1
        bars.append(Compute(method_label(method, space), one, *((shared, alone) if several else (None, None))))
    return tuple(bars)


def draw(results: Results, page: ink.Page = ink.TWO) -> ink.Figure | None:
    """The figure; None when no row knows its FLOPs."""
    found = numbers(results)
    if not found:
        return None
    most = max(len(panel.bars) for panel in found)
    figure, axes = ink.panels(len(found), page, height=max(0.4, (0.075 if page.across > 1 else 0.1) * most), across=min(2, page.across))
    for axis, panel in zip(axes, found, strict=True):
        for turn, (kind, fill, hatch) in enumerate(zip(KINDS, ink.FILLS, ink.HATCHES, strict=False)):
            places = [place + 0.27 * (turn - 1) for place in range(len(panel.bars))]
            values = [(bar.one, bar.shared, bar.alone)[turn] or 0.0 for bar in panel.bars]
            axis.barh(places, values, height=0.25, color=fill, hatch=hatch, edgecolor="white", linewidth=0, label=kind)
        axis.set_xscale("log")
        axis.set_yticks(range(len(panel.bars)), [bar.name for bar in panel.bars])
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
        axis.set_xlabel("GFLOP (each line is a factor of ten)")
    ink.headings(figure, "Compute", [f"{panel.title}; mean over {counted(panel.seeds, 'seed')}" for panel in found], page, room=1.9)
    ink.legend_below(
        figure, "Own work and preparation, scoring on the validation set included; one setting: mean over the space", page, columns=3
    )
    return figure

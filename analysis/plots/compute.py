"""Figure `compute`: FLOPs of one setting, of a complete search (amortised and standalone), and of training the baseline."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.plots import figures
from analysis.store.labels import counted, method_label
from analysis.store.load import Results
from analysis.store.results import CellResult, cells
from analysis.store.stats import summarise
from analysis.tables.notes import cell_title

BARS = ("one setting, standalone", "complete search, amortised", "complete search, standalone")
GIGA = 1e-9


@dataclass(frozen=True)
class ComputeBars:
    """Mean GFLOP over the seeds of one search, or of training the baseline; None if not recorded or not applicable."""

    name: str
    setting: float | None
    amortised: float | None
    standalone: float | None


@dataclass(frozen=True)
class ComputePanel:
    """The bars of one cell."""

    title: str
    seeds: int
    bars: tuple[ComputeBars, ...]


def numbers(results: Results) -> tuple[ComputePanel, ...]:
    """Computes one panel per cell whose searches record FLOPs."""
    found = []
    for cell in cells(results):
        bars = _bars(cell)
        if any(bar.amortised is not None for bar in bars):
            found.append(ComputePanel(cell_title(cell), len(cell.seeds), bars))
    return tuple(found)


def _bars(cell: CellResult) -> tuple[ComputeBars, ...]:
    # Training is drawn beside the corrections, whose point is to be cheaper than it.
    trained = summarise(None if baseline.row is None else baseline.row["flops"] for baseline in cell.baselines).times(GIGA).mean
    bars = [] if trained is None else [ComputeBars("Training of the baseline", trained, None, None)]
    for (method, space), searches in cell.methods.items():
        # The mean over the settings of each seed first, so that every seed has the same weight.
        setting = summarise(summarise(search.rows["standalone_flops"].astype(float)).mean for search in searches).times(GIGA).mean
        amortised = summarise(float(search.rows["flops"].sum(min_count=1)) for search in searches).times(GIGA).mean
        standalone = summarise(float(search.rows["standalone_flops"].sum(min_count=1)) for search in searches).times(GIGA).mean
        # for a single setting the three bars would be equal
        several = max(len(search.planned) for search in searches) > 1
        bars.append(ComputeBars(method_label(method, space), setting, *((amortised, standalone) if several else (None, None))))
    return tuple(bars)


def draw(results: Results, page: figures.PageWidth = figures.TWO_COLUMNS) -> figures.Figure | None:
    """Draws the figure; None if no row records FLOPs."""
    found = numbers(results)
    if not found:
        return None
    most = max(len(panel.bars) for panel in found)
    figure, axes = figures.panels(
        len(found), page, height=max(0.4, (0.075 if page.max_panels > 1 else 0.1) * most), across=min(2, page.max_panels)
    )
    for axis, panel in zip(axes, found, strict=True):
        for position, bar in enumerate(panel.bars):
            known = [value for value in (bar.setting, bar.amortised, bar.standalone) if value]
            if len(known) > 1:
                axis.plot([min(known), max(known)], [position, position], color="0.75", linewidth=1, zorder=1)
        # Points rather than bars, whose length means nothing on a logarithmic axis.
        for index, (label, fill, marker) in enumerate(zip(BARS, figures.FILLS, "osD", strict=False)):
            values = [((bar.setting, bar.amortised, bar.standalone)[index], position) for position, bar in enumerate(panel.bars)]
            points = [(value, position) for value, position in values if value]
            face = {"markerfacecolor": "white"} if index == 0 else {}
            axis.plot(*zip(*points, strict=True), marker=marker, color=fill, linestyle="none", markersize=5, label=label, **face)
        # One setting and a complete search differ by orders of magnitude.
        axis.set_xscale("log")
        axis.set_yticks(range(len(panel.bars)), [bar.name for bar in panel.bars])
        axis.set_ylim(-0.5, len(panel.bars) - 0.5)
        # The first row at the top, as in the tables.
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
        axis.set_xlabel("GFLOP (logarithmic)")
    figures.set_titles(
        figure,
        "Compute of training and correction",
        [f"{panel.title}; mean over {counted(panel.seeds, 'seed')}" for panel in found],
        page,
        room=1.9,
    )
    figures.legend_below(
        figure, "Including preparation and evaluation on the validation set; one setting: mean over the search space", page, columns=3
    )
    return figure

"""Test accuracy by how the trusted samples are chosen: lowest loss, at random, verified, lowest curvature, and what is skipped."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from analysis.plots import style as ink
from analysis.store.labels import MEASURES, counted, method_label
from analysis.store.load import Results
from analysis.store.results import CellResult, SearchResult, cells
from analysis.store.selection_rule import score_column
from analysis.store.stats import Summary, summarise
from analysis.tables.notes import cell_title
from analysis.tuning.headline import RULE

FIELDS = ("trusted", "skip", "class_balanced")
"""The fields of SAP that say how samples are chosen."""


@dataclass(frozen=True)
class Strategy:
    """One way to choose: the best of its settings under the rule, over the seeds."""

    name: str  # "loss", "curvature, skip 25 %"
    test: Summary
    precision: Summary  # share of the trusted samples whose label is true
    tuned: int  # settings among which it was chosen


@dataclass(frozen=True)
class StrategyPanel:
    """One space of one cell, or several that are a way each."""

    title: str
    space: str
    measure: str
    seeds: int
    vanilla: Summary
    bars: tuple[Strategy, ...]


def numbers(results: Results) -> tuple[StrategyPanel, ...]:
    """One panel per cell and space in which the way of choosing varies, and one for spaces of a method that are a way each.

    The latter are compared with those that have as many settings: tuned ones with tuned ones.
    """
    return tuple(panel for cell in cells(results) for panel in _panels(cell))


def _panels(cell: CellResult) -> Iterator[StrategyPanel]:
    ways: dict[tuple[str, int], list[tuple[str, Strategy]]] = {}
    for (method, space), searches in cell.methods.items():
        bars = _bars(searches)
        if len(bars) > 1:
            yield _panel(cell, method_label(method, space), bars)
        elif bars:
            ways.setdefault((method, bars[0].tuned), []).append((space or "", bars[0]))
    for (method, tuned), found in ways.items():
        times = Counter(bar.name for _, bar in found)
        if len(times) > 1:
            named = tuple(bar if times[bar.name] == 1 else replace(bar, name=f"{bar.name}, {space}") for space, bar in found)
            yield _panel(cell, f"{method_label(method, None)}, {counted(tuned, 'setting')} each", named)


def _panel(cell: CellResult, space: str, bars: tuple[Strategy, ...]) -> StrategyPanel:
    return StrategyPanel(cell_title(cell), space, cell.measure, len(cell.seeds), _vanilla(cell), bars)


def _vanilla(cell: CellResult) -> Summary:
    column = score_column("test_oracle", cell.measure)
    return summarise(None if baseline.row is None else float(baseline.row[column]) for baseline in cell.baselines)


def _bars(searches: Sequence[SearchResult]) -> tuple[Strategy, ...]:
    ways: dict[str, list[tuple[SearchResult, list[int]]]] = {}
    for search in searches:
        groups: dict[str, list[int]] = {}
        for place, text in enumerate(search.rows["settings"]):
            settings = json.loads(text)
            if "trusted" in settings:
                groups.setdefault(_name(settings), []).append(place)
        for name, places in groups.items():
            ways.setdefault(name, []).append((search, places))
    return tuple(_strategy(name, many) for name, many in ways.items())


def _name(settings: dict[str, object]) -> str:
    skip = settings.get("skip") or 0.0
    parts = [str(settings["trusted"]).replace("_", " ")]
    parts += [f"skip {100 * float(str(skip)):g} %"] if skip else []
    parts += ["balanced"] if settings.get("class_balanced") else []
    return ", ".join(parts)


def _strategy(name: str, many: Sequence[tuple[SearchResult, list[int]]]) -> Strategy:
    tests, right = [], []
    for search, places in many:
        rows = search.rows.iloc[places].reset_index(drop=True)
        row = replace(search, rows=rows).choose(RULE).row
        tests.append(None if row is None else float(row[score_column("test_oracle", search.measure)]))
        right.append(summarise(rows["trusted_label_precision"].astype(float)).mean)
    return Strategy(name, summarise(tests), summarise(right), max(len(places) for _, places in many))


def draw(results: Results, page: ink.Page = ink.TWO) -> ink.Figure | None:
    """The figure; None when the store has no two ways of choosing to compare."""
    found = numbers(results)
    if not found:
        return None
    most = max(len(panel.bars) for panel in found)
    height = max(0.3, (0.045 if page.across > 1 else 0.1) * most)
    figure, axes = ink.panels(len(found), page, height=height, across=1)  # names of ways are long
    for axis, panel in zip(axes, found, strict=True):
        _draw_panel(axis, panel)
    measure = MEASURES[found[0].measure]
    subtitles = [f"{panel.space}, {panel.title}; n = {counted(panel.seeds, 'seed')}" for panel in found]
    ink.headings(figure, f"Test {measure.name} by how trusted samples are chosen", subtitles, page, room=1.9)
    for axis in axes:
        axis.set_xlabel(f"Test {measure.name}" + (f" ({measure.unit})" if measure.unit else ""))
    how = (
        f"Best setting of each way under {RULE} (the unmodified model competes); mean ± 1 std over the seeds. "
        "In brackets: right labels among the trusted samples. Dotted: vanilla. The axis does not begin at zero."
    )
    ink.note_below(figure, how, page)
    return figure


def _draw_panel(axis: ink.Axes, panel: StrategyPanel) -> None:
    factor = MEASURES[panel.measure].factor
    means = [(bar.test.mean or 0.0) * factor for bar in panel.bars]
    spread = [(bar.test.std or 0.0) * factor for bar in panel.bars]
    everything = [mean - std for mean, std in zip(means, spread, strict=True)] + [(panel.vanilla.mean or means[0] / factor) * factor]
    low = min(everything) - 0.15 * (max(means) - min(everything) + 1e-3)
    for place, (mean, std) in enumerate(zip(means, spread, strict=True)):
        axis.barh(place, mean - low, left=low, xerr=std or None, color=ink.FILLS[0], height=0.66, error_kw={"elinewidth": 1, "capsize": 2})
    if panel.vanilla.mean is not None:
        axis.axvline(panel.vanilla.mean * factor, color=ink.TEXT_GREY, linestyle=(0, (1, 1.5)), linewidth=1)
    axis.set_yticks(range(len(panel.bars)), [_tick(bar) for bar in panel.bars])
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set_xlim(left=low)


def _tick(bar: Strategy) -> str:
    """`loss (98 %)`."""
    return bar.name if bar.precision.mean is None else f"{bar.name} ({100 * bar.precision.mean:.0f} %)"

"""Figure `strategies`: test accuracy by the strategy that selects SAP's trusted samples (loss, curvature, at random, verified)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from analysis.plots import figures
from analysis.store.labels import MEASURES, counted, method_label
from analysis.store.load import Results
from analysis.store.results import CellResult, SearchResult, cells
from analysis.store.selection_rule import score_column
from analysis.store.stats import Summary, summarise
from analysis.tables.notes import cell_title
from analysis.tuning.headline import RULE

FIELDS = ("trusted", "skip", "class_balanced")
"""The hyperparameters of SAP that make up a strategy."""


@dataclass(frozen=True)
class Strategy:
    """One strategy: its selected setting, summarised over the seeds."""

    name: str  # "loss", "curvature, skip 25 %"
    test: Summary
    precision: Summary  # share of correct labels among the trusted samples
    num_settings: int  # among which it was selected
    gains: tuple[float, ...] = ()  # over the unmodified model, by seed


@dataclass(frozen=True)
class StrategyPanel:
    """The strategies of one space of one cell, or of several spaces with one strategy each."""

    title: str
    space: str
    measure: str
    seeds: int
    vanilla: Summary
    bars: tuple[Strategy, ...]


def numbers(results: Results) -> tuple[StrategyPanel, ...]:
    """Computes one panel per cell and space that varies the strategy, and one per method whose spaces have one strategy each.

    The latter compares spaces of equal size only, since more settings give a higher selected score.
    """
    return tuple(panel for cell in cells(results) for panel in _panels(cell))


def _panels(cell: CellResult) -> Iterator[StrategyPanel]:
    single: dict[tuple[str, int], list[tuple[str, Strategy]]] = {}
    for (method, space), searches in cell.methods.items():
        bars = _bars(searches)
        if len(bars) > 1:
            yield _panel(cell, method_label(method, space), bars)
        # Spaces with one strategy each are compared with each other, if they have equally many settings.
        elif bars:
            single.setdefault((method, bars[0].num_settings), []).append((space or "", bars[0]))
    for (method, num_settings), found in single.items():
        # Two spaces may have one strategy and differ in other fields; then the space's name tells them apart.
        occurrences = Counter(bar.name for _, bar in found)
        if len(occurrences) > 1:
            named = tuple(bar if occurrences[bar.name] == 1 else replace(bar, name=f"{bar.name}, {space}") for space, bar in found)
            yield _panel(cell, f"{method_label(method, None)}, {counted(num_settings, 'setting')} each", named)


def _panel(cell: CellResult, space: str, bars: tuple[Strategy, ...]) -> StrategyPanel:
    return StrategyPanel(cell_title(cell), space, cell.measure, len(cell.seeds), _vanilla(cell), bars)


def _vanilla(cell: CellResult) -> Summary:
    column = score_column("test_oracle", cell.measure)
    return summarise(None if baseline.row is None else float(baseline.row[column]) for baseline in cell.baselines)


def _bars(searches: Sequence[SearchResult]) -> tuple[Strategy, ...]:
    by_strategy: dict[str, list[tuple[SearchResult, list[int]]]] = {}
    for search in searches:
        groups: dict[str, list[int]] = {}
        # Settings of one search are grouped by strategy, and the rule is applied within each group.
        for index, text in enumerate(search.rows["settings"]):
            settings = json.loads(text)
            if "trusted" in settings:
                groups.setdefault(_name(settings), []).append(index)
        for name, indices in groups.items():
            by_strategy.setdefault(name, []).append((search, indices))
    return tuple(_strategy(name, groups_of_seeds) for name, groups_of_seeds in by_strategy.items())


def _name(settings: dict[str, object]) -> str:
    skip = settings.get("skip") or 0.0
    parts = [str(settings["trusted"]).replace("_", " ")]
    parts += [f"skip {100 * float(str(skip)):g} %"] if skip else []
    parts += ["balanced"] if settings.get("class_balanced") else []
    return ", ".join(parts)


def _strategy(name: str, groups: Sequence[tuple[SearchResult, list[int]]]) -> Strategy:
    tests, precisions, gains = [], [], []
    for search, indices in groups:
        rows = search.rows.iloc[indices].reset_index(drop=True)
        # Selected among the settings of this strategy alone, the unmodified model a candidate.
        row = replace(search, rows=rows).choose(RULE).row
        column = score_column("test_oracle", search.measure)
        tests.append(None if row is None else float(row[column]))
        if row is not None and search.vanilla is not None:
            gains.append(float(row[column]) - float(search.vanilla[column]))
        # Over all settings of the strategy: the trusted set does not depend on alpha.
        precisions.append(summarise(rows["trusted_label_precision"].astype(float)).mean)
    return Strategy(name, summarise(tests), summarise(precisions), max(len(indices) for _, indices in groups), tuple(gains))


def draw(results: Results, page: figures.PageWidth = figures.TWO_COLUMNS) -> figures.Figure | None:
    """Draws the figure; None if the store has fewer than two comparable strategies."""
    found = numbers(results)
    if not found:
        return None
    most = max(len(panel.bars) for panel in found)
    height = max(0.3, (0.045 if page.max_panels > 1 else 0.1) * most)
    # Names of strategies are long.
    figure, axes = figures.panels(len(found), page, height=height, across=1)
    for axis, panel in zip(axes, found, strict=True):
        _draw_panel(axis, panel)
    measure = MEASURES[found[0].measure]
    subtitles = [f"{panel.space}, {panel.title}; n = {counted(panel.seeds, 'seed')}" for panel in found]
    figures.set_titles(figure, f"Gain in test {measure.name} by selection strategy", subtitles, page, room=1.9)
    for axis in axes:
        axis.set_xlabel(figures.gain_label(measure))
    note = (
        f"Setting selected by {RULE}, the unmodified model included, minus the unmodified model of the same seed; mean over the seeds. "
        f"{figures.spread_sentence(max(panel.seeds for panel in found))} In parentheses: correct labels among the trusted samples."
    )
    figures.note_below(figure, note, page)
    return figure


def _draw_panel(axis: figures.Axes, panel: StrategyPanel) -> None:
    factor, style = MEASURES[panel.measure].factor, figures.method_styles(["sap"])[0]
    axis.axvline(0, color=figures.TEXT_GREY, linestyle=(0, (1, 1.5)), linewidth=1)
    for position, bar in enumerate(panel.bars):
        gains = [gain * factor for gain in bar.gains]
        if gains:
            axis.plot([sum(gains) / len(gains)], [position], marker=style.marker, color=style.color, markersize=5, zorder=style.zorder)
            figures.draw_spread(axis, position, gains, style, horizontal=True)
    axis.set_yticks(range(len(panel.bars)), [_tick(bar) for bar in panel.bars])
    axis.set_ylim(-0.5, len(panel.bars) - 0.5)
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)


def _tick(bar: Strategy) -> str:
    """`loss (98 %)`."""
    return bar.name if bar.precision.mean is None else f"{bar.name} ({100 * bar.precision.mean:.0f} %)"

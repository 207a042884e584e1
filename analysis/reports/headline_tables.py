"""The tables of the one-page report on tuning cost; its sentences are notes of the first (`analysis.reports.headline_text`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from analysis.reports.headline_format import (
    UNITS,
    bounds_text,
    chance_text,
    decimals_of,
    factor_of,
    interval_text,
    label_of,
    percent,
    ratio_text,
    significant,
)
from analysis.reports.headline_text import caveats, sentences
from analysis.store.labels import DASH, MEASURES, MISSING, counted, mean_std, number, seconds
from analysis.store.load import Results
from analysis.store.stats import Summary
from analysis.tables.notes import BOUNDARY_MARK, INCOMPLETE_MARK, cell_title
from analysis.tables.render import Column, FormattedCell, Table
from analysis.tuning.alpha import Transfer
from analysis.tuning.head_to_head import BAND, TARGETS
from analysis.tuning.headline import COST_ITEM_SETS, RULE, TRIALS, Headline, HeadToHead, SearchSummary, all_transfers, headlines
from analysis.tuning.intervals import MEAN_METHOD, RATIO_METHOD, STD_METHOD, Bounds, mean_interval
from analysis.tuning.power import MAX_SEEDS, POWER

NO_GAIN = "no gain"

PARTS = {"performance": "headline", "cost": "headline-cost", "comparisons": "headline-comparisons"}
"""Part of the report -> the name of its table."""


def headline_tables(results: Results) -> tuple[Table, ...]:
    """Three tables per cell, with the sentences as notes of the first; empty if the store has no search."""
    found = headlines(results)
    # Transfers are between cells, so they are computed once for all of them.
    transfers = all_transfers(results)
    return tuple(
        table
        for headline in found
        for table in (_performance_table(headline, transfers, results.problems), _cost_table(headline), *_comparison_tables(headline))
    )


def _performance_table(
    headline: Headline, transfers: Mapping[tuple[str, str | None], Sequence[Transfer]], problems: Sequence[str]
) -> Table:
    measure, factor = MEASURES[headline.cell.measure], factor_of(headline)
    unit = f" ({measure.unit})" if measure.unit else ""
    columns = [
        Column("method", "Method", numeric=False),
        Column("settings", "Settings"),
        Column("default_test", "default", f"Expected test {measure.name}{unit} after trials"),
        *(Column(f"test_{k}", str(k), f"Expected test {measure.name}{unit} after trials") for k in TRIALS),
        Column("test_all", "all", f"Expected test {measure.name}{unit} after trials"),
        Column("unmodified_kept", "Kept vanilla", numeric=False),
    ]
    rows, decimals = [], measure.decimals
    for summary in headline.summaries:
        # A space need not contain the method's default.
        default = None if summary.default is None else summary.default.test.times(factor)
        marks = (BOUNDARY_MARK if summary.boundary_values else "") + _incomplete(headline, summary)
        rows.append(
            (
                FormattedCell(label_of(summary), marks=marks),
                FormattedCell(str(summary.settings), summary.settings),
                FormattedCell(MISSING) if default is None else FormattedCell(number(default.mean, decimals), default.mean, default.std),
                *(_banded(value, band, factor, decimals - 1) for value, band in zip(summary.by_trials, summary.bands, strict=True)),
                _spread(summary.final.times(factor), decimals),
                FormattedCell(f"{summary.kept} of {summary.final.n}" if summary.kept else "0"),
            )
        )
    seeds = counted(len(headline.cell.seeds), "seed")
    caption = (
        f"What tuning reaches on {cell_title(headline.cell)}, {seeds}: expected test {measure.name} of the setting selected by {RULE}; "
        f"in brackets the {100 * BAND[0]:.0f} to {100 * BAND[1]:.0f} % band; all: mean ± sample standard deviation over the seeds."
    )
    return Table("headline", headline.cell.name, caption, tuple(columns), tuple(rows), (*sentences(headline, transfers), *problems))


def _banded(value: float | None, band: tuple[float, float] | None, factor: float, decimals: int) -> FormattedCell:
    if value is None or band is None:
        return FormattedCell(MISSING)
    ends = (band[0] * factor, band[1] * factor)
    mean, low, high = (number(some, decimals) for some in (value * factor, *ends))
    return FormattedCell(f"{mean} ({low}{DASH}{high})", value * factor, interval=ends)


def _spread(summary: Summary, decimals: int, sign: bool = False) -> FormattedCell:
    return FormattedCell(mean_std(summary.mean, summary.std, decimals, sign), summary.mean, summary.std)


def _incomplete(headline: Headline, summary: SearchSummary) -> str:
    return INCOMPLETE_MARK if len(summary.seeds) < len(headline.cell.seeds) else ""


def _cost_table(headline: Headline) -> Table:
    unit, scale = UNITS[headline.unit]
    # The unit is part of the column's name in CSV.
    suffix = "seconds" if headline.unit == "seconds" else "giga_flops"
    shares = [percent(share) for share in TARGETS]
    columns = [
        Column("method", "Method", numeric=False),
        Column(f"default_{suffix}", "default", f"Cost ({unit})"),
        Column(f"total_{suffix}", "complete search", f"Cost ({unit})"),
        *(Column(f"{suffix}_to_{100 * share:.0f}", label, f"Cost ({unit}) to a share of the method's best gain")
          for share, label in zip(TARGETS, shares, strict=True)),
        *(Column(f"trials_to_{100 * share:.0f}", label, "Trials to a share of the method's best gain")
          for share, label in zip(TARGETS, shares, strict=True)),
        Column("best_gain_points", f"Best gain{' (points)' if headline.cell.measure == 'acc' else ''}"),
    ]  # fmt: skip
    rows = []
    for summary in headline.summaries:
        # The default stands alone and bears all shared work that it uses, so its cost may exceed a share of the search's.
        default = None if summary.default is None or summary.default.cost.mean is None else summary.default.cost.mean * scale
        rows.append(
            (
                FormattedCell(label_of(summary), marks=_incomplete(headline, summary)),
                FormattedCell(seconds(default), default),
                FormattedCell(seconds(summary.total * scale), summary.total * scale),
                *(_to(value, scale, seconds) for value in summary.cost_to),
                *(_to(value, 1.0, significant) for value in summary.trials_to),
                _spread(summary.best_gain.times(factor_of(headline)), decimals_of(headline), sign=True),
            )
        )
    caption = f"What tuning costs on {cell_title(headline.cell)}: mean over the seeds, own work and preparation; the default standalone."
    notes = (
        "Cost to a share of the best gain: of each seed's own best gain, the maximum of its expected gain over budgets, then the mean over "
        "the seeds. A seed on which a method gains nothing counts with its complete search, and the mean is at least the number printed "
        f"(≥); {NO_GAIN}: on no seed. Best gain: mean ± sample standard deviation.",
        *caveats(headline),
    )
    return Table("headline-cost", headline.cell.name, caption, tuple(columns), tuple(rows), notes)


def _to(value: Bounds | None, scale: float, show: Callable[[float], str]) -> FormattedCell:
    if value is None:
        return FormattedCell(NO_GAIN)
    return _bounds(value.times(scale), show)


def _bounds(value: Bounds | None, show: Callable[[float], str]) -> FormattedCell:
    """A bound has no number behind it; CSV has the bound itself."""
    text = bounds_text(value, show)
    if value is None or value.exact or text == MISSING:
        return FormattedCell(text, value.low if value is not None and value.exact else None)
    return FormattedCell(text, exact=bounds_text(value, repr))


def _interval(interval: Bounds | None) -> FormattedCell:
    return FormattedCell(ratio_text(interval), interval=None if interval is None else (interval.low, interval.high))


def _comparison_tables(headline: Headline) -> tuple[Table, ...]:
    if headline.sap is None or not headline.comparisons:
        return ()
    columns = (
        Column("method", "Method", numeric=False),
        Column("seeds", "n"),
        Column("settings_ratio", "settings", "As a multiple of SAP's"),
        Column("cost_ratio", "total cost", "As a multiple of SAP's"),
        Column("target_ratio", f"cost to {percent(TARGETS[1])}", "As a multiple of SAP's"),
        Column("target_interval", "95 % interval", "As a multiple of SAP's", numeric=False),
        Column("sap_ahead_small", "at SAP's cost", "P(SAP ahead)"),
        Column("sap_ahead_large", "at the other's", "P(SAP ahead)"),
        Column("difference_points", "mean", "Difference"),
        Column("difference_interval", "95 % interval", "Difference", numeric=False),
        Column("detectable_points", "Detectable", numeric=False),
        Column("seeds_needed", "Seeds needed", numeric=False),
    )
    error = max(chance.error for comparison in headline.comparisons for _, chance in comparison.probability_ahead)
    notes = (
        f"Cost to {percent(TARGETS[1])} of the smaller best gain of a seed: geometric mean of the ratios by seed; its interval: "
        f"{RATIO_METHOD}.",
        f"P(SAP ahead): over pairs of random orders; Monte-Carlo error at most {max(error, 0.01):.2f}.",
        f"Difference: test score of the other complete search minus SAP's, paired by seed; interval: {MEAN_METHOD}.",
        f"Detectable: the smallest true difference that n seeds detect with probability {POWER * 100:.0f} % in a two-sided paired t-test "
        "at 5 %, not corrected for the number of methods. Seeds needed: to detect a true difference as large as the one found. In "
        f"brackets, both at the ends of the 95 % interval ({STD_METHOD}) of the standard deviation, which is estimated from n seeds.",
        *caveats(headline),
    )
    caption = f"Each search compared with {label_of(headline.sap)} (SAP in this table) on {cell_title(headline.cell)}."
    rows = tuple(_comparison_row(headline, comparison) for comparison in headline.comparisons)
    return (Table("headline-comparisons", headline.cell.name, caption, columns, rows, notes),)


def _comparison_row(headline: Headline, comparison: HeadToHead) -> tuple[FormattedCell, ...]:
    factor, decimals = factor_of(headline), decimals_of(headline)
    ratio, difference = comparison.cost[next(iter(COST_ITEM_SETS))], comparison.difference.times(factor)
    interval = mean_interval(difference.values)
    return (
        FormattedCell(label_of(comparison)),
        FormattedCell(str(difference.n), difference.n),
        FormattedCell(f"{comparison.settings:.3g}", comparison.settings),
        FormattedCell(MISSING if comparison.total is None else f"{comparison.total:.3g}", comparison.total),
        _bounds(ratio.value, significant),
        _interval(ratio.interval),
        *(FormattedCell(chance_text(chance), chance.value) for _, chance in comparison.probability_ahead),
        _spread(difference, decimals, sign=True),
        FormattedCell(MISSING if interval is None else interval_text(interval, decimals), interval=interval),
        *_power_cells(headline, comparison),
    )


def _power_cells(headline: Headline, comparison: HeadToHead) -> tuple[FormattedCell, FormattedCell]:
    """`8.65 (4.5 to 54.3)` and `8 (4 to 245)`."""
    power, factor = comparison.power, factor_of(headline)
    if power is None:
        return FormattedCell(MISSING), FormattedCell(MISSING)
    low, high = (end * factor for end in power.detectable_range)
    found = power.detectable * factor
    detectable = FormattedCell(f"{found:.3g} ({low:.3g} to {high:.3g})", found, interval=(low, high))
    # Without a difference there is none to detect.
    if not comparison.difference.mean:
        return detectable, FormattedCell(MISSING)
    seeds, fewest, most = (f"> {MAX_SEEDS:,}" if count is None else str(count) for count in (power.seeds, *power.seeds_range))
    ends = (math.inf if end is None else float(end) for end in power.seeds_range)
    text = f"{seeds} ({fewest} to {most})"
    exact = "" if power.seeds else f"> {MAX_SEEDS}"
    return detectable, FormattedCell(text, power.seeds, interval=(next(ends), next(ends)), exact=exact)

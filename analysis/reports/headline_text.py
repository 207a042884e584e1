"""The one-page report on tuning cost: sentences made from the numbers of `analysis.tuning.headline`, and three tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from analysis.store.labels import DASH, MEASURES, MISSING, counted, mean_std, method_label, number, plain, seconds
from analysis.store.load import Results
from analysis.store.selection_rule import RULES, TIES
from analysis.store.stats import summarise
from analysis.tables.notes import EDGE, cell_title
from analysis.tables.render import Cell, Column, Table
from analysis.tuning.alpha import WITHIN, Transfer, good_range
from analysis.tuning.anytime import ORDERS, Unit
from analysis.tuning.head_to_head import BAND, RESAMPLES, TARGETS, Ratio
from analysis.tuning.headline import ACCOUNTS, RULE, TRIALS, Duel, Headline, Line, all_transfers, headlines
from analysis.tuning.power import POWER

_UNITS: dict[Unit, tuple[str, float]] = {
    "seconds": ("s", 1.0),
    "flops": ("GFLOP", 1e-9),
    "passes": ("sample-passes", 1.0),
    "trials": ("", 1),
}
_NEVER = "never"


def page(results: Results) -> tuple[Table, ...]:
    """Three tables per cell; the sentences stand under the first. Empty where the store has no search."""
    told = headlines(results)
    lost = all_transfers(results)
    return tuple(table for each in told for table in (_reach(each, lost, results.problems), _cost(each), *_duels(each)))


def sentences(told: Headline, lost: Mapping[tuple[str, str | None], Sequence[Transfer]]) -> list[str]:
    """The report in words, the headline first."""
    return [
        *_headline(told),
        *_defaults(told),
        *_edges(told),
        *_doubts(told),
        *_alphas(told, lost),
        f"{RULE}: {RULES[RULE].format(score=MEASURES[told.cell.measure].name)}. {TIES}",
        _method(told),
        "Search spaces, by their hashes (in the plan before the first trial): "
        + ", ".join(f"{_label(line)} {'/'.join(line.hashes) or MISSING}" for line in told.lines)
        + ".",
    ]


def _headline(told: Headline) -> list[str]:
    """SAP against SCRUB, or against the dearest other corrector where there is no SCRUB."""
    others = [duel for duel in told.duels if duel.method != "sap"]
    if told.sap is None or not others:
        return []
    duel = next((duel for duel in others if duel.method == "scrub"), max(others, key=lambda duel: duel.total))
    ours, theirs, (unit, scale), points = _label(told.sap), _label(duel), _UNITS[told.unit], _points(told)
    main, *rest = ((name, duel.cost[name]) for name in ACCOUNTS)
    n = duel.gap.n
    said = []
    if math.isnan(main[1].value):
        said.append(f"{ours} or {theirs} gains nothing over the unmodified models, so there is no common target to compare costs at.")
    else:
        share = _percent(TARGETS[1])
        said.append(
            f"To {share} of the smaller of the two best gains ({main[1].target * points:.2f} {_word(told)}), {theirs} needs "
            f"{_ratio(main[1])} times the {_amount(told)} of {ours} (95 % interval {_interval(main[1])}); in trials "
            f"{_ratio(duel.trials)} times ({_interval(duel.trials)}). The plain ratio of settings is {duel.settings:.3g}, "
            f"that of whole searches' costs {duel.total:.3g}."
        )
        said.append("Counted otherwise: " + "; ".join(f"{name} {_ratio(ratio)} ({_interval(ratio)})" for name, ratio in rest) + ".")
    (small, early), (large, late) = duel.ahead
    said.append(
        f"At equal budget the better test score is {ours}'s with probability {early:.2f} when both have spent what its whole search costs "
        f"({seconds(small * scale)} {unit}), and {late:.2f} when both have spent what {theirs} costs ({seconds(large * scale)} {unit})."
    )
    gap = duel.gap.times(points)
    above = "above" if (gap.mean or 0) >= 0 else "below"
    needed = "" if duel.needed is None else f"; a true gap of this size would take {counted(duel.needed, 'seed')}"
    said.append(
        f"The whole search of {theirs} ends {abs(gap.mean or 0):.2f} {_word(told)} {above} that of {ours} "
        f"(paired over {counted(n, 'seed')}). With this spread {counted(n, 'seed')} show a gap of "
        f"{_finite(duel.detectable * points)} or more in {POWER * 100:.0f} % of cases{needed}."
    )
    return said


def _defaults(told: Headline) -> list[str]:
    factor = _factor(told)
    known = [
        f"{_label(line)} {number((line.default.test.mean or 0) * factor, 2)} (whole search {number((line.final.mean or 0) * factor, 2)})"
        for line in told.lines
        if line.default is not None
    ]
    lacking = [_label(line) for line in told.lines if line.default is None]
    said = [f"Without a search, by each method's default setting alone: {', '.join(known)}."] if known else []
    return said + ([f"The default is no setting of the space (or the store does not say it) of {', '.join(lacking)}."] if lacking else [])


def _edges(told: Headline) -> list[str]:
    at = [
        f"{_label(line)} {', '.join(f'{edge.field} = {plain(edge.value)} ({edge.side})' for edge in line.edges)}"
        for line in told.lines
        if line.edges
    ]
    return [f"{EDGE} Chosen values at the end of their range, where a wider space might do better: {'; '.join(at)}."] if at else []


def _doubts(told: Headline) -> list[str]:
    """The winner's curse."""
    bounds = [f"{_label(line)} {100 * line.optimism:.2f}" for line in told.lines if not math.isnan(line.optimism)]
    if not bounds:
        return []
    seen = [f"{_label(line)} {number(100 * line.flattery.mean, 2, sign=True)}" for line in told.lines if line.flattery.mean is not None]
    measured = f" Measured, on the validation samples with true labels, chosen score minus test score: {', '.join(seen)}." if seen else ""
    return [
        f"Winner's curse: with {told.validation} validation samples the best score of a search flatters by up to (points) "
        f"{', '.join(bounds)}, if settings were equally good and erred independently. No such score is shown as a result.{measured}"
    ]


def _alphas(told: Headline, lost: Mapping[tuple[str, str | None], Sequence[Transfer]]) -> list[str]:
    said = []
    for curve in told.curves:
        good = good_range(curve)
        if good and not curve.others and told.cell.measure == "acc":
            ends = [f"the {side} end of the space" for side, is_open in (("lower", good.open_low), ("upper", good.open_high)) if is_open]
            said.append(
                f"{method_label(curve.method, curve.space)}: within {100 * WITHIN:g} point of the best alpha ({plain(good.best)}) lie "
                f"{good.count} of {len(curve.alphas)} alphas, {plain(good.low)} to {plain(good.high)}, a factor of {good.width:.3g}"
                f"{'; it is cut off at ' + ' and '.join(ends) if ends else ''}."
            )
    for (method, space), pairs in lost.items():
        mine = [pair for pair in pairs if pair.cell == told.cell.name]
        if mine:
            loss = summarise(pair.loss for pair in mine)
            worst = max(mine, key=lambda pair: pair.loss)
            said.append(
                f"{method_label(method, space)} with alpha taken from another cell in place of tuning loses "
                f"{100 * (loss.mean or 0):.2f} points on average over {counted(len(mine), 'other cell')}, "
                f"{100 * worst.loss:.2f} at worst (from {worst.origin})."
            )
    return said


def _method(told: Headline) -> str:
    unit = {
        "seconds": f"Seconds are of {told.device}, jobs with cores (or a GPU) of their own",
        "flops": "FLOPs, because jobs shared their device",
    }
    spread = "" if told.by_phase else " The store tells no costs by phase, so preparation is spread over the settings."
    return (
        f"{unit.get(told.unit, told.unit)}. Trials are drawn without replacement, exact over all orders; costs over {ORDERS} random "
        f"orders. "
        f"Bands are the {100 * BAND[0]:.0f} to {100 * BAND[1]:.0f} % of outcomes over orders and seeds: what one search may come to, no "
        f"confidence interval. Intervals of ratios: bootstrap over seeds, {RESAMPLES} resamples. Preparation is paid before the first "
        f"setting; the baseline's training is left out unless named.{spread}"
    )


def _reach(told: Headline, lost: Mapping[tuple[str, str | None], Sequence[Transfer]], problems: Sequence[str]) -> Table:
    measure, factor = MEASURES[told.cell.measure], _factor(told)
    unit = f" ({measure.unit})" if measure.unit else ""
    columns = [
        Column("method", "Method", numeric=False),
        Column("settings", "Settings"),
        Column("default_test", "default", f"Expected test {measure.name}{unit} after trials"),
        *(Column(f"test_{k}", str(k), f"Expected test {measure.name}{unit} after trials") for k in TRIALS),
        Column("test_all", "all", f"Expected test {measure.name}{unit} after trials"),
        Column("unmodified_kept", "Kept vanilla", numeric=False),
    ]
    rows = []
    for line in told.lines:
        default = None if line.default is None else line.default.test.times(factor)
        rows.append(
            (
                Cell(_label(line), marks=EDGE if line.edges else ""),
                Cell(str(line.settings), line.settings),
                Cell(MISSING) if default is None else Cell(number(default.mean, 2), default.mean, default.std),
                *(_banded(value, band, factor) for value, band in zip(line.by_trials, line.bands, strict=True)),
                Cell(mean_std(*_pair(line, factor), 2), *_pair(line, factor)),
                Cell(f"{line.kept} of {line.final.n}" if line.kept else "0"),
            )
        )
    seeds = counted(len(told.cell.seeds), "seed")
    caption = (
        f"What tuning reaches on {cell_title(told.cell)}, {seeds}: expected test {measure.name} of the setting that {RULE} "
        f"chooses; in brackets the {100 * BAND[0]:.0f} to {100 * BAND[1]:.0f} % band; all: mean ± sample standard deviation over the seeds."
    )
    return Table("headline", told.cell.name, caption, tuple(columns), tuple(rows), (*sentences(told, lost), *problems))


def _banded(value: float | None, band: tuple[float, float] | None, factor: float) -> Cell:
    if value is None or band is None:
        return Cell(MISSING)
    return Cell(f"{value * factor:.1f} ({band[0] * factor:.1f}{DASH}{band[1] * factor:.1f})", value * factor)


def _pair(line: Line, factor: float) -> tuple[float | None, float | None]:
    shown = line.final.times(factor)
    return shown.mean, shown.std


def _cost(told: Headline) -> Table:
    unit, scale = _UNITS[told.unit]
    suffix = "seconds" if told.unit == "seconds" else "giga_flops"
    shares = [_percent(share) for share in TARGETS]
    columns = [
        Column("method", "Method", numeric=False),
        Column(f"default_{suffix}", "default", f"Cost ({unit})"),
        Column(f"total_{suffix}", "whole search", f"Cost ({unit})"),
        *(Column(f"{suffix}_to_{100 * share:.0f}", told_share, f"Cost ({unit}) to a share of the own best gain")
          for share, told_share in zip(TARGETS, shares, strict=True)),
        *(Column(f"trials_to_{100 * share:.0f}", told_share, "Trials to a share of the own best gain")
          for share, told_share in zip(TARGETS, shares, strict=True)),
        Column("best_gain_points", f"Best gain{' (points)' if told.cell.measure == 'acc' else ''}"),
    ]  # fmt: skip
    rows = []
    for line in told.lines:
        alone = None if line.default is None or line.default.cost.mean is None else line.default.cost.mean * scale
        rows.append(
            (
                Cell(_label(line)),
                Cell(seconds(alone), alone),
                Cell(seconds(line.total * scale), line.total * scale),
                *(_to(value, scale, seconds) for value in line.cost_to),
                *(_to(value, 1.0, lambda value: number(value, 0)) for value in line.trials_to),
                Cell(number(line.best_gain * _points(told), 2, sign=True), line.best_gain * _points(told)),
            )
        )
    caption = f"What tuning costs on {cell_title(told.cell)}: mean over the seeds, own work and preparation; the default by itself."
    return Table("headline-cost", told.cell.name, caption, tuple(columns), tuple(rows))


def _to(value: float, scale: float, show: Callable[[float], str]) -> Cell:
    return Cell(_NEVER) if math.isinf(value) else Cell(show(value * scale), value * scale)


def _duels(told: Headline) -> tuple[Table, ...]:
    if told.sap is None or not told.duels:
        return ()
    columns = (
        Column("method", "Method", numeric=False),
        Column("settings_ratio", "settings", "As a multiple of SAP's"),
        Column("cost_ratio", "whole cost", "As a multiple of SAP's"),
        Column("target_ratio", f"cost to {_percent(TARGETS[1])}", "As a multiple of SAP's"),
        Column("target_interval", "95 % interval", "As a multiple of SAP's", numeric=False),
        Column("sap_ahead_small", "at SAP's cost", "P(SAP ahead)"),
        Column("sap_ahead_large", "at the other's", "P(SAP ahead)"),
        Column("gap_points", "Gap"),
        Column("detectable_points", "Detectable"),
        Column("seeds_needed", "Seeds for this gap"),
    )
    points, main = _points(told), next(iter(ACCOUNTS))
    rows = tuple(_duel(duel, duel.cost[main], points) for duel in told.duels)
    caption = (
        f"Each search against {_label(told.sap)} on {cell_title(told.cell)}, which is SAP here. Cost to "
        f"{_percent(TARGETS[1])} of the smaller best gain. Gap: test score of the other's whole search minus SAP's, "
        f"paired by seed; detectable: the smallest true gap that as many seeds show in {POWER * 100:.0f} % of "
        f"cases (two-sided paired t-test at 5 %)."
    )
    return (Table("headline-duels", told.cell.name, caption, columns, rows),)


def _duel(duel: Duel, ratio: Ratio, points: float) -> tuple[Cell, ...]:
    gap = duel.gap.times(points)
    return (
        Cell(_label(duel)),
        Cell(f"{duel.settings:.3g}", duel.settings),
        Cell(f"{duel.total:.3g}", duel.total),
        Cell(_ratio(ratio), None if math.isnan(ratio.value) else ratio.value),
        Cell(_interval(ratio)),
        *(Cell(f"{chance:.2f}", chance) for _, chance in duel.ahead),
        Cell(mean_std(gap.mean, gap.std, 2, sign=True), gap.mean, gap.std),
        Cell(_finite(duel.detectable * points), None if math.isinf(duel.detectable) else duel.detectable * points),
        Cell(MISSING if duel.needed is None else str(duel.needed), duel.needed),
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _label(what: Line | Duel) -> str:
    return method_label(what.method, what.space)


def _ratio(ratio: Ratio) -> str:
    return MISSING if math.isnan(ratio.value) else f"{ratio.value:.3g}"


def _interval(ratio: Ratio) -> str:
    return MISSING if math.isnan(ratio.low) else f"{ratio.low:.3g} to {_finite(ratio.high)}"


def _finite(value: float) -> str:
    return "no end" if math.isinf(value) else MISSING if math.isnan(value) else f"{value:.3g}"


def _amount(told: Headline) -> str:
    return {"seconds": "seconds", "flops": "FLOPs"}.get(told.unit, told.unit)


def _factor(told: Headline) -> float:
    return MEASURES[told.cell.measure].factor


def _points(told: Headline) -> float:
    return _factor(told)


def _word(told: Headline) -> str:
    return "points" if told.cell.measure == "acc" else "of R²"

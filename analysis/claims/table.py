"""Table `claims`: the verdict on each claim, with the statistic, the sample, the p-value and the power behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from analysis.claims.evidence import of_published, of_store, sizes_of
from analysis.claims.judge import NO_EVIDENCE, Judgement, judge, judge_sizes
from analysis.claims.spec import Claims, Region
from analysis.reference.published import SEEDS
from analysis.store.labels import MINUS, MISSING, method_label, number, p_value
from analysis.store.load import Results
from analysis.store.selection_rule import RULES
from analysis.tables.render import Column, FormattedCell, Table
from analysis.tuning.intervals import CONFIDENCE

PUBLISHED, STORE = "published", "store"

_COLUMNS = (
    Column("claim", "Claim", numeric=False),
    Column("evidence", "Evidence", numeric=False),
    Column("verdict", "Verdict", numeric=False),
    Column("required_points", "required", "Difference (points)", numeric=False),
    Column("difference_points", "found", "Difference (points)"),
    Column("interval", f"{CONFIDENCE * 100:g} % interval", "Difference (points)", numeric=False),
    Column("cells", "Cells"),
    Column("seeds", "n"),
    Column("p", "p"),
    Column("power", "Power"),
)


def judgements(claims: Claims, results: Results | None, show: str) -> tuple[Judgement, ...]:
    """Judges every claim; `show` is `published`, `ours` (the store) or `both`."""
    found = []
    for claim in claims.claims:
        if show != "ours" and not claim.settings:
            found.append(judge(claim, of_published(claim), PUBLISHED))
        if show != "published" and results is not None:
            found.append(
                judge_sizes(claim, sizes_of(claim, claims, results), STORE)
                if claim.settings
                else judge(claim, of_store(claim, claims, results), STORE)
            )
    return tuple(found)


def claims_table(claims: Claims, found: Sequence[Judgement]) -> Table:
    """Formats the verdicts."""
    rows = tuple(_row(one) for one in found)
    # A rule above each claim if claims have a row for each kind of evidence.
    several = len(found) > len({one.claim.name for one in found})
    firsts = frozenset(number for number, one in enumerate(found) if several and number and one.claim is not found[number - 1].claim)
    return Table(
        "claims", claims.title, f"{claims.title}: verdicts by tests on test accuracies.", _COLUMNS, rows, _notes(claims, found), firsts
    )


def _row(one: Judgement) -> tuple[FormattedCell, ...]:
    blank = FormattedCell(MISSING)
    estimate, claim = one.estimate, one.claim
    required = "; ".join(f"{method_label(method)} {size}" for method, size in claim.settings.items()) or region_text(claim.region)
    head = (FormattedCell(claim.label), FormattedCell(one.evidence), FormattedCell(one.verdict), FormattedCell(required))
    if estimate is None:
        cells = FormattedCell(str(one.cells), one.cells) if one.cells else blank
        return (*head, FormattedCell(one.statistic) if claim.settings else blank, blank, cells, blank, blank, blank)
    interval = estimate.interval()
    return (
        *head,
        FormattedCell(number(estimate.mean, 2, sign=True), estimate.mean),
        _interval(interval),
        FormattedCell(str(one.cells), one.cells) if one.inside is None else FormattedCell(f"{one.inside} of {one.cells}"),
        FormattedCell(str(estimate.n), estimate.n),
        FormattedCell(p_value(one.p), one.p),
        blank if one.power is None else _power(one.power, claim.expected),
    )


def _interval(interval: tuple[float, float] | None) -> FormattedCell:
    if interval is None:
        return FormattedCell(MISSING)
    return FormattedCell(f"[{', '.join(number(end, 2, sign=True) for end in interval)}]", interval=interval)


def region_text(region: Region) -> str:
    """`> 0`, `≥ −1`, `2 to 4`."""
    low = f"{region.low:g}".replace("-", MINUS)
    if math.isinf(region.high):
        return f"{'>' if region.strict else '≥'} {low}"
    return f"{low} to {region.high:g}".replace("-", MINUS)


def _power(value: float, expected: float) -> FormattedCell:
    return FormattedCell(f"{f'{value:.2f}'.removeprefix('0')} ({number(expected, 2, sign=True)})", value)


def _notes(claims: Claims, found: Sequence[Judgement]) -> tuple[str, ...]:
    shown = list({one.claim.name: one.claim for one in found}.values())
    notes = [
        f"Holds: the {CONFIDENCE * 100:g} % confidence interval of the difference lies inside the required region; fails: outside it; "
        "undecided: neither.",
        "A claim about every cell holds if it holds in each, and fails if it fails in one after Holm's correction; the row shows the cell "
        "with the least support, and in how many cells the mean lies in the region.",
        "p: two-sided t-test of the mean difference against the bound of the region (the nearer one inside it); of a cell outside the "
        "region after Holm's correction.",
        "Power: the probability of the verdict 'holds' if the true difference is the one in brackets; the smallest over the cells if the "
        "claim is about every cell.",
    ]
    if any(one.evidence == PUBLISHED and one.estimate for one in found):
        notes.append(
            f"Published: means and standard deviations over {SEEDS} seeds, so not paired by seed; methods that correct the same network "
            "are correlated, which makes these intervals wider than paired ones."
        )
    if any(one.evidence == STORE and one.estimate for one in found):
        rule = claims.policy.rule
        notes.append(f"Store: differences paired by seed; settings selected by {rule}: {RULES[rule].format(score='accuracy')}.")
    if any(one.verdict == NO_EVIDENCE for one in found):
        notes.append("No evidence: no cell has both methods.")
    notes += [f"{one.claim.label} ({one.evidence}): the row shows {one.statistic}." for one in found if one.inside is not None]
    notes += [f"{claim.label}: {claim.claim}" for claim in shown]
    return (*notes, *dict.fromkeys(note for one in found for note in one.notes))

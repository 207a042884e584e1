"""Table `optimism`: validation score minus test score of the selected setting.

The maximum of many noisy scores is biased upwards (winner's curse), so the validation score of the selected setting overestimates its test
score. Wrong validation labels act in the opposite direction: they lower the score of a perfect model by about the noise rate. Under
`val_noisy` this dominates the difference; on the correctly labelled part of the validation set the difference is the optimism. The same
difference of the unmodified model, which was not selected, is printed for comparison.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from analysis.store.labels import MEASURES, Measure, mean_std, method_label, span, spread_over
from analysis.store.load import Results
from analysis.store.results import CellResult, SearchResult, cells
from analysis.store.selection_policy import Policy, select
from analysis.store.selection_rule import Choice, score_column
from analysis.store.stats import difference, number_of, summarise
from analysis.tables.notes import INCOMPLETE, INCOMPLETE_MARK, cell_title
from analysis.tables.render import Column, FormattedCell, Table

POLICIES = tuple(Policy(rule, over) for rule in ("val_noisy", "val_clean_part") for over in ("seed", "pooled"))


def optimism(results: Results) -> tuple[Table, ...]:
    """Computes one table per cell with a search."""
    return tuple(_table(results, cell) for cell in cells(results) if cell.methods)


def _table(results: Results, cell: CellResult) -> Table:
    measure = MEASURES[cell.measure]
    unit, suffix = (f" ({measure.unit})", "_percent") if measure.unit else ("", "")
    points = "_points" if measure.unit else ""
    rows: list[tuple[FormattedCell, ...]] = []
    titles = {}
    # Pooling selects by a mean over the seeds, whose error is smaller than that of one seed.
    for policy in POLICIES:
        titles[len(rows)] = f"{policy.rule}, {'selected per seed' if policy.over == 'seed' else 'pooled over the seeds'}"
        for (method, space), searches in cell.methods.items():
            rows.append(_row(method, space, searches, policy, measure))
    return Table(
        name="optimism",
        cell=cell.name,
        caption=f"Validation score minus test {measure.name} of the selected setting on {cell_title(cell)}: "
        f"{spread_over(len(cell.seeds))}.",
        columns=(
            Column("method", "Method", numeric=False),
            Column("settings", "Settings", numeric=False),
            Column(f"validation{suffix}", f"Validation{unit}", "Selected setting"),
            Column(f"test{suffix}", f"Test{unit}", "Selected setting"),
            Column(f"optimism{points}", "Optimism", "Selected setting"),
            Column(f"unmodified{points}", "Unmodified"),
            Column("kept", "Kept vanilla", numeric=False),
        ),
        rows=tuple(rows),
        notes=(
            "Optimism: validation score minus test score of the selected setting. Unmodified: the same for the model before correction, "
            "which was not selected. Under val_noisy, wrong labels lower every validation score, and that of a better model more; the "
            "difference on the correctly labelled part is not affected.",
            *(sentence for policy in POLICIES[:2] for sentence in policy.sentences(cell.measure)[:1]),
            *(policy.sentences(cell.measure)[0] for policy in POLICIES[2:3]),
            POLICIES[0].sentences(cell.measure)[1],
            *([INCOMPLETE] if any(row[0].marks for row in rows) else []),
            *results.problems,
        ),
        titles=titles,
    )


def _row(method: str, space: str | None, searches: Sequence[SearchResult], policy: Policy, measure: Measure) -> tuple[FormattedCell, ...]:
    column, test = score_column(policy.rule, searches[0].measure), score_column("test_oracle", searches[0].measure)
    chosen = list(zip(searches, select(searches, policy), strict=True))
    # the differences are paired by seed, so a seed without a baseline or a choice drops out of all of them
    complete = [
        (choice.row, search.vanilla)
        for search, choice in chosen
        if choice.row is not None
        and search.vanilla is not None
        and all(number_of(row[name]) is not None for row in (choice.row, search.vanilla) for name in (column, test))
    ]
    validation, tested = ([float(row[name]) for row, _ in complete] for name in (column, test))
    # The unmodified model was not selected, so its difference contains no optimism, only the effect of wrong labels.
    unmodified = [difference(float(vanilla[column]), float(vanilla[test])) for _, vanilla in complete]
    differences = [difference(one, other) for one, other in zip(validation, tested, strict=True)]
    mark = INCOMPLETE_MARK if len(complete) < len(searches) or any(search.missing for search in searches) else ""

    def cell(values: Sequence[float], sign: bool = False) -> FormattedCell:
        shown = summarise(values).times(measure.factor)
        return FormattedCell(mean_std(shown.mean, shown.std, measure.decimals, sign), shown.mean, shown.std)

    return (
        FormattedCell(method_label(method, space), marks=mark),
        FormattedCell(span(float(len(search.planned)) for search in searches)),
        cell(validation), cell(tested), cell(differences, sign=True), cell(unmodified, sign=True),
        FormattedCell(f"{_kept(choice for _, choice in chosen)} of {len(searches)}"),
    )  # fmt: skip


def _kept(choices: Iterable[Choice]) -> int:
    return sum(choice.kept for choice in choices)

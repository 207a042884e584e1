"""By how much the validation score of what was chosen flatters it: the table `optimism`, one per cell.

The best of many settings under a noisy score is partly the luckiest, so its score promises more than the test gives. Wrong validation
labels work the other way: a right model loses about the noise's rate of its score. So under `val_noisy` the difference is mostly that, and
the one on the samples with right labels tells the optimism; the unmodified model, which nobody chose, stands beside both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from analysis.store.labels import MEASURES, Measure, mean_std, method_label, span, spread_over
from analysis.store.load import Results
from analysis.store.results import CellResult, SearchResult, cells
from analysis.store.selection_policy import Policy, select
from analysis.store.selection_rule import Choice, score_column
from analysis.store.stats import summarise
from analysis.tables.notes import GAP, cell_title
from analysis.tables.render import Cell, Column, Table

POLICIES = tuple(Policy(rule, over) for rule in ("val_noisy", "val_clean_part") for over in ("seed", "pooled"))


def optimism(results: Results) -> tuple[Table, ...]:
    """One table per cell with a search; none where nothing was tuned."""
    return tuple(_table(results, cell) for cell in cells(results) if cell.methods)


def _table(results: Results, cell: CellResult) -> Table:
    measure = MEASURES[cell.measure]
    unit, suffix = (f" ({measure.unit})", "_percent") if measure.unit else ("", "")
    points = "_points" if measure.unit else ""
    rows: list[tuple[Cell, ...]] = []
    titles = {}
    for policy in POLICIES:
        titles[len(rows)] = f"{policy.rule}, {'seed by seed' if policy.over == 'seed' else 'pooled over the seeds'}"
        for (method, space), searches in cell.methods.items():
            rows.append(_row(method, space, searches, policy, measure))
    return Table(
        name="optimism",
        cell=cell.name,
        caption=f"Validation score of the chosen setting against its test {measure.name}, on {cell_title(cell)}: "
        f"{spread_over(len(cell.seeds))}.",
        columns=(
            Column("method", "Method", numeric=False),
            Column("settings", "Settings", numeric=False),
            Column(f"validation{suffix}", f"Validation{unit}", "Chosen"),
            Column(f"test{suffix}", f"Test{unit}", "Chosen"),
            Column(f"optimism{points}", "Optimism", "Chosen"),
            Column(f"unmodified{points}", "Unmodified"),
            Column("kept", "Kept vanilla", numeric=False),
        ),
        rows=tuple(rows),
        notes=(
            "Optimism: validation score less test score of what was chosen; Unmodified: the same of the model before correction, which "
            "nobody chose. Under val_noisy wrong labels lower every validation score, that of a better model more; the difference on the "
            "clean part is free of that.",
            *(sentence for policy in POLICIES[:2] for sentence in policy.sentences(cell.measure)[:1]),
            *(policy.sentences(cell.measure)[0] for policy in POLICIES[2:3]),
            POLICIES[0].sentences(cell.measure)[1],
            *([f"{GAP} Nothing chosen in some seeds, or settings without a row."] if any(row[0].marks for row in rows) else []),
            *results.problems,
        ),
        titles=titles,
    )


def _row(method: str, space: str | None, searches: Sequence[SearchResult], policy: Policy, measure: Measure) -> tuple[Cell, ...]:
    column, test = score_column(policy.rule, searches[0].measure), score_column("test_oracle", searches[0].measure)
    chosen = list(zip(searches, select(searches, policy), strict=True))
    good = [(search, choice) for search, choice in chosen if choice.row is not None and search.vanilla is not None]
    validation, tested = ([float(choice.row[name]) for _, choice in good] for name in (column, test))  # type: ignore[index]
    own = [float(search.vanilla[column]) - float(search.vanilla[test]) for search, _ in good]  # type: ignore[index]
    gaps = [one - other for one, other in zip(validation, tested, strict=True)]
    lacking = GAP if len(good) < len(searches) or any(search.missing for search in searches) else ""

    def cell(values: Sequence[float], sign: bool = False) -> Cell:
        shown = summarise(values).times(measure.factor)
        return Cell(mean_std(shown.mean, shown.std, measure.decimals, sign), shown.mean, shown.std)

    return (
        Cell(method_label(method, space), marks=lacking),
        Cell(span(float(len(search.planned)) for search in searches)),
        cell(validation), cell(tested), cell(gaps, sign=True), cell(own, sign=True),
        Cell(f"{_kept(choice for _, choice in chosen)} of {len(searches)}"),
    )  # fmt: skip


def _kept(choices: Iterable[Choice]) -> int:
    return sum(choice.kept for choice in choices)

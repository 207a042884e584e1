"""Table `tests`: significance tests of SAP against every other corrector, over seeds and over cells; also for the published table 1."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from analysis.reference.published import SEEDS, Quote, quotes
from analysis.store.labels import DASH, MEASURES, MISSING, REFERENCES, counted, dataset_label, mean_std, method_label, network_label, number
from analysis.store.load import Results
from analysis.store.results import CellResult, cells
from analysis.store.selection_policy import Policy, select
from analysis.store.selection_rule import score_column
from analysis.store.stats import Summary, summarise
from analysis.tables.render import Column, FormattedCell, Table
from analysis.tuning.significance import CONFIDENCE, CellComparison, MethodComparison, holm, sentence

_COLUMNS = (
    Column("cell", "Cell", numeric=False),
    Column("seeds", "n"),
    Column("one_percent", "first", "Test accuracy (%)"),
    Column("other_percent", "second", "Test accuracy (%)"),
    Column("difference_points", "Difference"),
    Column("welch_p", "Welch", "p, over seeds"),
    Column("welch_holm_p", "Holm", "p, over seeds"),
    Column("paired_p", "paired", "p, over seeds"),
    Column("paired_holm_p", "Holm", "p, over seeds"),
    Column("wilcoxon_p", "Wilcoxon", "Over the cells"),
    Column("interval", f"{CONFIDENCE * 100:g} % interval", "Over the cells", numeric=False),
)

NOTES = (
    "All tests are two-sided. Welch: t-test for unequal variances. Paired: t-test on the differences by seed. Holm: corrected for the "
    "number of cells in the block. Wilcoxon: signed-rank test on the mean differences of the cells.",
    f"Interval: {CONFIDENCE * 100:g} % percentile bootstrap of the mean difference over the cells (over the seeds if there is one cell).",
    "A p-value above .05 does not imply that two methods are equal, only that these seeds do not distinguish them.",
)

POLICY = Policy()

_NUMERALS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine", 10: "ten"}


def published_comparisons(table: str = "table1") -> tuple[MethodComparison, ...]:
    """Compares SAP with every other corrector of a published table, by data set."""
    fields = ("network", "noise", "noise_rate")
    found = []
    published = quotes(table)
    # By data set, as the paper's table is divided.
    for dataset in dict.fromkeys(str(quote.about["dataset"]) for quote in published):
        own = [quote for quote in published if quote.about["dataset"] == dataset]
        sap = {quote.key(fields): quote for quote in own if quote.about["method"] == "sap"}
        for method in dict.fromkeys(str(quote.about["method"]) for quote in own):
            if method != "sap" and method not in REFERENCES:
                others = {quote.key(fields): quote for quote in own if quote.about["method"] == method}
                pairs = tuple(CellComparison(_name(sap[key]), _summary(sap[key]), _summary(others[key])) for key in sap if key in others)
                found.append(MethodComparison(dataset_label(dataset), method_label("sap"), method_label(method), pairs))
    return tuple(found)


def published_tests() -> tuple[Table, ...]:
    """Tests the published table 1. It prints means and standard deviations only, so no test is paired by seed."""
    return _tables(
        published_comparisons(), _seeds([SEEDS]), "the published table 1", "Published means and standard deviations over 3 seeds."
    )


def store_comparisons(results: Results) -> tuple[MethodComparison, ...]:
    """Compares SAP (or the first corrector, without SAP) with every other corrector, by data set, each in its first space of the cell."""
    # A data set is the family of tests whose p-values are corrected together.
    by_dataset: dict[str, list[CellResult]] = {}
    for cell in cells(results):
        # Differences in accuracy and in R² cannot be averaged.
        if cell.measure == "acc" and cell.methods:
            by_dataset.setdefault(str(cell.rows.iloc[0]["dataset"]) if len(cell.rows) else cell.name, []).append(cell)
    found = []
    for dataset, members in by_dataset.items():
        methods = list(dict.fromkeys(method for cell in members for method, _ in cell.methods if method not in REFERENCES))
        first = "sap" if "sap" in methods else methods[0] if methods else None
        for other in methods:
            if first is None or other == first:
                continue
            scores = [(cell, _scores(cell, first), _scores(cell, other)) for cell in members]
            pairs = tuple(_pair(cell, one, two) for cell, one, two in scores if one and two)
            if pairs:
                found.append(MethodComparison(dataset_label(dataset), method_label(first), method_label(other), pairs))
    return tuple(found)


def significance(results: Results) -> tuple[Table, ...]:
    """Computes one table per data set with one block per pair of methods; none if the store has fewer than two correctors."""
    found = store_comparisons(results)
    counts = [pair.one.n for comparison in found for pair in comparison.pairs]
    extra = f"{POLICY.sentences()[0]} Each method is compared in the first search space that the plan has for the cell."
    return _tables(found, _seeds(counts), "the store", extra, results.problems)


def _tables(found: Sequence[MethodComparison], seeds: str, source: str, extra: str, problems: Iterable[str] = ()) -> tuple[Table, ...]:
    tables = []
    for family in dict.fromkeys(comparison.family for comparison in found):
        own = [comparison for comparison in found if comparison.family == family]
        rows: list[tuple[FormattedCell, ...]] = []
        titles, rules = {}, set()
        for comparison in own:
            titles[len(rows)] = f"{comparison.one} against {comparison.other}"
            rows += _rows(comparison)
            if len(comparison.pairs) > 1:
                rules.add(len(rows) - 1)
        # published numbers have no paired tests, and one cell no tests over cells
        shown = [n for n, column in enumerate(_COLUMNS) if n == 0 or any(row[n].text != MISSING for row in rows)]
        tables.append(
            Table(
                name="tests",
                cell=family,
                caption=f"Significance tests of the differences between methods on {family}, over seeds and cells ({source}).",
                columns=tuple(_COLUMNS[n] for n in shown),
                rows=tuple(tuple(row[n] for n in shown) for row in rows),
                notes=(
                    *(sentence(comparison, seeds) for comparison in own),
                    *(_after_holm(comparison) for comparison in own),
                    *NOTES,
                    extra,
                    *problems,
                ),
                rules=frozenset(rules),
                titles=titles,
            )
        )
    return tuple(tables)


def _rows(comparison: MethodComparison) -> list[tuple[FormattedCell, ...]]:
    welch, paired = comparison.welch(), comparison.paired()
    rows = []
    # Holm's correction is over the cells of the block, whose tests a reader sees together.
    for pair, *p_values in zip(comparison.pairs, welch, holm(welch), paired, holm(paired), strict=True):
        scores = [FormattedCell(mean_std(side.mean, side.std, 2), side.mean, side.std) for side in (pair.one, pair.other)]
        difference = FormattedCell(number(pair.difference, 2, sign=True), pair.difference)
        rows.append(
            (
                FormattedCell(pair.cell),
                FormattedCell(str(pair.one.n), pair.one.n),
                *scores,
                difference,
                *map(_p_cell, p_values),
                FormattedCell(MISSING),
                FormattedCell(MISSING),
            )
        )
    # with one cell there is no test over cells, and the interval belongs to its own row
    band = comparison.interval()
    interval = (
        FormattedCell(MISSING) if band is None else FormattedCell(f"{number(band[0], 2, sign=True)} to {number(band[1], 2, sign=True)}")
    )
    if len(comparison.pairs) < 2:
        return [(*row[:-1], interval) for row in rows]
    blank = FormattedCell(MISSING)
    all_cells = FormattedCell(f"{len(comparison.mean_differences)} cells, first better in {comparison.wins}")
    difference = FormattedCell(number(comparison.mean_difference, 2, sign=True), comparison.mean_difference)
    return [*rows, (all_cells, blank, blank, blank, difference, blank, blank, blank, blank, _p_cell(comparison.wilcoxon()), interval)]


def _after_holm(comparison: MethodComparison) -> str:
    uncorrected = comparison.welch()
    known = [p for p in uncorrected if p is not None]
    corrected = [p for p in holm(uncorrected) if p is not None]
    # Stated before and after the correction, so that its effect is visible.
    below = [sum(p <= 0.05 for p in some) for some in (known, corrected)]
    return (
        f"{comparison.one} against {comparison.other}: Welch's p is at most .05 in {below[0]} of {counted(len(known), 'cell')}, "
        f"and after Holm's correction in {below[1]}."
    )


def _p_cell(p: float | None) -> FormattedCell:
    return FormattedCell(MISSING if p is None else "< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0"), p)


def _scores(cell: CellResult, method: str) -> dict[int, float]:
    """Seed -> test accuracy in percent of the setting selected in the method's first space."""
    searches = next((searches for (name, _), searches in cell.methods.items() if name == method), ())
    chosen = zip(searches, select(searches, POLICY), strict=True)
    # The setting was selected on validation samples; its test score is only read here.
    column, factor = score_column("test_oracle", cell.measure), MEASURES[cell.measure].factor
    return {search.seed: float(choice.row[column]) * factor for search, choice in chosen if choice.row is not None}


def _pair(cell: CellResult, one: dict[int, float], other: dict[int, float]) -> CellComparison:
    # Paired tests need both methods on the same seed.
    common = [seed for seed in one if seed in other]
    differences = tuple(one[seed] - other[seed] for seed in common)
    row = cell.rows.iloc[0]
    rate = "" if row["noise_rate"] != row["noise_rate"] else f" {row['noise_rate'] * 100:g} %"
    name = f"{network_label(str(row['network']))}, {row['noise']}{rate}, {row['trainer']}"
    return CellComparison(name, summarise(one[seed] for seed in common), summarise(other[seed] for seed in common), differences)


def _summary(quote: Quote) -> Summary:
    return Summary(quote.mean, quote.std, SEEDS)


def _name(quote: Quote) -> str:
    about = quote.about
    rate = float(about["noise_rate"]) * 100
    return f"{network_label(str(about['network']))}, {str(about['noise']).replace('_', ' ')} {rate:g} %"


def _seeds(counts: Sequence[int]) -> str:
    """`three seeds`; `2–3 seeds` if the cells differ."""
    low, high = (min(counts), max(counts)) if counts else (0, 0)
    if low == high:
        return "one seed" if low == 1 else f"{_NUMERALS.get(low, str(low))} seeds"
    return f"{low}{DASH}{high} seeds"

"""Table `tests`: significance tests of SAP against every other corrector, over seeds and over cells; also for the published table 1."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from analysis.reference.published import SEEDS, Quote, quotes
from analysis.store.labels import (
    DASH,
    MEASURES,
    MISSING,
    REFERENCES,
    counted,
    dataset_label,
    mean_std,
    method_label,
    network_label,
    number,
    p_value,
)
from analysis.store.load import Results
from analysis.store.results import CellResult, cells
from analysis.store.selection_policy import Policy, select
from analysis.store.selection_rule import score_column
from analysis.store.stats import Summary, difference, number_of, summarise
from analysis.tables.notes import INCOMPLETE_MARK
from analysis.tables.render import Column, FormattedCell, Table
from analysis.tables.verdicts import sentence
from analysis.tuning.intervals import CONFIDENCE, FEW_SEEDS, mean_interval
from analysis.tuning.significance import LEVEL, CellComparison, CorrectedTests, MethodComparison, corrected_tests

_COLUMNS = (
    Column("row", "Cell", numeric=False),
    Column("seeds", "n"),
    Column("one_percent", "first", "Test accuracy (%)"),
    Column("other_percent", "second", "Test accuracy (%)"),
    Column("difference_points", "Difference"),
    Column("by_seed", "by seed", numeric=False),
    Column("interval", f"{CONFIDENCE * 100:g} % interval", numeric=False),
    Column("welch_p", "Welch", "p, over seeds"),
    Column("welch_holm_p", "Holm", "p, over seeds"),
    Column("paired_p", "paired", "p, over seeds"),
    Column("paired_holm_p", "Holm", "p, over seeds"),
    Column("wilcoxon_p", "Wilcoxon", "p, over cells"),
    Column("wilcoxon_holm_p", "Holm", "p, over cells"),
)

NOTES = (
    "All tests are two-sided. Welch: t-test for unequal variances. Paired: t-test on the differences by seed. Wilcoxon: signed-rank test "
    "on the mean differences of the cells. Holm: corrected for all tests in the column to its left, over opponents and cells; the "
    "sentences above rest on these p-values.",
    f"Interval: {CONFIDENCE * 100:g} % interval of the mean difference, Student's t over the n seeds of a cell, not corrected for the "
    "number of intervals; in the last row of a block over the cells.",
    "A p-value above .05 does not imply that two methods are equal, only that these seeds do not distinguish them.",
)

DEPENDENT_CELLS = (
    "The cells share their data set and seeds, and so their images, splits and random numbers: they are not independent. The test and the "
    "interval over the cells treat them as independent, so the p-value is too small where differences of cells are correlated."
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
    extra = f"Published means and standard deviations over {SEEDS} seeds."
    return _tables(published_comparisons(), _seeds([SEEDS]), "the published table 1", (extra,))


def store_comparisons(results: Results) -> tuple[MethodComparison, ...]:
    """Compares SAP (or the first corrector, without SAP) with every other corrector, by data set, each in its first space of the cell.

    A comparison without a pair of scores has no cells.
    """
    found: dict[tuple[str, str, str], list[CellComparison]] = {}
    for one in _pairings(results):
        pairs = found.setdefault((dataset_label(one.dataset), method_label(one.first), method_label(one.other)), [])
        if one.seeds:
            pairs.append(_pair(one))
    return tuple(MethodComparison(*key, tuple(pairs)) for key, pairs in found.items())


@dataclass(frozen=True)
class _Pairing:
    """The scores of two methods in one cell: seed -> test accuracy in percent."""

    dataset: str
    cell: CellResult
    first: str
    other: str
    one: dict[int, float]
    two: dict[int, float]

    @property
    def seeds(self) -> list[int]:
        """The seeds with both scores."""
        return [seed for seed in self.one if seed in self.two]


def _pairings(results: Results) -> Iterator[_Pairing]:
    """Every comparison of every cell in which both methods were tuned, also those without scores."""
    # A data set is the family of tests whose p-values are corrected together.
    by_dataset: dict[str, list[CellResult]] = {}
    for cell in cells(results):
        # Differences in accuracy and in R² cannot be averaged.
        if cell.measure == "acc" and cell.methods:
            by_dataset.setdefault(str(cell.rows.iloc[0]["dataset"]) if len(cell.rows) else cell.name, []).append(cell)
    for dataset, members in by_dataset.items():
        methods = list(dict.fromkeys(method for cell in members for method, _ in cell.methods if method not in REFERENCES))
        first = "sap" if "sap" in methods else methods[0] if methods else ""
        for other in methods:
            for cell in members if other != first else ():
                if {first, other} <= {method for method, _ in cell.methods}:
                    yield _Pairing(dataset, cell, first, other, _scores(cell, first), _scores(cell, other))


def significance(results: Results) -> tuple[Table, ...]:
    """Computes one table per data set with one block per pair of methods; none if the store has fewer than two correctors."""
    found = store_comparisons(results)
    counts = [pair.one.n for comparison in found for pair in comparison.pairs]
    extra = f"{POLICY.sentences()[0]} Each method is compared in the first search space that the plan has for the cell."
    return _tables(found, _seeds(counts), "the store", (extra, *_incomplete(results), *results.problems))


def _incomplete(results: Results) -> list[str]:
    """Names the comparisons that lack seeds, because a method has no selected setting or no test score on them."""
    return [
        f"{INCOMPLETE_MARK} {method_label(one.first)} against {method_label(one.other)}, {_cell_name(one.cell)}: "
        f"{len(one.seeds)} of {counted(len(one.cell.seeds), 'seed')} with both test scores."
        for one in _pairings(results)
        if len(one.seeds) < len(one.cell.seeds)
    ]


def _tables(found: Sequence[MethodComparison], seeds: str, source: str, extra: Iterable[str]) -> tuple[Table, ...]:
    tables = []
    for family in dict.fromkeys(comparison.family for comparison in found):
        # A comparison without cells has a sentence and no rows.
        own = [comparison for comparison in found if comparison.family == family]
        tests = corrected_tests(own)
        rows: list[tuple[FormattedCell, ...]] = []
        titles, rules = {}, set()
        for number_of_block, comparison in enumerate(own):
            if comparison.pairs:
                titles[len(rows)] = f"{comparison.one} against {comparison.other}"
                rows += _rows(comparison, tests, number_of_block)
            if len(comparison.pairs) > 1:
                rules.add(len(rows) - 1)
        if not rows:
            continue
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
                    *(sentence(verdict, seeds) for verdict in tests.verdicts),
                    _after_holm(tests),
                    *NOTES,
                    *([DEPENDENT_CELLS] if any(comparison.over_cells for comparison in own) else []),
                    *extra,
                ),
                rules=frozenset(rules),
                titles=titles,
            )
        )
    return tuple(tables)


def _rows(comparison: MethodComparison, tests: CorrectedTests, block: int) -> list[tuple[FormattedCell, ...]]:
    blank = FormattedCell(MISSING)
    rows = []
    kinds = (tests.welch, tests.welch_holm, tests.paired, tests.paired_holm)
    for pair, *p_values in zip(comparison.pairs, *(kind[block] for kind in kinds), strict=True):
        scores = [FormattedCell(mean_std(side.mean, side.std, 2), side.mean, side.std) for side in (pair.one, pair.other)]
        few = 1 < len(pair.differences) < FEW_SEEDS
        rows.append(
            (
                FormattedCell(pair.cell),
                FormattedCell(str(pair.one.n), pair.one.n),
                *scores,
                FormattedCell(number(pair.difference, 2, sign=True), pair.difference),
                _by_seed(pair.differences) if few else blank,
                _interval_cell(mean_interval(pair.differences)),
                *map(_p_cell, p_values),
                blank,
                blank,
            )
        )
    # with one cell there is no test over cells
    if not comparison.over_cells:
        return rows
    ahead = f"{len(comparison.mean_differences)} cells, first better in {comparison.wins}, worse in {comparison.losses}"
    mean = FormattedCell(number(comparison.mean_difference, 2, sign=True), comparison.mean_difference)
    over_cells = [_p_cell(p[block]) for p in (tests.wilcoxon, tests.wilcoxon_holm)]
    interval = _interval_cell(comparison.interval())
    return [*rows, (FormattedCell(ahead), *[blank] * 3, mean, blank, interval, *[blank] * 4, *over_cells)]


def _by_seed(differences: Sequence[float]) -> FormattedCell:
    return FormattedCell(", ".join(number(value, 2, sign=True) for value in differences), exact=json.dumps(list(differences)))


def _interval_cell(interval: tuple[float, float] | None) -> FormattedCell:
    text = MISSING if interval is None else " to ".join(number(end, 2, sign=True) for end in interval)
    return FormattedCell(text, interval=interval)


def _after_holm(tests: CorrectedTests) -> str:
    """States how many tests over seeds are significant before and after the correction, so that its effect is visible."""
    parts = []
    for name, found, corrected in (("Welch's", tests.welch, tests.welch_holm), ("paired", tests.paired, tests.paired_holm)):
        known = [p for group in found for p in group if p is not None]
        below = [sum(p is not None and p <= LEVEL for group in some for p in group) for some in (found, corrected)]
        if known:
            parts.append(
                f"{name} p is at most .05 in {below[0]} of {counted(len(known), 'test')}, and after Holm's correction in {below[1]}"
            )
    return f"Over the seeds, {'; '.join(parts)}." if parts else "No test over the seeds is possible: there are fewer than two of them."


def _p_cell(p: float | None) -> FormattedCell:
    return FormattedCell(p_value(p), p)


def _scores(cell: CellResult, method: str) -> dict[int, float]:
    """Seed -> test accuracy in percent of the setting selected in the method's first space; seeds without one are left out."""
    searches = next((searches for (name, _), searches in cell.methods.items() if name == method), ())
    # The setting was selected on validation samples; its test score is only read here.
    column, factor = score_column("test_oracle", cell.measure), MEASURES[cell.measure].factor
    found = {
        search.seed: number_of(choice.row[column])
        for search, choice in zip(searches, select(searches, POLICY), strict=True)
        if choice.row is not None
    }
    return {seed: score * factor for seed, score in found.items() if score is not None}


def _pair(pairing: _Pairing) -> CellComparison:
    # Paired tests need both methods on the same seed.
    one, other = ([scores[seed] for seed in pairing.seeds] for scores in (pairing.one, pairing.two))
    differences = tuple(difference(first, second) for first, second in zip(one, other, strict=True))
    return CellComparison(_cell_name(pairing.cell), summarise(one), summarise(other), differences)


def _cell_name(cell: CellResult) -> str:
    if cell.rows.empty:
        return cell.name
    row = cell.rows.iloc[0]
    rate = "" if row["noise_rate"] != row["noise_rate"] else f" {row['noise_rate'] * 100:g} %"
    return f"{network_label(str(row['network']))}, {row['noise']}{rate}, {row['trainer']}"


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

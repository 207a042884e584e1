"""Table `comparison`: every method and search space of a cell, with the unmodified and the retrained model as references."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.store.labels import MEASURES, MISSING, REFERENCES, RETRAIN, Measure, counted, mean_std, method_label, seconds, spread_over
from analysis.store.load import Results
from analysis.store.results import CellResult, cells
from analysis.store.selection_rule import score_column
from analysis.store.stats import Summary, number_of, score_difference, summarise
from analysis.tables.method_rows import MethodRow, failures_text, information_text, method_rows, settings_text
from analysis.tables.notes import BOUNDARY_MARK, INCOMPLETE_MARK, NO_SECONDS_MARK, cell_title, comparison_notes
from analysis.tables.rank import rank_column
from analysis.tables.render import Column, FormattedCell, Table
from analysis.tuning.cost import per_seed, unit_of
from sap_core.records import VANILLA

RULES_SHOWN = ("val_noisy", "val_clean_part")

_OPTIONAL = ("failed", "giga_flops", "standalone_giga_flops", "unmodified_kept", "trusted_label_precision", "mislabelled_")
"""Prefixes of the columns that are left out if they are empty in every row."""


def comparison(results: Results, rules: Sequence[str] = RULES_SHOWN) -> tuple[Table, ...]:
    """Computes one table per cell. Gains, trusted samples and mislabelled samples are those of the first rule.

    Raises:
        UserError: the store belongs to a smoke run, or its plan has nothing to tabulate.
    """
    return tuple(_table(results, cell, rules) for cell in cells(results))


def _table(results: Results, cell: CellResult, rules: Sequence[str]) -> Table:
    measure = MEASURES[cell.measure]
    listed = method_rows(cell, rules)
    # FLOPs are printed as soon as the seconds of one search are not comparable
    with_flops = any(unit_of(row.searches) == "flops" for row in listed if row.method not in REFERENCES)
    # Rows are built with all columns, ranked, and only then stripped of the empty ones, so that indices stay valid.
    body = [_vanilla_row(cell, rules, measure), *(_method_row(cell, row, rules, measure, with_flops) for row in listed)]
    columns = _columns(rules, measure)
    # the row of the unmodified model is row 0
    contenders = [number for number, row in enumerate(listed, start=1) if row.method not in REFERENCES and not row.incomplete]
    # Only test scores are ranked, and never those of the oracle rule.
    for number, column in enumerate(columns):
        if column.key.startswith("test_") and "oracle" not in column.key:
            rank_column(body, number, contenders, measure.decimals)
    shown = [
        number
        for number, column in enumerate(columns)
        if not column.key.startswith(_OPTIONAL) or any(row[number].text not in (MISSING, "0") for row in body)
    ]
    retrain = next((number for number, row in enumerate(listed, start=1) if row.method == RETRAIN), 0)
    return Table(
        name="comparison",
        cell=cell.name,
        caption=_caption(cell, listed, measure),
        columns=tuple(columns[number] for number in shown),
        rows=tuple(tuple(row[number] for number in shown) for row in body),
        notes=(*comparison_notes(results, cell, listed, rules), *_missing_scores(cell, listed)),
        # Lines below the unmodified model and above retraining separate the references from the contenders; 0 means no retraining.
        rules=frozenset({1, retrain} - {0}) if listed else frozenset(),
    )


def _columns(rules: Sequence[str], measure: Measure) -> list[Column]:
    unit = f" ({measure.unit})" if measure.unit else ""
    suffix = "_percent" if measure.unit == "%" else ""
    return [
        Column("method", "Method", numeric=False),
        Column("settings", "Settings", numeric=False),
        Column("failed", "Failed", numeric=False),
        Column("information", "Information used", numeric=False),
        *(Column(f"test_{rule}{suffix}", rule, f"Test {measure.name}{unit}") for rule in rules),
        Column("gain_points", "Gain" + (" (points)" if measure.unit else "")),
        Column("tuning_seconds", "amortised", "Tuning cost (s)"),
        Column("standalone_seconds", "standalone", "Tuning cost (s)"),
        Column("giga_flops", "amortised", "Tuning cost (GFLOP)"),
        Column("standalone_giga_flops", "standalone", "Tuning cost (GFLOP)"),
        Column("unmodified_kept", "Kept vanilla", numeric=False),
        Column("trusted_label_precision_percent", "Trusted correct (%)"),
        Column("mislabelled_given_percent", "given label", "Mislabelled (%)"),
        Column("mislabelled_true_percent", "true label", "Mislabelled (%)"),
    ]


def _vanilla_row(cell: CellResult, rules: Sequence[str], measure: Measure) -> list[FormattedCell]:
    rows = [baseline.row for baseline in cell.baselines]
    scores = [None if row is None else number_of(row[score_column("test_oracle", cell.measure)]) for row in rows]
    mark = INCOMPLETE_MARK if None in scores else ""

    def mean(column: str, shown: Measure) -> FormattedCell:
        return _number(summarise(None if row is None else number_of(row[column]) for row in rows), shown)

    # The unmodified model has one test score, whatever the rule.
    test = mean(score_column("test_oracle", cell.measure), measure)
    blank = FormattedCell(MISSING)
    return [
        FormattedCell(method_label(VANILLA), marks=mark), blank, blank, FormattedCell("none"), *(test for _ in rules), *([blank] * 7),
        mean("mislabelled_given_acc", _SHARE), mean("mislabelled_true_acc", _SHARE),
    ]  # fmt: skip


def _method_row(cell: CellResult, row: MethodRow, rules: Sequence[str], measure: Measure, with_flops: bool) -> list[FormattedCell]:
    test, first = score_column("test_oracle", cell.measure), rules[0]
    unknown = (Summary(None, None, 0),) * 2
    # A reference was not searched: its training is not the cost of a search.
    searched = row.method not in REFERENCES
    # Computed for every row as soon as one needs them, so that the column can be compared.
    flops = per_seed(row.searches, "flops") if with_flops and searched else unknown
    mark = "" if not searched or unit_of(row.searches) == "seconds" else NO_SECONDS_MARK
    # Paired by seed, so that differences between the baselines do not enter their spread.
    gains = [
        None if choice.row is None or search.vanilla is None else score_difference(choice.row, search.vanilla, test)
        for search, choice in zip(row.searches, row.chosen[first], strict=True)
    ]
    kept = sum(choice.kept for choice in row.chosen[first])
    # The unmodified model has trusted no samples.
    trusted = [
        None if choice.kept or choice.row is None else number_of(choice.row["trusted_label_precision"]) for choice in row.chosen[first]
    ]
    return [
        FormattedCell(method_label(row.method, row.space), marks=INCOMPLETE_MARK if row.incomplete else ""),
        FormattedCell(settings_text(row)),
        FormattedCell(failures_text(row)),
        FormattedCell(information_text(row)),
        *(_number(summarise(row.scores(rule, test)), measure, marks=_marks(row, rule, test)) for rule in rules),
        _number(summarise(gains), measure, sign=True, marks=INCOMPLETE_MARK if None in gains else ""),
        *(FormattedCell(seconds(cost.mean), cost.mean, cost.std, mark) for cost in (per_seed(row.searches) if searched else unknown)),
        *(giga_flops(cost) for cost in flops),
        FormattedCell(f"{kept} of {len(row.searches)}" if kept else "0"),
        _number(summarise(trusted), _SHARE),
        _number(summarise(row.scores(first, "mislabelled_given_acc")), _SHARE),
        _number(summarise(row.scores(first, "mislabelled_true_acc")), _SHARE),
    ]


_SHARE = Measure("share", "%", 100, 1)
"""Shares of samples: percent with one decimal, without a standard deviation."""


def _number(summary: Summary, measure: Measure, marks: str = "", sign: bool = False) -> FormattedCell:
    shown = summary.times(measure.factor)
    text = mean_std(shown.mean, None if measure is _SHARE else shown.std, measure.decimals, sign)
    return FormattedCell(text, shown.mean, shown.std, marks)


def giga_flops(cost: Summary) -> FormattedCell:
    """Formats FLOPs in units of 10^9."""
    shown = cost.times(1e-9)
    return FormattedCell(seconds(shown.mean), shown.mean, shown.std)


def _marks(row: MethodRow, rule: str, test: str) -> str:
    # A mark at the score, because the score is what a wider range might improve.
    at_boundary = any(choice.boundary_values for choice in row.chosen[rule])
    incomplete = None in row.scores(rule, test)
    return (BOUNDARY_MARK if at_boundary else "") + (INCOMPLETE_MARK if incomplete else "")


def _missing_scores(cell: CellResult, listed: Sequence[MethodRow]) -> list[str]:
    """Counts the selected rows, and the unmodified models, that have no test score although they are stored."""
    test = score_column("test_oracle", cell.measure)
    rows = {method_label(VANILLA): [baseline.row for baseline in cell.baselines]}
    rows |= {method_label(row.method, row.space): [choice.row for choices in row.chosen.values() for choice in choices] for row in listed}
    counts = {
        name: len({str(row["run_id"]) for row in some if row is not None and number_of(row[test]) is None}) for name, some in rows.items()
    }
    return [
        f"{INCOMPLETE_MARK} {name}: {counted(count, 'stored row')} without a test score; means are over the other seeds, and not ranked."
        for name, count in counts.items()
        if count
    ]


def _caption(cell: CellResult, listed: Sequence[MethodRow], measure: Measure) -> str:
    test = score_column("test_oracle", cell.measure)
    missing = sum(row.scores(rule, test).count(None) for row in listed for rule in row.chosen)
    incomplete = f" {counted(missing, 'missing value')}, marked {INCOMPLETE_MARK}." if missing else ""
    spread = spread_over(len(cell.seeds))
    return f"Test {measure.name} after tuning on {cell_title(cell)}: {spread}.{incomplete}"

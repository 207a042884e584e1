"""Table `cost`: the tuning cost of every search, amortised and standalone, by phase, in sample passes and in FLOPs."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.store.labels import MISSING, REFERENCES, counted, method_label, number, seconds, span
from analysis.store.load import Results
from analysis.store.results import CellResult, SearchResult, cells
from analysis.store.stats import Summary, summarise
from analysis.tables.comparison import giga_flops
from analysis.tables.notes import COST, NO_SECONDS_MARK, cell_title, reference_costs, seconds_notes
from analysis.tables.render import Column, FormattedCell, Table
from analysis.tuning.cost import STANDALONE_PHASES, circumstances, per_seed, unit_of

_PASSES = tuple(
    (f"{prefix}sample_{direction}", direction, kind)
    for direction in ("forwards", "backwards")
    for prefix, kind in (("", "amortised"), ("standalone_", "standalone"))
)
"""Column of the rows, direction, and kind of cost."""

_COLUMNS = (
    Column("method", "Method", numeric=False),
    Column("settings", "Settings"),
    Column("tuning_seconds", "amortised", "Seconds per seed"),
    Column("standalone_seconds", "standalone", "Seconds per seed"),
    Column("standalone_per_amortised", "standalone / amortised"),
    *(Column(name, name.removesuffix("_seconds"), "Standalone seconds by phase") for name in STANDALONE_PHASES),
    *(Column(name, f"{direction}, {kind}", "Sample passes") for name, direction, kind in _PASSES),
    Column("giga_flops", "amortised", "GFLOP"),
    Column("standalone_giga_flops", "standalone", "GFLOP"),
    Column("peak_memory_megabytes", "Peak MB"),
)


def cost(results: Results) -> tuple[Table, ...]:
    """Computes one table per cell: sums over one search, averaged over the seeds."""
    return tuple(_table(results, cell) for cell in cells(results))


def _table(results: Results, cell: CellResult) -> Table:
    searches = [search for (method, _), group in cell.methods.items() if method not in REFERENCES for search in group]
    return Table(
        name="cost",
        cell=cell.name,
        caption=f"Tuning cost on {cell_title(cell)}: complete search on one seed, mean over {counted(len(cell.seeds), 'seed')}."
        + _exclusive(results, cell),
        columns=_COLUMNS,
        rows=tuple(_row(method, space, searches) for (method, space), searches in cell.methods.items()),
        notes=(
            COST,
            *_incomplete(cell),
            *seconds_notes(cell, searches),
            *reference_costs(cell),
            *_ratios(cell),
            *circumstances(cell.rows),
            *results.problems,
        ),
    )


def _row(method: str, space: str | None, searches: Sequence[SearchResult]) -> tuple[FormattedCell, ...]:
    # The largest job of a search, because memory must suffice for each of them.
    peak = summarise(search.rows["peak_memory_bytes"].max() / 2**20 for search in searches)
    settings = summarise(float(len(search.planned)) for search in searches)
    head = (FormattedCell(method_label(method, space)), FormattedCell(number(settings.mean, 0), settings.mean))
    memory = FormattedCell(number(peak.mean, 0), peak.mean)
    if method in REFERENCES:
        # Not searched: its training is not the cost of a search.
        return (*head, *[FormattedCell(MISSING)] * (len(_COLUMNS) - len(head) - 1), memory)
    amortised, standalone = per_seed(searches)
    # Seconds on shared devices are left out, not printed with a warning: they would be read as a cost.
    mark = "" if unit_of(searches) == "seconds" else NO_SECONDS_MARK
    ratio = standalone.mean / amortised.mean if standalone.mean is not None and amortised.mean else None
    return (
        *head,
        *(FormattedCell(seconds(summary.mean), summary.mean, summary.std, mark) for summary in (amortised, standalone)),
        FormattedCell(number(ratio, 1), ratio),
        *(_phase_cell(_summed(searches, phase), mark) for phase in STANDALONE_PHASES),
        *(_large_cell(_summed(searches, name)) for name, *_ in _PASSES),
        *(giga_flops(cost) for cost in per_seed(searches, "flops")),
        memory,
    )


def _incomplete(cell: CellResult) -> list[str]:
    """States which searches have planned settings without a row, because their cost is not that of the complete search."""
    found = []
    for (method, space), searches in cell.methods.items():
        if missing := sum(search.missing for search in searches):
            planned = sum(len(search.planned) for search in searches)
            found.append(
                f"{method_label(method, space)}: {missing} of {planned} planned settings have no row; its costs are those of the stored "
                "rows, and less than those of the complete search."
            )
    return found


def _summed(searches: Sequence[SearchResult], column: str) -> Summary:
    return summarise(float(search.rows[column].sum(min_count=1)) for search in searches)


def _phase_cell(summary: Summary, mark: str) -> FormattedCell:
    return FormattedCell(MISSING) if mark or summary.mean is None else FormattedCell(seconds(summary.mean), summary.mean, summary.std)


def _large_cell(summary: Summary) -> FormattedCell:
    return FormattedCell(MISSING if summary.mean is None else f"{summary.mean:,.0f}", summary.mean, summary.std)


def _ratios(cell: CellResult) -> list[str]:
    """States the amortised cost of each search as a multiple of SAP's, or of the cheapest search's without SAP."""
    # Retraining has no search whose cost could be compared.
    contenders = {key: searches for key, searches in cell.methods.items() if key[0] not in REFERENCES}
    unit = unit_of(search for searches in contenders.values() for search in searches)
    costs = {key: per_seed(searches, unit)[0].mean for key, searches in contenders.items()}
    # Neither missing nor zero, by which a ratio is undefined.
    known = {key: value for key, value in costs.items() if value}
    if len(known) < 2:
        return []
    sap = [key for key in known if key[0] == "sap"]
    # SAP's cost is the natural unit; without SAP, the cheapest search.
    base = sap[0] if sap else min(known, key=lambda key: known[key])
    settings = {key: sum(len(search.planned) for search in cell.methods[key]) for key in known}
    ratios = [
        f"{method_label(*key)} {known[key] / known[base]:.3g} (settings {settings[key] / settings[base]:.3g})"
        for key in known
        if key != base
    ]
    return [f"Amortised {'FLOPs' if unit == 'flops' else unit} as a multiple of {method_label(*base)}: {', '.join(ratios)}."]


def _exclusive(results: Results, cell: CellResult) -> str:
    """States how the seconds of jobs rerun on an exclusive device compare with those of the sweep, by method."""
    timings = results.timings[results.timings["job_id"].isin(cell.rows["job_id"]) & (results.timings["phase"] == "all")]
    # A job without measured work has no ratio.
    timings = timings[timings["seconds"] > 0].assign(factor=lambda lines: lines["exclusive_seconds"] / lines["seconds"])
    # the caption names methods in the order of the plan
    order = {job_id: index for index, job_id in enumerate(results.plan["job_id"])}
    timings = timings.sort_values("job_id", key=lambda names: names.map(order))
    ratios = []
    for (method, space), lines in timings.groupby(["method", "space"], sort=False, dropna=False):
        factors = lines["factor"]
        label = method_label(str(method), str(space) if isinstance(space, str) else None)
        # The median and the range, because jobs of one search differ in length.
        ratios.append(f"{label} {factors.median():.2f} ({span(factors, 2)}; {counted(len(factors), 'job')})")
    return f" Rerun on an exclusive device, as a multiple of the sweep's seconds, median (range): {', '.join(ratios)}." if ratios else ""

"""The cost of every search, by phase: what was spent, and what sharing work between settings has saved."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.store.labels import MISSING, REFERENCES, counted, method_label, number, seconds, span
from analysis.store.load import Results
from analysis.store.results import CellResult, SearchResult, cells
from analysis.store.stats import Summary, summarise
from analysis.tables.comparison import giga_flops
from analysis.tables.notes import COST, SHARED, cell_title, seconds_notes
from analysis.tables.render import Cell, Column, Table
from analysis.tuning.cost import STANDALONE_PHASES, circumstances, per_seed, unit_of

_PASSES = tuple(
    (f"sample_{direction}{ending}", direction, how)
    for direction in ("forwards", "backwards")
    for ending, how in (("", "shared"), ("_alone", "alone"))
)

_COLUMNS = (
    Column("method", "Method", numeric=False),
    Column("settings", "Settings"),
    Column("tuning_seconds", "shared", "Seconds of one seed"),
    Column("alone_seconds", "alone", "Seconds of one seed"),
    Column("saved_factor", "alone / shared"),
    *(Column(name, name.removesuffix("_seconds"), "Seconds alone, by phase") for name in STANDALONE_PHASES),
    *(Column(name, f"{direction}, {how}", "Sample passes") for name, direction, how in _PASSES),
    Column("giga_flops", "shared", "GFLOP"),
    Column("giga_flops_alone", "alone", "GFLOP"),
    Column("peak_memory_megabytes", "Peak MB"),
)


def cost(results: Results) -> tuple[Table, ...]:
    """One table per cell; sums over one search, mean over the seeds."""
    return tuple(_table(results, cell) for cell in cells(results))


def _table(results: Results, cell: CellResult) -> Table:
    searches = [search for group in cell.methods.values() for search in group]
    return Table(
        name="cost",
        cell=cell.name,
        caption=f"Tuning cost on {cell_title(cell)}: one seed's whole search, mean over {counted(len(cell.seeds), 'seed')}."
        + _exclusive(results, cell),
        columns=_COLUMNS,
        rows=tuple(_row(method, space, searches) for (method, space), searches in cell.methods.items()),
        notes=(COST, *seconds_notes(cell, searches), *_ratios(cell), *circumstances(cell.rows), *results.problems),
    )


def _row(method: str, space: str | None, searches: Sequence[SearchResult]) -> tuple[Cell, ...]:
    shared, alone = per_seed(searches)
    mark = "" if unit_of(searches) == "seconds" else SHARED
    saved = alone.mean / shared.mean if alone.mean is not None and shared.mean else None
    peak = summarise(search.rows["peak_memory_bytes"].max() / 2**20 for search in searches)
    settings = summarise(float(len(search.planned)) for search in searches)
    return (
        Cell(method_label(method, space)),
        Cell(number(settings.mean, 0), settings.mean),
        *(Cell(seconds(summary.mean), summary.mean, summary.std, mark) for summary in (shared, alone)),
        Cell(number(saved, 1), saved),
        *(_phase_cell(_summed(searches, phase), mark) for phase in STANDALONE_PHASES),
        *(_large_cell(_summed(searches, name)) for name, *_ in _PASSES),
        *(giga_flops(cost) for cost in per_seed(searches, "flops")),
        Cell(number(peak.mean, 0), peak.mean),
    )


def _summed(searches: Sequence[SearchResult], column: str) -> Summary:
    return summarise(float(search.rows[column].sum(min_count=1)) for search in searches)


def _phase_cell(summary: Summary, mark: str) -> Cell:
    return Cell(MISSING) if mark or summary.mean is None else Cell(seconds(summary.mean), summary.mean, summary.std)


def _large_cell(summary: Summary) -> Cell:
    return Cell(MISSING if summary.mean is None else f"{summary.mean:,.0f}", summary.mean, summary.std)


def _ratios(cell: CellResult) -> list[str]:
    """How many times each search costs what the cheapest contender's search costs."""
    contenders = {key: searches for key, searches in cell.methods.items() if key[0] not in REFERENCES}
    unit = unit_of(search for searches in contenders.values() for search in searches)
    costs = {key: per_seed(searches, unit)[0].mean for key, searches in contenders.items()}
    known = {key: value for key, value in costs.items() if value}
    if len(known) < 2:
        return []
    sap = [key for key in known if key[0] == "sap"]
    base = sap[0] if sap else min(known, key=lambda key: known[key])
    settings = {key: sum(len(search.planned) for search in cell.methods[key]) for key in known}
    told = [
        f"{method_label(*key)} {known[key] / known[base]:.3g} (settings {settings[key] / settings[base]:.3g})"
        for key in known
        if key != base
    ]
    return [f"Shared {'FLOPs' if unit == 'flops' else unit} as a multiple of {method_label(*base)}: {', '.join(told)}."]


def _exclusive(results: Results, cell: CellResult) -> str:
    """By method, how the seconds of jobs that were measured again alone compare with those of the sweep."""
    mine = results.timings[results.timings["job_id"].isin(cell.rows["job_id"]) & (results.timings["phase"] == "all")]
    mine = mine[mine["seconds"] > 0].assign(factor=lambda lines: lines["exclusive_seconds"] / lines["seconds"])
    order = {job_id: place for place, job_id in enumerate(results.plan["job_id"])}
    mine = mine.sort_values("job_id", key=lambda names: names.map(order))
    told = []
    for (method, space), lines in mine.groupby(["method", "space"], sort=False, dropna=False):
        factors = lines["factor"]
        label = method_label(str(method), str(space) if isinstance(space, str) else None)
        told.append(f"{label} {factors.median():.2f} ({span(factors, 2)}; {counted(len(factors), 'job')})")
    return f" Measured again alone, as a multiple of the sweep's seconds, median (range): {', '.join(told)}." if told else ""

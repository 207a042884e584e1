"""The cost of every search, by phase: what was spent, and what sharing work between settings has saved."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.cells import Cell as SweepCell
from analysis.cells import Search, cells
from analysis.labels import MISSING, REFERENCES, counted, method_label, number, seconds
from analysis.load import Results
from analysis.render import Cell, Column, Table
from analysis.stats import Summary, summarise
from analysis.tables.notes import COST, cell_title
from analysis.tuning_cost import ALONE, circumstances, per_seed

_COLUMNS = (
    Column("method", "Method", numeric=False),
    Column("settings", "Settings"),
    Column("shared_seconds", "shared", "Seconds of one seed"),
    Column("alone_seconds", "alone", "Seconds of one seed"),
    Column("saved_factor", "alone / shared"),
    *(Column(name, name.removesuffix("_seconds"), "Seconds alone, by phase") for name in ALONE),
    Column("sample_forwards", "forwards", "Sample passes"),
    Column("sample_backwards", "backwards", "Sample passes"),
    Column("giga_flops", "GFLOP"),
    Column("peak_memory_megabytes", "Peak MB"),
)


def cost(results: Results) -> tuple[Table, ...]:
    """One table per cell; sums over one search, mean over the seeds."""
    return tuple(_table(results, cell) for cell in cells(results))


def _table(results: Results, cell: SweepCell) -> Table:
    return Table(
        name="cost",
        cell=cell.name,
        caption=f"Tuning cost on {cell_title(cell)}: one seed's whole search, mean over {counted(len(cell.seeds), 'seed')}.",
        columns=_COLUMNS,
        rows=tuple(_row(method, space, searches) for (method, space), searches in cell.methods.items()),
        notes=(COST, *_ratios(cell), *circumstances(cell.rows), *results.problems),
    )


def _row(method: str, space: str | None, searches: Sequence[Search]) -> tuple[Cell, ...]:
    shared, alone = per_seed(searches)
    saved = alone.mean / shared.mean if alone.mean is not None and shared.mean else None
    peak = summarise(search.rows["peak_memory_bytes"].max() / 2**20 for search in searches)
    settings = summarise(float(len(search.planned)) for search in searches)
    return (
        Cell(method_label(method, space)),
        Cell(number(settings.mean, 0), settings.mean),
        *(Cell(seconds(summary.mean), summary.mean, summary.std) for summary in (shared, alone)),
        Cell(number(saved, 1), saved),
        *(_seconds_cell(_summed(searches, phase)) for phase in ALONE),
        *(_large_cell(_summed(searches, passes)) for passes in ("sample_forwards", "sample_backwards")),
        _seconds_cell(_summed(searches, "flops").times(1e-9)),
        Cell(number(peak.mean, 0), peak.mean),
    )


def _summed(searches: Sequence[Search], column: str) -> Summary:
    return summarise(float(search.rows[column].sum(min_count=1)) for search in searches)


def _seconds_cell(summary: Summary) -> Cell:
    return Cell(seconds(summary.mean), summary.mean, summary.std)


def _large_cell(summary: Summary) -> Cell:
    return Cell(MISSING if summary.mean is None else f"{summary.mean:,.0f}", summary.mean, summary.std)


def _ratios(cell: SweepCell) -> list[str]:
    """How many times each search costs what the cheapest contender's search costs."""
    costs = {key: per_seed(searches)[0].mean for key, searches in cell.methods.items() if key[0] not in REFERENCES}
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
    return [f"Shared seconds as a multiple of {method_label(*base)}: {', '.join(told)}."]

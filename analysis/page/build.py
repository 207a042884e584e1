"""Makes the page: gathers facts, tables and plots, and fills the template. Every text is escaped by the template engine."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import Any

from analysis.page.facts import Facts, facts
from analysis.plots import figures
from analysis.reports import report
from analysis.store.labels import counted
from analysis.store.load import Results
from analysis.tables.render import Column, FormattedCell, Table, flat, latex, markdown
from sap_core.errors import UserError

_PLOT_DPI = 160

_GAPS_SHOWN = 20


@dataclass(frozen=True)
class Tile:
    """One number at the top."""

    value: str
    label: str


@dataclass(frozen=True)
class Group:
    """A header over several columns."""

    name: str
    span: int


@dataclass(frozen=True)
class ShownTable:
    """A table with what the page needs beside its cells."""

    anchor: str
    table: Table
    groups: tuple[Group, ...]
    latex: str
    markdown: str

    @property
    def ranked(self) -> bool:
        return any(cell.rank for row in self.table.rows for cell in row)


@dataclass(frozen=True)
class ShownPlot:
    """A figure as a PNG inside the page."""

    anchor: str
    title: str
    data: str  # base64


def page(results: Results, refresh: float | None = None) -> str:
    """The whole HTML file. With `refresh`, the browser reads it again after so many seconds for as long as rows are missing."""
    found = facts(results)
    problems: list[str] = []
    tables = [] if results.debug else list(_tables(results, problems))
    plots = [] if results.debug else list(_plots(results, problems))
    lead = {table.name for table in _caught(lambda: report.main_tables(results), [])} if tables else set()
    return _template().render(
        facts=found,
        debug=results.debug,
        state=_state(found),
        share=found.ok / found.planned if found.planned else 0.0,
        failed_share=found.failed / found.planned if found.planned else 0.0,
        tiles=_tiles(found),
        first_tables=[table for table in tables if table.table.name in lead],
        other_tables=[table for table in tables if table.table.name not in lead],
        plots=plots,
        problems=[*dict.fromkeys([*results.problems, *results.damage, *problems])],
        missing=_gaps(results),
        refresh=refresh if refresh and found.missing else None,
        style=_asset("page.css"),
        script=_asset("page.js"),
    )


def sort_key(column: Column, cell: FormattedCell) -> str:
    """What a column is sorted by: the number behind a cell where there is one."""
    return repr(cell.value) if column.numeric and cell.value is not None else "" if column.numeric else cell.text.lower()


def _state(found: Facts) -> tuple[str, str]:
    """(class, words) of the badge at the top."""
    if found.missing:
        return "running", f"{found.ok + found.failed:,} of {found.planned:,} rows"
    return ("failed", f"complete, {counted(found.failed, 'failed row')}") if found.failed else ("done", "complete")


def _tiles(found: Facts) -> list[Tile]:
    stages = {stage.name: stage for stage in found.stages}
    tuned = sum(stage.done for name, stage in stages.items() if name in ("tune", "search"))
    tiles = [
        Tile(f"{found.ok:,}", f"of {found.planned:,} planned rows"),
        Tile(str(stages["train"].done if "train" in stages else 0), "baselines trained"),
        Tile(f"{tuned:,}", "settings tried"),
        Tile(str(len(found.seeds)), "seeds" if len(found.seeds) != 1 else "seed"),
    ]
    if found.noises:
        tiles.append(Tile(found.noises[0].measured, "labels really wrong" + (" (first data set)" if len(found.noises) > 1 else "")))
    if found.compute_seconds is not None:
        tiles.append(Tile(_duration(found.compute_seconds), "of compute, all jobs added up"))
    return tiles


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _tables(results: Results, problems: list[str]) -> Iterator[ShownTable]:
    for name in report.names_of(results):
        for number, table in enumerate(map(flat, _caught(lambda name=name: report.tables_of(results, name), problems))):  # type: ignore[misc]
            groups = tuple(Group(key, len(list(members))) for key, members in groupby(table.columns, key=lambda column: column.group))
            yield ShownTable(_anchor(f"table-{name}-{number}"), table, groups, latex(table), markdown(table))


def _plots(results: Results, problems: list[str]) -> Iterator[ShownPlot]:
    for name in report.PLOTS:
        with figures.rc_context():
            figure = _caught(lambda name=name: report.PLOTS[name](results), problems)  # type: ignore[misc]
            if not figure:
                continue
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=_PLOT_DPI)
            title = figure.get_suptitle() or name.replace("_", " ")
            figures.close(figure)
        yield ShownPlot(_anchor(f"plot-{name}"), title, base64.b64encode(buffer.getvalue()).decode())


def _caught(make: Callable[[], Any], problems: list[str] | Any) -> Any:
    """What `make` gives; nothing, and a sentence, where the store has not what it needs (yet)."""
    try:
        return make()
    except UserError as error:
        problems.append(f"{error}.")
        return ()


def _gaps(results: Results) -> list[tuple[str, int]]:
    groups = results.missing.groupby(["cell", "method"], sort=False).size().reset_index(name="rows")
    return [(f"{method} on {cell}", int(count)) for cell, method, count in groups.itertuples(index=False)][:_GAPS_SHOWN]


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9-]+", "-", text.lower())


def _asset(name: str) -> str:
    return files("analysis.page").joinpath(name).read_text(encoding="utf-8")


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals["sort_key"] = sort_key
    return environment.from_string(_asset("page.html"))

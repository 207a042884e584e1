"""Renders the HTML page from facts, tables and plots. The template engine escapes every text of the store."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

from analysis.page.facts import Facts, facts
from analysis.plots import figures
from analysis.reports import report
from analysis.reports.side_by_side import side_by_side
from analysis.store.labels import counted
from analysis.store.load import Results
from analysis.tables.latex import latex
from analysis.tables.names import has_latex, printing
from analysis.tables.print_options import PrintOptions
from analysis.tables.render import Column, FormattedCell, Table, flat, markdown, readable
from sap_core.errors import UserError
from sap_core.files import save_text

PAGE = "report.html"
"""Name of the file."""

_PLOT_DPI = 160

_MAX_MISSING = 20
"""Largest number of groups of missing rows that are listed."""


@dataclass(frozen=True)
class Tile:
    """One number at the top of the page."""

    value: str
    label: str


@dataclass(frozen=True)
class HeaderGroup:
    """A header above several columns."""

    name: str
    span: int


@dataclass(frozen=True)
class PageTable:
    """A table with its HTML anchor, its grouped header, and its LaTeX and Markdown source."""

    anchor: str
    table: Table
    groups: tuple[HeaderGroup, ...]
    latex: str
    markdown: str

    @property
    def ranked(self) -> bool:
        """Whether the table marks the best and second-best values."""
        return any(cell.rank for row in self.table.rows for cell in row)


@dataclass(frozen=True)
class PagePlot:
    """A figure as an embedded PNG."""

    anchor: str
    caption: str
    data: str  # base64


def render_page(results: Results, refresh: float | None = None, options: PrintOptions = PrintOptions()) -> str:  # noqa: B008  # frozen
    """Renders the HTML file.

    Args:
        results: the loaded stores.
        refresh: the interval in seconds at which the browser reloads the page while rows are missing; None for never.
        options: how tables are printed; the names also stand in figures and in the other parts of the page.
    """
    with printing(options.names):
        return _render(results, refresh, options)


def _render(results: Results, refresh: float | None, options: PrintOptions) -> str:
    found = facts(results)
    problems: list[str] = []
    # Numbers of smoke runs are refused by all tables and plots; the page then shows the progress only.
    tables = [] if results.debug else list(_tables(results, options, problems))
    plots = [] if results.debug else list(_plots(results, problems))
    # The tables that the command line prints come first; errors were already collected above.
    lead = {table.name for table in _report_errors(lambda: report.main_tables(results), [])} if tables else set()
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
        # One message may come from the store, from a table and from a figure.
        problems=[*dict.fromkeys([*results.problems, *results.damage, *problems])],
        missing=_missing_rows(results),
        # A complete page does not reload itself.
        refresh=refresh if refresh and found.missing else None,
        style=_asset("page.css"),
        script=_asset("page.js"),
    )


def write_page(results: Results, folder: Path, options: PrintOptions = PrintOptions()) -> Path:  # noqa: B008  # frozen
    """Writes report.html into a folder; see `render_page`."""
    path = folder / PAGE
    save_text(path, render_page(results, options=options))
    return path


def sort_key(column: Column, cell: FormattedCell) -> str:
    """The sort key of a cell: its number in a numeric column, otherwise its text in lower case."""
    if not column.numeric:
        return cell.text.lower()
    number = cell.value if cell.value is not None or cell.interval is None else cell.interval[0]
    # repr keeps every digit, and the script sorts empty keys last.
    return "" if number is None else repr(number)


def _state(found: Facts) -> tuple[str, str]:
    """The CSS class and the text of the badge at the top."""
    if found.missing:
        return "running", f"{found.ok + found.failed:,} of {found.planned:,} rows"
    return ("failed", f"complete, {counted(found.failed, 'failed row')}") if found.failed else ("done", "complete")


def _tiles(found: Facts) -> list[Tile]:
    counts = {count.name: count for count in found.counts}
    tuned = sum(count.done for name, count in counts.items() if name in ("tune", "search"))
    tiles = [
        Tile(f"{found.ok:,}", f"of {found.planned:,} planned rows"),
        Tile(str(counts["train"].done if "train" in counts else 0), "baselines trained"),
        Tile(f"{tuned:,}", "settings tried"),
        Tile(str(len(found.seeds)), "seeds" if len(found.seeds) != 1 else "seed"),
    ]
    if found.noises:
        tiles.append(Tile(found.noises[0].measured, "wrong training labels" + (" (first data set)" if len(found.noises) > 1 else "")))
    if found.compute_seconds is not None:
        tiles.append(Tile(_duration(found.compute_seconds), "of compute, summed over jobs"))
    return tiles


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _tables(results: Results, options: PrintOptions, problems: list[str]) -> Iterator[PageTable]:
    for name in report.names_of(results):
        made = _report_errors(lambda name=name: report.make_tables(results, name, options), problems)  # type: ignore[misc]
        # Tables are expensive to make, so a second time only if LaTeX prints other names.
        in_latex = report.make_tables(results, name, options, latex=True) if made and has_latex(options.names) else made
        # Row groups become a column, because a browser sorts rows.
        for number, (table, source) in enumerate(zip(map(readable, map(flat, made)), in_latex, strict=True)):
            groups = tuple(HeaderGroup(key, len(list(members))) for key, members in groupby(table.columns, key=lambda column: column.group))
            yield PageTable(_anchor(f"table-{name}-{number}"), table, groups, latex(source), markdown(table))


def _plots(results: Results, problems: list[str]) -> Iterator[PagePlot]:
    for plot, found in side_by_side(results, _draw, tuple(report.PLOTS)):
        problems += found
        if plot is not None:
            yield plot


def _draw(results: Results, name: str) -> tuple[PagePlot | None, list[str]]:
    """(the plot, or None without numbers; problems)"""
    problems: list[str] = []
    with figures.rc_context():
        figure = _report_errors(lambda: report.PLOTS[name](results), problems)
        if not figure:
            return None, problems
        buffer = io.BytesIO()
        # Embedded as base64, because the page must not load anything from elsewhere.
        figure.savefig(buffer, format="png", dpi=_PLOT_DPI)
        caption = figures.caption_of(figure) or name.replace("_", " ")
        # pyplot keeps every open figure in memory.
        figures.close(figure)
    return PagePlot(_anchor(f"plot-{name}"), caption, base64.b64encode(buffer.getvalue()).decode()), problems


def _report_errors(make: Callable[[], Any], problems: list[str] | Any) -> Any:
    """Calls `make`; on a `UserError` (usually because rows are still missing), appends its message to `problems` and returns nothing."""
    try:
        return make()
    except UserError as error:
        problems.append(f"{error}.")
        return ()


def _missing_rows(results: Results) -> list[tuple[str, int]]:
    groups = results.missing.groupby(["cell", "method"], sort=False).size().reset_index(name="rows")
    return [(f"{method} on {cell}", int(count)) for cell, method, count in groups.itertuples(index=False)][:_MAX_MISSING]


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9-]+", "-", text.lower())


def _asset(name: str) -> str:
    return files("analysis.page").joinpath(name).read_text(encoding="utf-8")


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    # Error texts of a store may contain markup; a missing name in the template is an error and not an empty string.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals["sort_key"] = sort_key
    return environment.from_string(_asset("page.html"))

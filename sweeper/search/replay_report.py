"""Prints the tables of `sap-sweep replay` and writes them as CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich import table as rich_table
from rich.console import Console
from rich.progress import track

from analysis.store.labels import MEASURES, Measure, counted, method_label, number
from analysis.store.load import Results, load
from analysis.store.results import CellResult, cells
from analysis.store.selection_rule import RULES
from sap_core.errors import UserError, unknown
from sap_core.files import save_text, storing
from sweeper.config.schema import Config, SearchConfig
from sweeper.search.replay import RULE, FinishedGrid, finished_grids, replay, replay_budgets
from sweeper.search.samplers import check_sampler
from sweeper.search.trial_search import resource_levels
from sweeper.store.config_file import read_config

_QUANTILES = (0.1, 0.9)

_WIDTH = 120
"""Characters per line of the printed captions and notes."""

_UNLIMITED = 10_000
"""Characters per line that no table needs."""


@dataclass(frozen=True)
class Table:
    """The replays on one cell, as printed: text per entry, and the number that it was formatted from."""

    cell: str
    caption: str
    rows: tuple[tuple[tuple[str, float | str], ...], ...]  # (text, CSV value) per column of `_COLUMNS`
    sections: frozenset[int]  # indices of the rows that begin another baseline
    notes: tuple[str, ...]


_COLUMNS = ("baseline", "budget", "test_mean", "test_10", "test_90", "regret_mean", "regret_10", "regret_90")


@dataclass(frozen=True)
class ReplayLine:
    """The results of one budget on one baseline, or on all baselines (seed None)."""

    cell: str
    method: str
    search: str
    seed: int | None
    budget: int
    repeats: int
    test: tuple[float, float, float]  # mean, 10 %, 90 %
    regret: tuple[float, float, float]  # test score of the complete grid's selection minus that of the search's


def report(store: Path, config: Config, repeats: int, method: str | None, out: Path | None) -> None:
    """Replay `config.search` on the grids of a store and print one table per cell.

    Args:
        store: the results folder of a sweep.
        config: of which `search` and `plugins` are read.
        repeats: number of search seeds per baseline.
        method: NAME or NAME@SPACE of the grid; None: the largest grid.
        out: a .csv or .json file to which the numbers are also written.

    Raises:
        UserError: the search is the grid or cannot be replayed, or the store has no complete grid of the method.
    """
    search_config = config.search
    if search_config.is_grid:
        raise UserError("replay needs a search other than the grid, as in sap-sweep replay results/demo search=random --repeats 1000")
    entry = None if search_config.sampler is None else check_sampler(search_config.sampler, search_config.settings, config.plugins)
    results = load([store])
    tables, all_lines = [], []
    for cell in cells(results):
        name, space = _choose_method(cell, method)
        label, resource = method_label(name, space), search_config.resource
        grids = finished_grids(cell, name, space, _stored_domains(store, name, space))
        # Checked against the stored grid, because the configured space may have changed since.
        if resource is not None and len(resource_levels(grids[0].space, resource)) < 2:
            raise UserError(
                f"search={search_config.name} uses '{resource}' as its resource (search.resource), of which the grid of {label} does not "
                f"list two values; choose another method or search"
            )
        # All cells are replayed before the first table is printed, so that an error leaves no half of a report.
        lines = _replay_lines(cell, label, grids, search_config, entry, repeats)
        tables.append(_table(results, cell, label, grids, search_config, lines))
        all_lines += lines
    for table in tables:
        _print(table)
    if out is not None:
        _write(out, tables, all_lines)


def _choose_method(cell: CellResult, method: str | None) -> tuple[str, str | None]:
    """(method, space) to replay; by default that of the largest grid."""
    names = {(f"{name}@{space}" if space else name): (name, space) for name, space in cell.methods}
    if not names:
        raise UserError("the store has no grid to replay; run the experiment with search=grid first")
    if method is None:
        return max(cell.methods, key=lambda key: max(len(search.planned) for search in cell.methods[key]))
    found = [key for name, key in names.items() if method in (name, key[0])]
    if not found:
        raise unknown("method", method, names, "replay")
    return found[0]


def _stored_domains(store: Path, method: str, space: str | None) -> dict[str, Any]:
    """The domains of a space in the store's configuration."""
    try:
        # The order of the domains determines the grid indices, and only the configuration has it.
        domains: dict[str, Any] = read_config(store / "config.yaml")["method"][method]["spaces"][space]
    except (OSError, ValueError) as error:
        raise UserError(f"{store}/config.yaml cannot be read ({error}); start the sweep again to write it") from error
    except (KeyError, TypeError) as error:
        raise UserError(f"{store}/config.yaml does not define space '{space}' of '{method}'; start the sweep again to write it") from error
    return domains


def _replay_lines(
    cell: CellResult, label: str, grids: Sequence[FinishedGrid], config: SearchConfig, entry: Any, repeats: int
) -> list[ReplayLine]:
    """Lines of each baseline, then of all baselines together."""
    budgets = replay_budgets(config, grids[0])
    console = Console(stderr=True)
    found = []
    for grid in grids:
        chunks = replay(grid, config, entry, range(repeats), budgets)
        # Random search yields chunks of many seeds.
        total = None if config.sampler is None and config.resource is None else repeats
        # On standard error and only on a terminal, so that the tables can be redirected.
        tracked = track(chunks, f"seed {grid.seed}", total, console=console, disable=not console.is_terminal, transient=True)
        found.append(np.concatenate(list(tracked)))
    # Regret is computed per replay, against the grid of its own baseline.
    lines = []
    for seed, tests, best in [
        *((grid.seed, tests, np.full(repeats, grid.best)) for grid, tests in zip(grids, found, strict=True)),
        # Baselines are pooled replay by replay, so the quantiles over all contain the spread between baselines.
        (None, np.concatenate(found), np.repeat([grid.best for grid in grids], repeats)),
    ]:
        for column, budget in enumerate(budgets):
            score = tests[:, column]
            lines.append(ReplayLine(cell.name, label, config.name, seed, budget, len(score), _band(score), _band(best - score)))
    return lines


def _band(values: np.ndarray) -> tuple[float, float, float]:
    """Mean, 10 % and 90 % quantile."""
    low, high = np.quantile(values, _QUANTILES)
    return float(values.mean()), float(low), float(high)


def _table(
    results: Results, cell: CellResult, label: str, grids: Sequence[FinishedGrid], config: SearchConfig, lines: Sequence[ReplayLine]
) -> Table:
    measure = MEASURES[cell.measure]
    size, repeats = len(grids[0].scores), counted(lines[0].repeats, "search seed")
    score, points = (f"{measure.name} ({measure.unit})", " (points)") if measure.unit else (measure.name, "")
    return Table(
        cell=cell.name,
        caption=f"{config.name} replayed on the complete grid of {label} ({size} settings), {cell.name}: {repeats} per baseline.",
        rows=tuple((_baseline_entry(line), (str(line.budget), line.budget), *_numbers(line, measure)) for line in lines),
        # A line between baselines; the pooled lines come last.
        sections=frozenset(index for index in range(1, len(lines)) if lines[index].seed != lines[index - 1].seed),
        notes=(
            f"{RULE}: {RULES[RULE].format(score=measure.name)}; the unmodified model is a candidate and wins ties.",
            # The notes name the score and the units, so that the headers stay short.
            f"Test: {score} of the selected setting; regret{points}: that of the complete grid's selection on the same baseline, minus "
            "that of the search's selection. Each as its mean and its 10 % and 90 % quantiles.",
            *_grid_notes(cell, label, measure),
            *results.problems,
        ),
    )


def _print(table: Table) -> None:
    heads = ["Baseline", "Trials", *(f"{name}\n{part}" for name in ("test", "regret") for part in ("mean", "10 %", "90 %"))]
    grid = rich_table.Table(box=box.SIMPLE_HEAD)
    for position, head in enumerate(heads):
        grid.add_column(head, justify="right" if position else "left", no_wrap=True)
    for position, row in enumerate(table.rows):
        if position in table.sections:
            grid.add_section()
        grid.add_row(*(text for text, _ in row))
    # Through print and not the console, so that nothing is interpreted as Rich's markup.
    print("\n".join(textwrap.wrap(table.caption, _WIDTH)))
    # As wide as the table, because Rich cuts the text of columns that do not fit.
    width = Console(width=_UNLIMITED).measure(grid).maximum
    Console(width=width, highlight=False).print(grid)
    for note in table.notes:
        print("\n".join(textwrap.wrap(note, _WIDTH, initial_indent="- ", subsequent_indent="  ")))
    print()


def _csv(tables: Sequence[Table]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("cell", *_COLUMNS))
    writer.writerows([table.cell, *(value for _, value in row)] for table in tables for row in table.rows)
    return text.getvalue()


def _baseline_entry(line: ReplayLine) -> tuple[str, str]:
    name = "all" if line.seed is None else f"seed {line.seed}"
    return name, name


def _numbers(line: ReplayLine, measure: Measure) -> list[tuple[str, float]]:
    # Test scores and regrets in the printed unit.
    values = [value * measure.factor for value in (*line.test, *line.regret)]
    return [(number(value, measure.decimals, sign=index > 2), value) for index, value in enumerate(values)]


def _grid_notes(cell: CellResult, label: str, measure: Measure) -> list[str]:
    """The test scores that complete grids select, of the replayed method and of SAP."""
    notes = []
    for (method, space), searches in cell.methods.items():
        if method_label(method, space) == label or method == "sap":
            rows = [search.choose(RULE).row for search in searches]
            # The unmodified model's row if it was kept.
            scores = [float(row[f"test_{cell.measure}"]) * measure.factor for row in rows if row is not None]
            each = ", ".join(number(score, measure.decimals) for score in scores)
            mean = number(float(np.mean(scores)), measure.decimals) if scores else "nothing"
            notes.append(
                f"The complete grid of {method_label(method, space)}, {len(searches[0].planned)} settings, selects {mean} ({each})."
            )
    return notes


def _write(path: Path, tables: Sequence[Table], lines: Sequence[ReplayLine]) -> None:
    """Write the numbers as CSV or JSON, by the file's suffix."""
    text = _csv(tables) if path.suffix == ".csv" else json.dumps([_plain(asdict(line)) for line in lines], indent=1)
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_text(path, text)
    print(path, file=sys.stderr)


def _plain(line: Mapping[str, Any]) -> dict[str, Any]:
    bands = {f"{name}_{part}": value for name in ("test", "regret") for part, value in zip(("mean", "10", "90"), line[name], strict=True)}
    return {key: value for key, value in line.items() if key not in ("test", "regret")} | bands

"""The table and the file of `sap-sweep replay`."""

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
from sweeper.config.schema import Config
from sweeper.config.schema import Search as Choice
from sweeper.search.planned import levels_of
from sweeper.search.replay import RULE, Grid, budgets_of, grids_of, replay
from sweeper.search.samplers import check_sampler

_BAND = (0.1, 0.9)

_WIDTH = 120
"""Characters per line of the printed tables."""


@dataclass(frozen=True)
class Table:
    """The replays on one cell, as printed: text per entry, and the number that it was formatted from."""

    cell: str
    caption: str
    measure: str  # the score, with its unit
    rows: tuple[tuple[tuple[str, float | str], ...], ...]  # (text, CSV value) per column of `_COLUMNS`
    sections: frozenset[int]  # indices of the rows that begin another baseline
    notes: tuple[str, ...]


_COLUMNS = ("baseline", "budget", "test_mean", "test_10", "test_90", "regret_mean", "regret_10", "regret_90")


@dataclass(frozen=True)
class Told:
    """One line: what a budget came to on one baseline, or on all (seed None)."""

    cell: str
    method: str
    search: str
    seed: int | None
    budget: int
    repeats: int
    test: tuple[float, float, float]  # mean, 10 %, 90 %
    regret: tuple[float, float, float]  # the whole grid's choice minus this one


def report(store: Path, config: Config, repeats: int, method: str | None, out: Path | None) -> None:
    """Replays `config.search` on the grids of a store and prints one table per cell.

    Args:
        store: the results folder of a sweep.
        config: its `search` and `plugins` count.
        repeats: search seeds per baseline.
        method: NAME or NAME@SPACE of the grid; None: the largest.
        out: a .csv or .json file that also gets the numbers.

    Raises:
        UserError: the search is the grid or cannot be replayed, or the store has no complete grid of the method.
    """
    choice = config.search
    if choice.grid:
        raise UserError("replay needs a search other than the grid, as in sap-sweep replay results/demo search=random repeats=1000")
    entry = None if choice.sampler is None else check_sampler(choice.sampler, choice.settings, config.plugins)
    results = load([store])
    tables, told = [], []
    for cell in cells(results):
        name, space = _wanted(cell, method)
        grids = grids_of(cell, name, space, _space_words(store, name, space))
        if choice.resource is not None and len(levels_of(grids[0].points, choice.resource)) < 2:
            raise UserError(
                f"search={choice.name} climbs the values of '{choice.resource}' (search.resource), of which the grid of "
                f"{method_label(name, space)} does not list two; choose another method or search"
            )
        lines = _replayed(cell, method_label(name, space), grids, choice, entry, repeats)
        tables.append(_table(results, cell, method_label(name, space), grids, choice, lines))
        told += lines
    for table in tables:
        _print(table)
    if out is not None:
        _write(out, tables, told)


def _wanted(cell: CellResult, method: str | None) -> tuple[str, str | None]:
    """The method and space to replay; without a wish, the largest grid."""
    names = {(f"{name}@{space}" if space else name): (name, space) for name, space in cell.methods}
    if not names:
        raise UserError("the store has no grid to replay; run the experiment with search=grid first")
    if method is None:
        return max(cell.methods, key=lambda key: max(len(search.planned) for search in cell.methods[key]))
    found = [key for name, key in names.items() if method in (name, key[0])]
    if not found:
        raise unknown("method", method, names, "replay")
    return found[0]


def _space_words(store: Path, method: str, space: str | None) -> dict[str, Any]:
    """The space as the store's configuration has it."""
    from omegaconf import OmegaConf

    try:
        plain: Any = OmegaConf.to_container(OmegaConf.load(store / "config.yaml"))
        words: dict[str, Any] = plain["method"][method]["spaces"][space]
    except (OSError, KeyError, TypeError) as error:
        raise UserError(
            f"{store}/config.yaml does not say what space '{space}' of '{method}' is; start the sweep again to write it"
        ) from error
    return words


def _replayed(cell: CellResult, label: str, grids: Sequence[Grid], choice: Choice, entry: Any, repeats: int) -> list[Told]:
    budgets, steps = budgets_of(choice, grids[0]), range(repeats)
    console = Console(stderr=True)
    found = []
    for grid in grids:
        parts = replay(grid, choice, entry, steps, budgets)
        total = None if choice.sampler is None and choice.resource is None else repeats
        shown = track(parts, f"seed {grid.seed}", total, console=console, disable=not console.is_terminal, transient=True)
        found.append(np.concatenate(list(shown)))
    lines = []
    for seed, tests, best in [
        *((grid.seed, tests, np.full(repeats, grid.best)) for grid, tests in zip(grids, found, strict=True)),
        (None, np.concatenate(found), np.repeat([grid.best for grid in grids], repeats)),
    ]:
        for place, budget in enumerate(budgets):
            score = tests[:, place]
            lines.append(Told(cell.name, label, choice.name, seed, budget, len(score), _band(score), _band(best - score)))
    return lines


def _band(values: np.ndarray) -> tuple[float, float, float]:
    low, high = np.quantile(values, _BAND)
    return float(values.mean()), float(low), float(high)


def _table(results: Results, cell: CellResult, label: str, grids: Sequence[Grid], choice: Choice, lines: Sequence[Told]) -> Table:
    measure = MEASURES[cell.measure]
    size, repeats = len(grids[0].scores), counted(lines[0].repeats, "search seed")
    return Table(
        cell=cell.name,
        caption=f"{choice.name} replayed on the whole grid of {label} ({size} settings), {cell.name}: {repeats} per baseline.",
        measure=f"{measure.name} ({measure.unit})" if measure.unit else measure.name,
        rows=tuple((_named(line), (str(line.budget), line.budget), *_numbers(line, measure)) for line in lines),
        sections=frozenset(index for index in range(1, len(lines)) if lines[index].seed != lines[index - 1].seed),
        notes=(
            f"{RULE}: {RULES[RULE].format(score=measure.name)}; the unmodified model is a candidate and wins ties.",
            "Regret: how much more the whole grid's choice on the same baseline scores on the test set; below 0 where it scores less.",
            *_beside(cell, label, measure),
            *results.problems,
        ),
    )


def _print(table: Table) -> None:
    heads = ["Baseline", "Trials", *(f"test {table.measure}\n{part}" for part in ("mean", "10 %", "90 %"))]
    heads += [f"regret (points)\n{part}" for part in ("mean", "10 %", "90 %")]
    grid = rich_table.Table(box=box.SIMPLE_HEAD)
    for position, head in enumerate(heads):
        grid.add_column(head, justify="right" if position else "left", no_wrap=True)
    for position, row in enumerate(table.rows):
        if position in table.sections:
            grid.add_section()
        grid.add_row(*(text for text, _ in row))
    print("\n".join(textwrap.wrap(table.caption, _WIDTH)))
    Console(width=_WIDTH, highlight=False).print(grid)
    for note in table.notes:
        print("\n".join(textwrap.wrap(note, _WIDTH, initial_indent="- ", subsequent_indent="  ")))
    print()


def _csv(tables: Sequence[Table]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("cell", *_COLUMNS))
    writer.writerows([table.cell, *(value for _, value in row)] for table in tables for row in table.rows)
    return text.getvalue()


def _named(line: Told) -> tuple[str, str]:
    name = "all" if line.seed is None else f"seed {line.seed}"
    return name, name


def _numbers(line: Told, measure: Measure) -> list[tuple[str, float]]:
    values = [value * measure.factor for value in (*line.test, *line.regret)]
    return [(number(value, measure.decimals, sign=place > 2), value) for place, value in enumerate(values)]


def _beside(cell: CellResult, label: str, measure: Measure) -> list[str]:
    """What whole grids choose: the replayed one, and SAP's."""
    said = []
    for (method, space), searches in cell.methods.items():
        if method_label(method, space) == label or method == "sap":
            rows = [search.choose(RULE).row for search in searches]
            scores = [float(row[f"test_{cell.measure}"]) * measure.factor for row in rows if row is not None]
            each = ", ".join(number(score, measure.decimals) for score in scores)
            mean = number(float(np.mean(scores)), measure.decimals) if scores else "nothing"
            said.append(f"The whole grid of {method_label(method, space)}, {len(searches[0].planned)} settings, chooses {mean} ({each}).")
    return said


def _write(path: Path, tables: Sequence[Table], told: Sequence[Told]) -> None:
    """The numbers, as CSV or as JSON by the file's ending."""
    text = _csv(tables) if path.suffix == ".csv" else json.dumps([_plain(asdict(line)) for line in told], indent=1)
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_text(path, text)
    print(path, file=sys.stderr)


def _plain(line: Mapping[str, Any]) -> dict[str, Any]:
    bands = {f"{name}_{part}": value for name in ("test", "regret") for part, value in zip(("mean", "10", "90"), line[name], strict=True)}
    return {key: value for key, value in line.items() if key not in ("test", "regret")} | bands

"""Writes a store's report folder: tables as LaTeX, Markdown and CSV, figures as PNG and PDF. Whole files or none."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from analysis.plots import (
    alpha,
    boundaries,
    compute,
    figures,
    memorised,
    precision_gain,
    spectra,
    strategies,
    transition,
    trusted_size,
    tuning_cost,
)
from analysis.plots import kept_label_precision as kept_label_precision
from analysis.reports import generated_block as recipes
from analysis.store.load import Results
from analysis.tables.comparison import comparison
from analysis.tables.recommendation import recommendation_for_own_data
from analysis.tables.registry import OF_EVERY_STORE
from analysis.tables.registry import TABLES as TABLES  # by this name for those who make reports
from analysis.tables.render import Table, latex, markdown, to_csv
from analysis.tables.search import search
from analysis.tables.spec import with_published
from sap_core.errors import UserError

PLOTS: dict[str, Callable[..., figures.Figure | None]] = {
    "tuning_cost": tuning_cost.draw, "tuning_trials": tuning_cost.draw_trials, "alpha": alpha.draw, "trusted_size": trusted_size.draw,
    "strategies": strategies.draw, "compute": compute.draw, "spectra": spectra.draw, "importance": spectra.draw_importance,
    "transition": transition.draw, "kept_label_precision": kept_label_precision.draw, "precision_gain": precision_gain.draw,
    "memorised": memorised.draw, "boundaries": boundaries.draw,
}  # fmt: skip
_NUMBERS: dict[str, Callable[[Results], str]] = {
    "tuning_cost": tuning_cost.numbers,
    "tuning_trials": partial(tuning_cost.numbers, trials=True),
}

_FILES = {"comparison": "table"}


def write_tables(results: Results, name: str, folder: Path) -> list[Path]:
    """Writes one table in its three forms; nothing when the store has no such table. Returns the paths."""
    tables = tables_of(results, name)
    if not tables:
        return []
    stem = _FILES.get(name, name)
    forms = {
        "tex": recipes.block(recipes.Recipe(name), results, "\n".join(latex(table) for table in tables)),
        "md": "\n".join(markdown(table) for table in tables),
        "csv": to_csv(tables),
    }
    return [_write(folder / f"{stem}.{form}", partial(Path.write_text, data=text, encoding="utf-8")) for form, text in forms.items()]


def tables_of(results: Results, name: str) -> tuple[Table, ...]:
    """One table by its name, written in Python or described in YAML; none when the store has no such table."""
    return recipes.tables(recipes.Recipe(name), results)


def write_plot(results: Results, name: str, folder: Path, page: figures.PageWidth | None = None) -> list[Path]:
    """Draws one plot as PNG and PDF; nothing when the store has no numbers for it. Returns the paths.

    With a `page`, the files' name says which; without one, the figure is as wide as a page of two columns.
    """
    stem = f"{name}_{page.name}" if page else name
    with figures.rc_context(page or figures.TWO_COLUMNS):
        figure = PLOTS[name](results, page or figures.TWO_COLUMNS)
        if figure is None:
            return []
        try:
            paths = [_write(folder / f"{stem}.{form}", partial(figures.save, figure, form)) for form in ("png", "pdf")]
        finally:
            figures.close(figure)
    if name in _NUMBERS:
        paths.append(_write(folder / f"{name}.csv", partial(Path.write_text, data=_NUMBERS[name](results), encoding="utf-8")))
    return paths


def main_tables(results: Results) -> list[Table]:
    """The tables that are shown first."""
    if not (results.plan["job_type"] == "tune").any():  # trainers and selections are what there is to see
        trained = tables_of(results, "prune4rel") or (*tables_of(results, "trainers"), *tables_of(results, "prl"))
        if trained:
            return [*trained, *search(results), *recommendation_for_own_data(results)]
    described = [table for name in ("corrective", "robust") for table in tables_of(results, name)]
    return [*comparison(results), *described, *search(results), *recommendation_for_own_data(results)]


def papers_own(results: Results) -> list[str]:
    """The described tables that the store's experiments are for: `table1` of `table1_small`, too. Others are made when asked for."""
    names = {str(name) for name in results.rows["experiment"].unique()}
    return [table for table in with_published() if any(name == table or name.startswith(f"{table}_") for name in names)]


def names_of(results: Results) -> list[str]:
    """The tables of a store's report, by name."""
    return [*papers_own(results), *OF_EVERY_STORE]


def write_all(results: Results, folder: Path) -> list[Path]:
    """The whole report: every table and every plot that the store has numbers for."""
    tables = [path for name in names_of(results) for path in write_tables(results, name, folder)]
    return tables + [path for name in PLOTS for path in write_plot(results, name, folder)]


def _write(path: Path, fill: Callable[[Path], object]) -> Path:
    """Fills a temporary file beside `path` and renames it.

    Raises:
        UserError: the folder cannot be made or written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fill(temporary)
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"the report cannot be written to '{path.parent}' ({reason}); make room there or make it writable") from error
    finally:
        with suppress(OSError):  # renamed away after success
            temporary.unlink()
    return path

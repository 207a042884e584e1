"""Writes tables as LaTeX, Markdown and CSV, and figures as PNG and PDF. Each file is replaced atomically."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
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
from analysis.reports import generated_block
from analysis.store.load import Results
from analysis.tables.comparison import comparison
from analysis.tables.csv_text import to_csv
from analysis.tables.duplicates import duplicates
from analysis.tables.latex import escape_latex
from analysis.tables.names import DisplayNames, has_latex
from analysis.tables.print_options import PrintOptions
from analysis.tables.recommendation import recommendation_for_own_data
from analysis.tables.registry import OF_EVERY_STORE
from analysis.tables.registry import TABLES as TABLES  # by this name for those who make reports
from analysis.tables.render import Table, markdown
from analysis.tables.search import search
from analysis.tables.short_texts import all_notes
from analysis.tables.spec import with_published
from sap_core.errors import StorageError, UserError
from sap_core.files import is_system_error

PLOTS: dict[str, Callable[..., figures.Figure | None]] = {
    "tuning_cost": tuning_cost.draw, "tuning_trials": tuning_cost.draw_trials, "alpha": alpha.draw, "trusted_size": trusted_size.draw,
    "strategies": strategies.draw, "compute": compute.draw, "spectra": spectra.draw, "importance": spectra.draw_importance,
    "transition": transition.draw, "kept_label_precision": kept_label_precision.draw, "precision_gain": precision_gain.draw,
    "memorised": memorised.draw, "boundaries": boundaries.draw,
}  # fmt: skip
_NUMBERS: dict[str, Callable[[Results], str]] = {
    "tuning_cost": tuning_cost.curves_csv,
    "tuning_trials": partial(tuning_cost.curves_csv, trials=True),
}

_FILES = {"comparison": "table"} | {name: f"{name}_table" for name in PLOTS}
"""Stems of files of tables that are not named after the table: that of a figure is taken by the LaTeX float of the figure."""

FIGURE_START = generated_block.FIGURE_START


def write_tables(results: Results, name: str, folder: Path, names: DisplayNames | None = None) -> list[Path]:
    """Writes one table in three formats and its notes, returns the paths; writes nothing if the store has no numbers for it."""
    recipe = generated_block.Recipe(name, print=PrintOptions(names=names or {}).data())
    tables = generated_block.tables(recipe, results)
    if not tables:
        return []
    # Tables are expensive to make, so a second time only if LaTeX prints other names.
    in_latex = generated_block.tables(recipe, results, latex=True) if has_latex(recipe.options.names) else tables
    stem = _FILES.get(name, name)
    forms = {
        "tex": generated_block.wrap(recipe, results, generated_block.latex_of(in_latex)),
        "md": "\n".join(markdown(table) for table in tables),
        "csv": to_csv(tables),
    }
    files = {f"{stem}.{form}": text for form, text in forms.items()}
    # LaTeX prints the notes for which a paper has room.
    if notes := all_notes(tables):
        files[f"{stem}_notes.md"] = notes
    return [_write(folder / file, partial(Path.write_text, data=text, encoding="utf-8")) for file, text in files.items()]


def make_tables(
    results: Results,
    name: str,
    options: PrintOptions = PrintOptions(),  # noqa: B008  # frozen
    latex: bool = False,
) -> tuple[Table, ...]:
    """Makes the tables of one name, defined in Python or in YAML; none if the store has no numbers for them. `latex`: see `tables`."""
    return generated_block.tables(generated_block.Recipe(name, print=options.data()), results, latex)


def write_plot(results: Results, name: str, folder: Path, page: figures.PageWidth | None = None, titled: bool = False) -> list[Path]:
    """Draws one plot as PNG and PDF, writes its caption as LaTeX and returns the paths; writes nothing if the store has no numbers for it.

    With a `page`, its name is appended to the names of the files; without one, the figure is as wide as two columns. The title and the
    note are inside the figure only if it is `titled`.
    """
    stem = f"{name}_{page.name}" if page else name
    width = replace(page or figures.TWO_COLUMNS, titled=titled)
    with figures.rc_context(width):
        figure = PLOTS[name](results, width)
        if figure is None:
            return []
        try:
            # Both files come from one drawing.
            paths = [_write(folder / f"{stem}.{form}", partial(figures.save, figure, form)) for form in ("png", "pdf")]
            text = figure_latex(stem, "" if titled else figures.caption_of(figure), width)
            paths.append(_write(folder / f"{stem}.tex", partial(Path.write_text, data=text, encoding="utf-8")))
        finally:
            # Also after an error, because pyplot keeps every open figure in memory.
            figures.close(figure)
    if name in _NUMBERS:
        paths.append(_write(folder / f"{name}.csv", partial(Path.write_text, data=_NUMBERS[name](results), encoding="utf-8")))
    return paths


def figure_latex(stem: str, caption: str, page: figures.PageWidth) -> str:
    """The LaTeX float that includes a figure, with its caption and label."""
    environment, width = ("figure", "columnwidth") if page.name == "one" else ("figure*", "textwidth")
    lines = [
        FIGURE_START + " it needs \\usepackage{graphicx}",
        rf"\begin{{{environment}}}[t]",
        r"  \centering",
        rf"  \includegraphics[width=\{width}]{{{stem}}}",
        rf"  \caption{{{escape_latex(caption)}}}",
        rf"  \label{{fig:{stem.replace('_', '-')}}}",
        rf"\end{{{environment}}}",
    ]
    return "\n".join([*lines, ""])


def main_tables(results: Results) -> list[Table]:
    """The main tables of the store, which are shown first on the HTML page."""
    # A sweep without correctors: compare trainers and pruners.
    if not (results.plan["job_type"] == "tune").any():
        trained = make_tables(results, "prune4rel") or (*make_tables(results, "trainers"), *make_tables(results, "prl"))
        if trained:
            return [*trained, *search(results), *recommendation_for_own_data(results), *duplicates(results)]
    # Only stores of these experiments have numbers for them.
    described = [table for name in ("corrective", "robust") for table in make_tables(results, name)]
    return [*comparison(results), *described, *search(results), *recommendation_for_own_data(results), *duplicates(results)]


def experiment_tables(results: Results) -> list[str]:
    """The names of the paper's tables that the store's experiments reproduce; `table1_small` counts as `table1`."""
    names = {str(name) for name in results.rows["experiment"].unique()}
    return [table for table in with_published() if any(name == table or name.startswith(f"{table}_") for name in names)]


def names_of(results: Results) -> list[str]:
    """The names of all tables in the store's report."""
    # The tables that an experiment was made for come first.
    return [*experiment_tables(results), *OF_EVERY_STORE]


def _write(path: Path, fill: Callable[[Path], object]) -> Path:
    """Writes a temporary file next to `path` and renames it, so that a failed write leaves no partial file.

    Raises:
        StorageError: the disk is full or failing, or the folder may not be written.
        UserError: the folder cannot be created.
    """
    # In the same folder, because a rename is atomic within one file system only; with the process's number, so that two reports do not
    # collide.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A link of that name would be followed by whatever fills the file; the final name is replaced and not followed.
        temporary.unlink(missing_ok=True)
        fill(temporary)
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        # A file in the place of the folder is the user's to remove; a full disk is no mistake in the command.
        kind = StorageError if is_system_error(error) else UserError
        raise kind(f"the report cannot be written to '{path.parent}' ({reason}); free space or make the folder writable") from error
    finally:
        # Renamed away after success.
        with suppress(OSError):
            temporary.unlink()
    return path

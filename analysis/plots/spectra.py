"""Figures `spectra` and `importance`: the spectrum of each layer's inputs, and the importance that SAP assigns to its directions.

SAP stores at most 64 normalised eigenvalues r of each layer's Gram matrix (series `spectrum/LAYER`), largest first; those of a layer sum to
one. SAP scales a direction by its importance, alpha r / ((alpha - 1) r + 1).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.plots import figures
from analysis.store.labels import method_label
from analysis.store.load import Results, series_by_prefix
from analysis.store.results import CellResult, cells
from analysis.tables.notes import cell_title
from analysis.tuning.alpha import ALPHA
from analysis.tuning.headline import RULE

PREFIX = "spectrum/"
LAYERS = 8
"""The most layers drawn, evenly spaced by depth."""


@dataclass(frozen=True)
class Spectrum:
    """The largest eigenvalues of one layer."""

    layer: str
    rank: np.ndarray  # [k], from 1
    energy: np.ndarray  # [k] share of the sum of all eigenvalues

    def importance(self, alpha: float) -> np.ndarray:
        """The importance of each direction, [k], between 0 and 1."""
        # SAP's importance of a direction with share r of the energy: alpha r / ((alpha - 1) r + 1), equal to 1/2 at r = 1 / (alpha + 1).
        return alpha * self.energy / ((alpha - 1) * self.energy + 1)


@dataclass(frozen=True)
class SpectraPanel:
    """The spectra of one cell, from the first SAP search of the first seed that stored them."""

    title: str
    name: str
    seed: int
    trusted: int | None  # number of samples behind the Gram matrices
    alpha: float  # the selected value; the largest of the space if the unmodified model was kept
    layers: tuple[Spectrum, ...]
    num_layers: int  # of the network


def numbers(results: Results) -> tuple[SpectraPanel, ...]:
    """Computes one panel per cell that has spectra."""
    points = series_by_prefix(results, PREFIX)
    if points.empty:
        return ()
    found = (_panel(cell, points) for cell in cells(results))
    return tuple(panel for panel in found if panel is not None)


def _panel(cell: CellResult, points: pd.DataFrame) -> SpectraPanel | None:
    for (method, space), searches in cell.methods.items():
        for search in searches:
            # Settings that share their spectra store them once, so not every row has some.
            with_spectra = search.rows[search.rows["run_id"].isin(points["run_id"])]
            chosen = search.choose(RULE)
            # The first search that can be drawn represents the cell: spectra depend on the trusted set, not on the space.
            if with_spectra.empty or chosen.row is None:
                continue
            selected = None if chosen.kept else chosen.row
            # Reduced to those of the selected number of trusted samples.
            same = with_spectra
            if selected is not None and not pd.isna(selected["num_trusted"]):
                same = with_spectra[with_spectra["num_trusted"] == selected["num_trusted"]]
            row = (same if len(same) else with_spectra).iloc[0]
            # Without a correction no alpha was selected; the largest of the space, which changes the network least, is the nearest to it.
            alphas = [json.loads(text).get(ALPHA) for text in search.rows["settings"]]
            alpha = json.loads(selected["settings"])[ALPHA] if selected is not None else max(float(value) for value in alphas)
            layers = _layers(points[points["run_id"] == row["run_id"]])
            trusted = None if pd.isna(row["num_trusted"]) else int(row["num_trusted"])
            return SpectraPanel(
                cell_title(cell), method_label(method, space), search.seed, trusted, float(alpha), spaced_layers(layers), len(layers)
            )
    return None


def _layers(points: pd.DataFrame) -> list[Spectrum]:
    """The layers in the order of the network, in which the series are stored."""
    return [
        Spectrum(str(name).removeprefix(PREFIX), part["step"].to_numpy(dtype=float), part["value"].to_numpy(dtype=float))
        for name, part in points.groupby("name", sort=False)
    ]


def spaced_layers(layers: Sequence[Spectrum]) -> tuple[Spectrum, ...]:
    """At most LAYERS evenly spaced layers, including the first and the last."""
    # unique, because rounding may give one index twice.
    indices = np.unique(np.linspace(0, len(layers) - 1, min(LAYERS, len(layers))).round().astype(int))
    return tuple(layers[index] for index in indices)


def draw(results: Results, page: figures.PageWidth = figures.TWO_COLUMNS) -> figures.Figure | None:
    """Draws eigenvalues by rank; None if the store has no spectra."""
    return _draw(results, page, importances=False)


def draw_importance(results: Results, page: figures.PageWidth = figures.TWO_COLUMNS) -> figures.Figure | None:
    """Draws importances by rank at the selected alpha; None if the store has no spectra."""
    return _draw(results, page, importances=True)


def _draw(results: Results, page: figures.PageWidth, importances: bool) -> figures.Figure | None:
    found = numbers(results)
    if not found:
        return None
    figure, axes = figures.panels(len(found), page)
    subtitles = []
    for axis, panel in zip(axes, found, strict=True):
        for spectrum, style in zip(panel.layers, figures.ordered_styles(len(panel.layers)), strict=True):
            # Directions without energy have no logarithm.
            values = spectrum.importance(panel.alpha) if importances else np.maximum(spectrum.energy, 1e-16)
            axis.plot(spectrum.rank, values, label=spectrum.layer, markevery=0.2, **style.curve | {"markersize": 3.5})
        figures.log_axis(axis)
        if importances:
            axis.set_ylim(-0.03, 1.03)
        else:
            axis.set_yscale("log")
            # The smallest energies are rounding and would stretch the axis.
            axis.set_ylim(bottom=max(1e-12, min(0.5 * float(spectrum.energy.min()) for spectrum in panel.layers)))
        samples = "" if panel.trusted is None else f"{panel.trusted} trusted samples; "
        # Stated, so that nobody takes the drawn layers for all.
        shown = "" if len(panel.layers) == panel.num_layers else f"; {len(panel.layers)} of {panel.num_layers} layers"
        alpha = f"alpha {panel.alpha:g}; " if importances else ""
        subtitles.append(f"{panel.title}; {panel.name}, {samples}{alpha}seed {panel.seed}{shown}")
    title = "SAP's importance of each layer's input directions" if importances else "Spectrum of each layer's inputs"
    figures.set_titles(figure, title, subtitles, page)
    figures.label_axes(axes, "Rank of the direction", "Importance" if importances else "Share of the total energy")
    note = "Layers in the order of the network, from dark to light" + (f"; alpha selected by {RULE}" if importances else "")
    figures.legend_below(figure, note, page, columns=4)
    return figure

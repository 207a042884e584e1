"""Energies of each layer's inputs by rank, and SAP's importances of them: which directions a correction keeps.

SAP stores at most 64 energies of each layer (series `spectrum/LAYER`), largest first; they sum to one over all ranks. The importance of a
direction with energy r is alpha r / ((alpha - 1) r + 1).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.plots import style as ink
from analysis.store.labels import method_label
from analysis.store.load import Results, series_by_prefix
from analysis.store.results import CellResult, cells
from analysis.tables.notes import cell_title
from analysis.tuning.alpha import ALPHA
from analysis.tuning.headline import RULE

PREFIX = "spectrum/"
LAYERS = 8
"""At most so many layers are drawn, evenly spaced by depth."""


@dataclass(frozen=True)
class Spectrum:
    """One layer."""

    layer: str
    rank: np.ndarray  # from 1
    energy: np.ndarray

    def importance(self, alpha: float) -> np.ndarray:
        """Of each of these directions, between 0 and 1."""
        return alpha * self.energy / ((alpha - 1) * self.energy + 1)


@dataclass(frozen=True)
class SpectraPanel:
    """One cell: the first seed's first SAP search that stored its spectra."""

    title: str
    name: str
    seed: int
    trusted: int | None  # samples that the energies are of
    alpha: float  # the one that was chosen, or (the unmodified model was kept) the mildest tried
    layers: tuple[Spectrum, ...]
    count: int  # layers in all


def numbers(results: Results) -> tuple[SpectraPanel, ...]:
    """One panel per cell that has spectra."""
    points = series_by_prefix(results, PREFIX)
    if points.empty:
        return ()
    found = (_panel(cell, points) for cell in cells(results))
    return tuple(panel for panel in found if panel is not None)


def _panel(cell: CellResult, points: pd.DataFrame) -> SpectraPanel | None:
    for (method, space), searches in cell.methods.items():
        for search in searches:
            told = search.rows[search.rows["run_id"].isin(points["run_id"])]
            chosen = search.choose(RULE)
            if told.empty or chosen.row is None:
                continue
            taken = None if chosen.kept else chosen.row
            same = told if taken is None or pd.isna(taken["num_trusted"]) else told[told["num_trusted"] == taken["num_trusted"]]
            row = (same if len(same) else told).iloc[0]
            alphas = [json.loads(text).get(ALPHA) for text in search.rows["settings"]]
            alpha = json.loads(taken["settings"])[ALPHA] if taken is not None else max(float(value) for value in alphas)
            layers = _layers(points[points["run_id"] == row["run_id"]])
            trusted = None if pd.isna(row["num_trusted"]) else int(row["num_trusted"])
            return SpectraPanel(
                cell_title(cell), method_label(method, space), search.seed, trusted, float(alpha), spaced_layers(layers), len(layers)
            )
    return None


def _layers(points: pd.DataFrame) -> list[Spectrum]:
    """In the order of the network, which is the order of the file."""
    return [
        Spectrum(str(name).removeprefix(PREFIX), part["step"].to_numpy(dtype=float), part["value"].to_numpy(dtype=float))
        for name, part in points.groupby("name", sort=False)
    ]


def spaced_layers(layers: Sequence[Spectrum]) -> tuple[Spectrum, ...]:
    """At most LAYERS of them at equal distances, the first and the last among them."""
    places = np.unique(np.linspace(0, len(layers) - 1, min(LAYERS, len(layers))).round().astype(int))
    return tuple(layers[place] for place in places)


def draw(results: Results, page: ink.Page = ink.TWO) -> ink.Figure | None:
    """Energies by rank; None when the store has no spectra."""
    return _draw(results, page, importances=False)


def draw_importance(results: Results, page: ink.Page = ink.TWO) -> ink.Figure | None:
    """Importances by rank at the chosen alpha; None when the store has no spectra."""
    return _draw(results, page, importances=True)


def _draw(results: Results, page: ink.Page, importances: bool) -> ink.Figure | None:
    found = numbers(results)
    if not found:
        return None
    figure, axes = ink.panels(len(found), page)
    subtitles = []
    for axis, panel in zip(axes, found, strict=True):
        for spectrum, style in zip(panel.layers, ink.series(len(panel.layers)), strict=True):
            values = spectrum.importance(panel.alpha) if importances else np.maximum(spectrum.energy, 1e-16)
            axis.plot(spectrum.rank, values, label=spectrum.layer, markevery=0.2, **style.curve | {"markersize": 3.5})
        ink.log_axis(axis)
        if importances:
            axis.set_ylim(-0.03, 1.03)
        else:
            axis.set_yscale("log")
            axis.set_ylim(bottom=max(1e-12, min(0.5 * float(spectrum.energy.min()) for spectrum in panel.layers)))
        of = "" if panel.trusted is None else f"{panel.trusted} trusted samples; "
        some = "" if len(panel.layers) == panel.count else f"; {len(panel.layers)} of {panel.count} layers"
        at = f"alpha {panel.alpha:g}; " if importances else ""
        subtitles.append(f"{panel.title}; {panel.name}, {of}{at}seed {panel.seed}{some}")
    title = "Importance of each layer's directions" if importances else "Energy of each layer's directions"
    ink.headings(figure, title, subtitles, page)
    ink.labels(axes, "Rank of the direction", "Importance" if importances else "Share of the energy")
    how = "Layers in the order of the network, from dark to light" + (f", at the alpha that {RULE} chooses" if importances else "")
    ink.legend_below(figure, how, page, columns=4)
    return figure

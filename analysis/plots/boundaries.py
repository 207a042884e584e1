"""Figure `boundaries`: decision boundaries of two-dimensional data (the spiral) before and after correction, with the training samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.plots import figures
from analysis.store.labels import MEASURES, method_label
from analysis.store.load import Results, series_by_prefix
from analysis.store.results import cells
from analysis.store.selection_rule import score_column
from analysis.tables.notes import cell_title
from analysis.tuning.headline import RULE
from sap_core.records import VANILLA

MAPS, SAMPLES = "decision/", "plane/"
MARKERS = "o^sDvP"


@dataclass(frozen=True)
class DecisionMap:
    """The predicted classes of one model on a grid of points."""

    name: str
    test: float
    x: np.ndarray  # [columns]
    y: np.ndarray  # [rows]
    classes: np.ndarray  # [rows, columns]


@dataclass(frozen=True)
class BoundaryPanel:
    """The decision maps of one cell, for the first seed that has them."""

    title: str
    seed: int
    measure: str
    samples: pd.DataFrame  # columns x, y, given and, if the true labels are known, true
    maps: tuple[DecisionMap, ...]  # the unmodified model first


def numbers(results: Results) -> tuple[BoundaryPanel, ...]:
    """Computes one panel per cell with maps of the unmodified model and of at least one selected setting."""
    points = series_by_prefix(results, MAPS)
    if points.empty:
        return ()
    samples = series_by_prefix(results, SAMPLES)
    found = []
    for cell in cells(results):
        for baseline in cell.baselines:
            if baseline.row is None or baseline.baseline_id not in set(points["run_id"]):
                continue
            test = score_column("test_oracle", cell.measure)
            maps = [_map(f"{method_label(VANILLA)} (before)", baseline.row, test, points)]
            for (method, space), searches in cell.methods.items():
                for search in searches:
                    choice = search.choose(RULE)
                    # A kept unmodified model would be drawn twice.
                    if search.seed == baseline.seed and choice.row is not None and not choice.kept:
                        maps.append(_map(method_label(method, space), choice.row, test, points))
            complete = tuple(one for one in maps if one is not None)
            own = samples[samples["run_id"] == baseline.baseline_id]
            if len(complete) > 1:
                table = own.pivot(index="step", columns="name", values="value").rename(columns=lambda name: str(name).removeprefix(SAMPLES))
                found.append(BoundaryPanel(cell_title(cell), baseline.seed, cell.measure, table, complete))
                # One seed per cell: boundaries of different seeds cannot be averaged.
                break
    return tuple(found)


def _map(name: str, row: pd.Series, test: str, points: pd.DataFrame) -> DecisionMap | None:
    own = points[points["run_id"] == row["run_id"]]
    arrays = {name: part.sort_values("step")["value"].to_numpy(dtype=float) for name, part in own.groupby("name")}
    # The series of an interrupted or older run may lack a part.
    if set(arrays) != {f"{MAPS}x", f"{MAPS}y", f"{MAPS}class"}:
        return None
    x, y = arrays[f"{MAPS}x"], arrays[f"{MAPS}y"]
    # The classes are stored row by row.
    return DecisionMap(name, float(row[test]), x, y, arrays[f"{MAPS}class"].reshape(len(y), len(x)))


def draw(results: Results, page: figures.PageWidth = figures.TWO_COLUMNS) -> figures.Figure | None:
    """Draws the figure; None if the store has no decision maps."""
    found = numbers(results)
    if not found:
        return None
    from matplotlib.colors import ListedColormap

    maps = [(panel, one) for panel in found for one in panel.maps]
    across = 2 if page.max_panels == 1 else 3
    figure, axes = figures.panels(len(maps), page, height=0.9, across=across, below=0.5)
    for axis, (panel, one) in zip(axes, maps, strict=True):
        # A class may be given to samples and predicted nowhere, or the reverse.
        count = int(max(one.classes.max(), panel.samples["given"].max() if len(panel.samples) else 0)) + 1
        shades = ListedColormap(["#BBD5EA", "#F6DDB0", "#BFE3D5", "#E9CFE0", "#DDDDDD", "#F2C6AE"][:count])
        # Rasterised, because a vector rectangle per grid point would make the PDF large; vmin and vmax centre each class on its colour.
        axis.pcolormesh(one.x, one.y, one.classes, cmap=shades, vmin=-0.5, vmax=count - 0.5, shading="nearest", rasterized=True)
        # Lines between the classes, for print in grey.
        axis.contour(one.x, one.y, one.classes, levels=np.arange(count - 1) + 0.5, colors="0.25", linewidths=0.8)
        _draw_samples(axis, panel)
        # Distances in the plane are comparable in both directions.
        axis.set_aspect("equal")
        axis.grid(visible=False)
        axis.set_xticks([])
        axis.set_yticks([])
    measure = MEASURES[found[0].measure]
    subtitles = [f"{one.name}\ntest {one.test * measure.factor:.1f} {measure.unit}" for _, one in maps]
    cells_shown = "; ".join(f"{panel.title}, seed {panel.seed}" for panel in found)
    figures.set_titles(figure, "Decision boundaries before and after correction", subtitles, page)
    figures.legend_below(figure, f"{cells_shown}. Background: predicted class; setting selected by {RULE}", page, columns=2)
    return figure


def _draw_samples(axis: figures.Axes, panel: BoundaryPanel) -> None:
    """Draws the training samples by given label; mislabelled ones larger, with a black edge."""
    table = panel.samples
    if table.empty:
        return
    # Only if the true labels are known.
    wrong = table["given"] != table["true"] if "true" in table else pd.Series(False, index=table.index)
    for given in sorted(table["given"].unique()):
        fill, marker = figures.FILLS[int(given) % len(figures.FILLS)], MARKERS[int(given) % len(MARKERS)]
        # Mislabelled samples last, so that they are on top.
        for is_wrong, marker_style in (
            (False, {"s": 5, "color": fill, "linewidths": 0}),
            (True, {"s": 16, "color": fill, "edgecolors": "black", "linewidths": 0.9}),
        ):
            part = table[(table["given"] == given) & (wrong == is_wrong)]
            label = f"given class {int(given)}" + (", mislabelled" if is_wrong else "")
            if len(part):
                axis.scatter(part["x"], part["y"], marker=marker, label=label, zorder=4 if is_wrong else 3, **marker_style)

"""Decision boundaries in the plane before and after correction, with the training samples (the spiral has two coordinates)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.plots import style as ink
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
class Map:
    """One model's predicted classes on a grid."""

    name: str
    test: float
    x: np.ndarray  # [columns]
    y: np.ndarray  # [rows]
    classes: np.ndarray  # [rows, columns]


@dataclass(frozen=True)
class Plane:
    """One cell; its first seed that has maps."""

    title: str
    seed: int
    measure: str
    samples: pd.DataFrame  # x, y, given and, where it is known, true
    maps: tuple[Map, ...]  # the unmodified model first


def numbers(results: Results) -> tuple[Plane, ...]:
    """One plane per cell that has maps of the unmodified model and of a chosen setting."""
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
                    if search.seed == baseline.seed and choice.row is not None and not choice.kept:
                        maps.append(_map(method_label(method, space), choice.row, test, points))
            known = tuple(one for one in maps if one is not None)
            mine = samples[samples["run_id"] == baseline.baseline_id]
            if len(known) > 1:
                table = mine.pivot(index="step", columns="name", values="value").rename(
                    columns=lambda name: str(name).removeprefix(SAMPLES)
                )
                found.append(Plane(cell_title(cell), baseline.seed, cell.measure, table, known))
                break
    return tuple(found)


def _map(name: str, row: pd.Series, test: str, points: pd.DataFrame) -> Map | None:
    mine = points[points["run_id"] == row["run_id"]]
    parts = {what: part.sort_values("step")["value"].to_numpy(dtype=float) for what, part in mine.groupby("name")}
    if set(parts) != {f"{MAPS}x", f"{MAPS}y", f"{MAPS}class"}:
        return None
    x, y = parts[f"{MAPS}x"], parts[f"{MAPS}y"]
    return Map(name, float(row[test]), x, y, parts[f"{MAPS}class"].reshape(len(y), len(x)))


def draw(results: Results, page: ink.Page = ink.TWO) -> ink.Figure | None:
    """The figure; None when the store has no maps."""
    planes = numbers(results)
    if not planes:
        return None
    from matplotlib.colors import ListedColormap

    panels = [(plane, one) for plane in planes for one in plane.maps]
    across = 2 if page.across == 1 else 3
    figure, axes = ink.panels(len(panels), page, height=0.9, across=across, below=0.5)
    for axis, (plane, one) in zip(axes, panels, strict=True):
        count = int(max(one.classes.max(), plane.samples["given"].max() if len(plane.samples) else 0)) + 1
        shades = ListedColormap(["#BBD5EA", "#F6DDB0", "#BFE3D5", "#E9CFE0", "#DDDDDD", "#F2C6AE"][:count])
        axis.pcolormesh(one.x, one.y, one.classes, cmap=shades, vmin=-0.5, vmax=count - 0.5, shading="nearest", rasterized=True)
        axis.contour(one.x, one.y, one.classes, levels=np.arange(count - 1) + 0.5, colors="0.25", linewidths=0.8)
        _samples(axis, plane)
        axis.set_aspect("equal")
        axis.grid(visible=False)
        axis.set_xticks([])
        axis.set_yticks([])
    measure = MEASURES[planes[0].measure]
    subtitles = [f"{one.name}\ntest {one.test * measure.factor:.1f} {measure.unit}" for _, one in panels]
    where = "; ".join(f"{plane.title}, seed {plane.seed}" for plane in planes)
    ink.headings(figure, "Decision boundaries before and after correction", subtitles, page)
    ink.legend_below(figure, f"{where}. Ground: predicted class; setting chosen by {RULE}", page, columns=2)
    return figure


def _samples(axis: ink.Axes, plane: Plane) -> None:
    """Training samples by given label; wrong labels in red with a black rim."""
    table = plane.samples
    if table.empty:
        return
    wrong = table["given"] != table["true"] if "true" in table else pd.Series(False, index=table.index)
    for given in sorted(table["given"].unique()):
        fill, marker = ink.FILLS[int(given) % len(ink.FILLS)], MARKERS[int(given) % len(MARKERS)]
        for is_wrong, look in (
            (False, {"s": 5, "color": fill, "linewidths": 0}),
            (True, {"s": 16, "color": fill, "edgecolors": "black", "linewidths": 0.9}),
        ):
            part = table[(table["given"] == given) & (wrong == is_wrong)]
            label = f"given class {int(given)}" + (", wrong label" if is_wrong else "")
            if len(part):
                axis.scatter(part["x"], part["y"], marker=marker, label=label, zorder=4 if is_wrong else 3, **look)

"""What right labels in the trusted set are worth: gain of the chosen setting against the trusted set's precision."""

from __future__ import annotations

from dataclasses import dataclass, replace

from analysis.plots import style as ink
from analysis.store.labels import MEASURES, method_label
from analysis.store.load import Results
from analysis.store.results import cells
from analysis.store.selection_rule import score_column
from analysis.tables.notes import cell_title
from analysis.tuning.headline import RULE


@dataclass(frozen=True)
class Chosen:
    """One trusted set: the best setting that stands on it."""

    group: str
    seed: int
    precision: float  # share of right labels
    gain: float  # over the unmodified model, as stored


def numbers(results: Results) -> tuple[Chosen, ...]:
    """One point per search and trusted set, told apart by size and precision. The unmodified model competes."""
    found = []
    swept = [cell for cell in cells(results) if cell.measure == "acc"]
    for cell in swept:
        for (method, space), searches in cell.methods.items():
            for search in searches:
                there = search.rows[search.rows["trusted_label_precision"].notna()]
                for _, rows in there.groupby(["num_trusted", "trusted_label_precision"], sort=True):
                    right = float(rows["trusted_label_precision"].iloc[0])
                    row = replace(search, rows=rows.reset_index(drop=True)).choose(RULE).row
                    if row is not None and search.vanilla is not None:
                        test = score_column("test_oracle", cell.measure)
                        group = cell_title(cell) if len(swept) > 1 else method_label(method, space)
                        found.append(Chosen(group, search.seed, right, float(row[test]) - float(search.vanilla[test])))
    return tuple(found)


def draw(results: Results, page: ink.Page = ink.TWO) -> ink.Figure | None:
    """The figure; None when no method of the store chose samples to trust."""
    found = numbers(results)
    if not found:
        return None
    figure, (axis,) = ink.panels(1, page, height=0.55)
    groups = list(dict.fromkeys(point.group for point in found))
    for place, group in enumerate(groups):
        mine = [point for point in found if point.group == group]
        style = {"marker": "osD^vPX<"[place % 8], "color": ink.FILLS[place % len(ink.FILLS)], "linestyle": "none"}
        axis.plot(
            [100 * point.precision for point in mine], [100 * point.gain for point in mine], label=group, alpha=0.8, markersize=4.5, **style
        )
    axis.axhline(0, color=ink.TEXT_GREY, linewidth=0.8)
    axis.set_xlabel("Right labels among the trusted samples (%)")
    axis.set_ylabel(f"Gain in test {MEASURES['acc'].name} (points)")
    ink.headings(figure, "What right labels in the trusted set are worth", [""], page)
    ink.legend_below(figure, f"One point per search and trusted set: its best setting under {RULE}, minus the unmodified model", page)
    return figure

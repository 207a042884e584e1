"""Figure `precision_gain`: gain in test accuracy of the selected setting by the label precision of its trusted set."""

from __future__ import annotations

from dataclasses import dataclass, replace

from analysis.plots import figures
from analysis.store.labels import MEASURES, method_label
from analysis.store.load import Results
from analysis.store.results import cells
from analysis.store.selection_rule import score_column
from analysis.store.stats import difference, number_of
from analysis.tables.notes import cell_title
from analysis.tuning.headline import RULE


@dataclass(frozen=True)
class TrustedSetGain:
    """One trusted set and the gain of the setting selected among those that use it."""

    group: str
    seed: int
    precision: float  # share of correct labels
    gain: float  # over the unmodified model, as stored


def numbers(results: Results) -> tuple[TrustedSetGain, ...]:
    """Computes one point per search and trusted set. The unmodified model is a candidate.

    A search does not record which samples it trusted, so trusted sets are distinguished by size and precision.
    """
    found = []
    # Gains in accuracy and in R² cannot share an axis.
    classified = [cell for cell in cells(results) if cell.measure == "acc"]
    for cell in classified:
        for (method, space), searches in cell.methods.items():
            for search in searches:
                known = search.rows[search.rows["trusted_label_precision"].notna()]
                # The selection rule is applied to the settings of each trusted set, as if the search had been over them alone.
                for _, rows in known.groupby(["num_trusted", "trusted_label_precision"], sort=True):
                    precision = float(rows["trusted_label_precision"].iloc[0])
                    row = replace(search, rows=rows.reset_index(drop=True)).choose(RULE).row
                    test = score_column("test_oracle", cell.measure)
                    after, before = (None if some is None else number_of(some[test]) for some in (row, search.vanilla))
                    if after is not None and before is not None:
                        # With one cell the markers distinguish its methods, with several the cells.
                        group = cell_title(cell) if len(classified) > 1 else method_label(method, space)
                        found.append(TrustedSetGain(group, search.seed, precision, difference(after, before)))
    return tuple(found)


def draw(results: Results, page: figures.PageWidth = figures.TWO_COLUMNS) -> figures.Figure | None:
    """Draws the figure; None if no method of the store selected trusted samples."""
    found = numbers(results)
    if not found:
        return None
    figure, (axis,) = figures.panels(1, page, height=0.55)
    groups = list(dict.fromkeys(point.group for point in found))
    for index, group in enumerate(groups):
        own = [point for point in found if point.group == group]
        style = {"marker": "osD^vPX<"[index % 8], "color": figures.FILLS[index % len(figures.FILLS)], "linestyle": "none"}
        axis.plot(
            [100 * point.precision for point in own],
            [100 * point.gain for point in own],
            label=group,
            markersize=4.5,
            markerfacecolor="none",
            **style,
        )
    axis.axhline(0, color=figures.TEXT_GREY, linewidth=0.8)
    axis.set_xlabel("Correct labels among the trusted samples (%)")
    axis.set_ylabel(f"Gain in test {MEASURES['acc'].name} (points)")
    figures.set_titles(figure, "Gain by label precision of the trusted set", [""], page)
    figures.legend_below(figure, f"One point per search and trusted set: setting selected by {RULE} minus the unmodified model", page)
    return figure

"""Trainers side by side: the uncorrected networks of all cells that differ in the trainer alone, and how right the labels are they kept."""

from __future__ import annotations

from dataclasses import dataclass, replace

from analysis.store.labels import MEASURES, mean_std, spread_over
from analysis.store.load import Results, series
from analysis.store.results import CellResult, cells
from analysis.store.selection_rule import score_column
from analysis.store.stats import Summary, summarise
from analysis.tables.notes import GAP, cell_title
from analysis.tables.render import Cell, Column, Table

KEPT = "kept_label_precision"
"""The series of the share of right labels among the samples that a trainer kept in an epoch."""


@dataclass(frozen=True)
class Group:
    """Cells that differ in the trainer alone, in the plan's order, by the trainer's name."""

    title: str  # as the trainers' cells are titled, without the trainer
    measure: str
    trainers: dict[str, CellResult]

    @property
    def seeds(self) -> int:
        return max(len(cell.seeds) for cell in self.trainers.values())


def groups(results: Results) -> tuple[Group, ...]:
    """Those with at least two trainers."""
    found: dict[tuple[str, str], Group] = {}
    for cell in cells(results):
        parts = cell.name.split("/")
        if len(parts) < 4 or cell.rows.empty:
            continue
        place = "/".join(parts[:3] + parts[4:])
        group = found.setdefault((place, cell.measure), Group(cell_title(cell).partition(" trained by ")[0], cell.measure, {}))
        group.trainers[parts[3]] = cell
    return tuple(group for group in found.values() if len(group.trainers) > 1)


def kept_by_epoch(results: Results, cell: CellResult) -> dict[int, Summary]:
    """Epoch -> share of right labels among the kept samples, over the seeds; empty for a trainer that keeps all."""
    points = series(results, KEPT)
    mine = points[points["run_id"].isin([baseline.baseline_id for baseline in cell.baselines])]
    return {int(str(epoch)): summarise(values) for epoch, values in mine.groupby("step")["value"]}


def trainers(results: Results) -> tuple[Table, ...]:
    """One table per group; none where every network has one trainer."""
    return tuple(_table(results, group) for group in groups(results))


def _table(results: Results, group: Group) -> Table:
    measure = MEASURES[group.measure]
    unit, suffix = (f" ({measure.unit})" if measure.unit else ""), "_percent" if measure.unit == "%" else ""
    columns = (
        Column("trainer", "Trainer", numeric=False),
        Column(f"test{suffix}", f"Test {measure.name}{unit}"),
        Column(f"val_noisy{suffix}", f"On given validation labels{unit}"),
        Column("kept_right_percent", "Kept: right (%)"),
        Column("wrong_given_percent", "as given", "Wrong labels (%)"),
        Column("wrong_true_percent", "as true", "Wrong labels (%)"),
        Column("training_giga_flops", "Training (GFLOP)"),
    )
    rows = []
    for name, cell in group.trainers.items():
        scores = [score_column(rule, cell.measure) for rule in ("test_oracle", "val_noisy")]
        test, val = (_mean(cell, column).times(measure.factor) for column in scores)
        kept = list(kept_by_epoch(results, cell).values())
        shares = (kept[-1] if kept else Summary(None, None, 0), _mean(cell, "mislabelled_given_acc"), _mean(cell, "mislabelled_true_acc"))
        flops = _mean(cell, "flops").times(1e-9)
        lacking = GAP if test.n < group.seeds else ""
        rows.append(
            (
                Cell(name),
                Cell(mean_std(test.mean, test.std, measure.decimals), test.mean, test.std, lacking),
                Cell(mean_std(val.mean, val.std, measure.decimals), val.mean, val.std),
                *(Cell(mean_std(share.times(100).mean, None, 1), share.times(100).mean, share.times(100).std) for share in shares),
                Cell(mean_std(flops.mean, None, 0), flops.mean, flops.std),
            )
        )
    best = max((row[1].value for row in rows if row[1].value is not None), default=None)
    ranked = [(row[0], replace(row[1], rank=int(row[1].value == best and best is not None)), *row[2:]) for row in rows]
    shown = [number for number in range(len(columns)) if number == 0 or any(row[number].value is not None for row in ranked)]
    notes = ["Kept: share of right labels among the samples that the trainer learnt from in its last epoch; told by the platform alone."]
    return Table(
        name="trainers",
        cell=next(iter(group.trainers.values())).name,
        caption=f"Trainers on {group.title}, uncorrected: {spread_over(group.seeds)}.",
        columns=tuple(columns[number] for number in shown),
        rows=tuple(tuple(row[number] for number in shown) for row in ranked),
        notes=(*notes, *([f"{GAP} Fewer seeds than planned."] if any(row[1].marks for row in rows) else [])),
    )


def _mean(cell: CellResult, column: str) -> Summary:
    return summarise(None if baseline.row is None else float(baseline.row[column]) for baseline in cell.baselines)

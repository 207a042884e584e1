"""Test accuracy of networks by trainer and by the noise of their labels: the table of the PRL experiments.

Built from rows of uncorrected, unpruned baselines, whatever trainers and kinds of noise a store has; left out where there is one
trainer or one noise (`trainers` says more of these).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pandas as pd

from analysis.store.labels import MEASURES, MISSING, mean_std, spread_over
from analysis.store.load import Results
from analysis.store.results import refuse_smoke
from analysis.store.stats import Summary, summarise
from analysis.tables.notes import GAP
from analysis.tables.render import Cell, Column, Table
from sap_core.records import VANILLA

ACCURACY = MEASURES["acc"]


def prl(results: Results) -> tuple[Table, ...]:
    """One table per data set and network: a row per trainer, a column per noise.

    Raises:
        UserError: the store is a smoke run's.
    """
    refuse_smoke(results)
    rows = baselines(results)
    rows = rows[rows["pruner"].isna() & rows["stage"].isna()]
    groups = rows.groupby(["dataset", "network"], sort=False)
    return tuple(
        _table(str(dataset), str(network), part)
        for (dataset, network), part in groups
        if part["trainer"].nunique() > 1 and part["noise_name"].nunique() > 1
    )


def baselines(results: Results) -> pd.DataFrame:
    """The rows of uncorrected networks that have a test accuracy, with the column `noise_name` (symmetric-0.25)."""
    rows = results.rows
    rows = rows[(rows["job_type"] == "train") & (rows["method"] == VANILLA) & (rows["status"] == "ok") & rows["test_acc"].notna()]
    names = [noise if pd.isna(rate) else f"{noise}-{rate:g}" for noise, rate in zip(rows["noise"], rows["noise_rate"], strict=True)]
    place = {run_id: number for number, run_id in enumerate(results.plan["run_id"])}
    return rows.assign(noise_name=names).sort_values("run_id", key=lambda ids: ids.map(place))


def accuracy(rows: pd.DataFrame, seeds: int) -> Cell:
    """Mean and deviation of the rows' test accuracy, in per cent; marked where there are fewer rows than seeds."""
    summary = summarise(rows["test_acc"]).times(ACCURACY.factor)
    return number(summary, ACCURACY.decimals, GAP if 0 < len(rows) < seeds else "")


def number(summary: Summary, decimals: int, marks: str = "") -> Cell:
    """A summary as a cell; a dash when there is nothing."""
    return Cell(mean_std(summary.mean, summary.std, decimals) if summary.n else MISSING, summary.mean, summary.std, marks)


def ranked(body: Sequence[list[Cell]], column: int, among: Iterable[int]) -> None:
    """Marks the best and the second best of a column, complete ones alone; ties share a rank."""
    there = [row for row in among if body[row][column].value is not None and not body[row][column].marks]
    best = sorted({body[row][column].value or 0.0 for row in there}, reverse=True)[:2]
    for row in there:
        cell = body[row][column]
        if cell.value in best and len(there) > 1:
            body[row][column] = replace(cell, rank=best.index(cell.value) + 1)


def _table(dataset: str, network: str, rows: pd.DataFrame) -> Table:
    noises, trainers, seeds = list(rows["noise_name"].unique()), list(rows["trainer"].unique()), rows["seed"].nunique()
    body = []
    for trainer in trainers:
        mine = rows[rows["trainer"] == trainer]
        body.append([Cell(str(trainer)), *(accuracy(mine[mine["noise_name"] == noise], seeds) for noise in noises)])
    for column in range(1, len(noises) + 1):
        ranked(body, column, range(len(body)))
    return Table(
        name="prl",
        cell=f"{dataset}/{network}",
        caption=f"Test accuracy (%) by trainer and noise, {network} on {dataset}: {spread_over(seeds)}.",
        columns=(Column("trainer", "Trainer", numeric=False), *(Column(f"{noise}_percent", noise, "Noise") for noise in noises)),
        rows=tuple(map(tuple, body)),
        notes=gap_note(body),
    )


def gap_note(body: Sequence[Sequence[Cell]]) -> tuple[str, ...]:
    """What the mark of incomplete cells means, where there is one."""
    return (f"{GAP} Fewer seeds than elsewhere.",) if any(cell.marks == GAP for row in body for cell in row) else ()

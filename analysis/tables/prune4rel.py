"""Data pruning: test accuracy and the share of wrong labels among what was kept, by selector, share kept and trainer.

Built from rows of uncorrected networks that were trained on a selection; those trained on everything stand first, where a store has them.
"""

from __future__ import annotations

import pandas as pd

from analysis.store.labels import spread_over
from analysis.store.load import Results
from analysis.store.results import refuse_smoke
from analysis.store.stats import summarise
from analysis.tables.prl import accuracy, baselines, gap_note, number, ranked
from analysis.tables.render import Cell, Column, Table

ALL = "all samples"


def prune4rel(results: Results) -> tuple[Table, ...]:
    """One table per data set, noise, network and warm-up; none where nothing was pruned.

    Raises:
        UserError: the store is a smoke run's.
    """
    refuse_smoke(results)
    rows = baselines(results)
    pruned = rows[rows["pruner"].notna()]
    whole = rows[rows["pruner"].isna() & rows["stage"].isna()]
    found = []
    for (dataset, noise, network, warmup), part in pruned.groupby(["dataset", "noise_name", "network", "warmup_trainer"], sort=False, dropna=False):
        same = whole[(whole["dataset"] == dataset) & (whole["noise_name"] == noise) & (whole["network"] == network)]
        same = same[same["trainer"].isin(part["trainer"])]
        title = f"{network} on {dataset}, {noise}, selected by a network that {warmup} trained"
        found.append(_table(f"{dataset}/{noise}/{network}/warmup-{warmup}", title, part, same))
    return tuple(found)


def _table(name: str, title: str, rows: pd.DataFrame, whole: pd.DataFrame) -> Table:
    shares = sorted(rows["keep_fraction"].unique())
    seeds = int(rows["seed"].nunique())
    body: list[list[Cell]] = []
    blocks = set()
    for trainer, mine in rows.groupby("trainer", sort=False):
        if body:
            blocks.add(len(body))
        everything = whole[whole["trainer"] == trainer]
        if len(everything):
            noise = number(summarise(everything["noise_rate_measured"]).times(100), 1)
            body.append([Cell(ALL), Cell(str(trainer)), *[accuracy(everything, seeds)] * len(shares), *[noise] * len(shares)])
        start = len(body)
        for pruner, chosen in mine.groupby("pruner", sort=False):
            by_share = [chosen[chosen["keep_fraction"] == share] for share in shares]
            noises = [number(summarise(part["kept_noise_rate"].astype(float)).times(100), 1) for part in by_share]
            body.append([Cell(str(pruner)), Cell(str(trainer)), *(accuracy(part, seeds) for part in by_share), *noises])
        for column in range(2, 2 + len(shares)):
            ranked(body, column, range(start, len(body)))
    columns = [
        Column("pruner", "Selector", numeric=False),
        Column("trainer", "Trainer", numeric=False),
        *(Column(f"test_{share:g}_percent", f"{share:.0%}", "Test accuracy (%), kept") for share in shares),
        *(Column(f"wrong_{share:g}_percent", f"{share:.0%}", "Wrong labels (%), kept") for share in shares),
    ]
    caption = f"Data pruning, {title}: {spread_over(seeds)}."
    return Table("prune4rel", name, caption, tuple(columns), tuple(map(tuple, body)), gap_note(body), frozenset(blocks))

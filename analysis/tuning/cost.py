"""What a search costs. (What it has reached at which cost: `analysis.tuning.anytime`.)

Seconds are compute seconds, added up over workers. *Shared* is what was really spent: work that several settings use is divided among
them. *Alone* is what the settings would cost if each ran by itself. Failed settings cost what they cost. The platform's own book-keeping
(test set, probes of the training set) is in neither.

Seconds say what a method costs only where nothing else slowed it down: a search whose rows do not say so is told in FLOPs instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from analysis.store.results import SearchResult
from analysis.store.stats import Summary, summarise

STANDALONE_PHASES = ("train_seconds", "select_seconds", "prepare_seconds", "correct_seconds", "evaluate_seconds")
"""The phases of one setting by itself; train_seconds is null but for methods that train anew."""

Unit = Literal["seconds", "flops"]

_SHARED: dict[Unit, str] = {"seconds": "tuning_seconds", "flops": "flops"}
_STANDALONE: dict[Unit, Sequence[str]] = {"seconds": STANDALONE_PHASES, "flops": ("standalone_flops",)}


@dataclass(frozen=True)
class SearchCost:
    """What one search cost; NaN when no row says."""

    shared: float
    standalone: float


def exclusive_device(rows: pd.DataFrame) -> bool:
    """Whether every job of the rows had its device to itself: cores of its own, or a whole GPU. Rows that do not say so count as shared.

    On a CPU, jobs with cores of their own still share caches and memory bandwidth.
    """
    timed = rows[rows["tuning_seconds"].notna()]
    on_cpu = (timed["device"] == "cpu") & (timed["jobs_on_device"] * timed["threads"] <= timed["cores"])
    on_gpu = (timed["device"] != "cpu") & (timed["jobs_on_device"] == 1) & (timed["device_share"] == 1)
    return bool((on_cpu | on_gpu).all())


def unit_of(searches: Iterable[SearchResult]) -> Unit:
    """The unit that all of the searches can be told in."""
    return "seconds" if all(exclusive_device(search.rows) for search in searches) else "flops"


def search_cost(rows: pd.DataFrame, unit: Unit = "seconds") -> SearchCost:
    """The cost of a search's rows."""
    return SearchCost(
        shared=float(rows[_SHARED[unit]].sum(min_count=1)),
        standalone=float(rows[list(_STANDALONE[unit])].sum(axis=1, min_count=1).sum(min_count=1)),
    )


def per_seed(searches: Sequence[SearchResult], unit: Unit = "seconds") -> tuple[Summary, Summary]:
    """Shared and stand-alone cost of one seed's search: mean and spread over the seeds. No seconds where rows shared their device."""
    if unit == "seconds" and unit_of(searches) != unit:
        return summarise(()), summarise(())
    costs = [search_cost(search.rows, unit) for search in searches if len(search.rows)]
    return summarise(cost.shared for cost in costs), summarise(cost.standalone for cost in costs)


def circumstances(rows: pd.DataFrame) -> list[str]:
    """Sentences on what makes rows less comparable: packed or different devices, threads, precisions, commits, versions."""
    found = []
    packed = rows[rows["device_share"] < 1]
    if len(packed):
        shares = ", ".join(f"{share:g}" for share in sorted(packed["device_share"].unique()))
        found.append(f"{len(packed)} of {len(rows)} rows were measured on a shared GPU (device_share {shares}).")
    faster = sorted({str(value) for value in rows["precision"].unique()} - {"float32"})
    if faster:
        found.append(f"Baselines were trained in {' and '.join(faster)}; corrections and scores are float32.")
    for column, what in (("device", "devices"), ("threads", "thread counts"), ("precision", "precisions"), ("commit", "commits")):
        values = sorted(str(value) for value in rows[column].unique())
        if len(values) > 1:
            found.append(f"The rows mix {what}: {', '.join(values)}.")
    for method, versions in rows.groupby("method", sort=False)["component_version"].unique().items():
        if len(versions) > 1:
            found.append(f"The rows of {method} mix versions: {', '.join(str(version) for version in sorted(versions))}.")
    return found

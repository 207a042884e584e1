"""The tuning cost of a complete search, amortised and standalone. (Performance by cost: `analysis.tuning.anytime`.)

Seconds are compute seconds, summed over workers. The *amortised* cost is what was spent: work that several settings use counts once. The
*standalone* cost is the sum of what each setting would cost if it ran alone. Failed settings are included. The evaluation that only
reports need (test set, probes of the training set) is in neither.

Seconds measure a method only if nothing else slowed it down, so a search whose rows do not record an exclusive device is reported in FLOPs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from analysis.store.results import SearchResult
from analysis.store.stats import Summary, summarise
from analysis.tuning.processors import processor_note

STANDALONE_PHASES = ("train_seconds", "select_seconds", "prepare_seconds", "correct_seconds", "evaluate_seconds")
"""Columns whose sum is the standalone cost of one setting; train_seconds is null except for methods that retrain."""

Unit = Literal["seconds", "flops"]

_AMORTISED: dict[Unit, str] = {"seconds": "tuning_seconds", "flops": "flops"}
_STANDALONE: dict[Unit, Sequence[str]] = {"seconds": STANDALONE_PHASES, "flops": ("standalone_flops",)}


@dataclass(frozen=True)
class SearchCost:
    """The cost of one search in one unit; NaN if no row records it."""

    amortised: float
    standalone: float


def exclusive_device(rows: pd.DataFrame) -> bool:
    """Whether every job had exclusive cores or an exclusive GPU. Rows that do not record this count as shared.

    On a CPU, jobs on separate cores still share caches and memory bandwidth.
    """
    # Rows without seconds (killed jobs) add none to a sum.
    timed = rows[rows["tuning_seconds"].notna()]
    on_cpu = (timed["device"] == "cpu") & (timed["jobs_on_device"] * timed["threads"] <= timed["cores"])
    on_gpu = (timed["device"] != "cpu") & (timed["jobs_on_device"] == 1) & (timed["device_share"] == 1)
    return bool((on_cpu | on_gpu).all())


def unit_of(searches: Iterable[SearchResult]) -> Unit:
    """The unit in which all searches can be compared: seconds if all had exclusive devices, else FLOPs."""
    return "seconds" if all(exclusive_device(search.rows) for search in searches) else "flops"


def search_cost(rows: pd.DataFrame, unit: Unit = "seconds") -> SearchCost:
    """Sums the cost of the rows of one search."""
    return SearchCost(
        # min_count: the sum of nothing is unknown, not 0.
        amortised=float(rows[_AMORTISED[unit]].sum(min_count=1)),
        # Phases that a method does not have are null and count as nothing; a row without any phase is unknown.
        standalone=float(rows[list(_STANDALONE[unit])].sum(axis=1, min_count=1).sum(min_count=1)),
    )


def per_seed(searches: Sequence[SearchResult], unit: Unit = "seconds") -> tuple[Summary, Summary]:
    """The amortised and standalone cost of one search, each summarised over the seeds; empty for seconds on shared devices."""
    # One shared search spoils the comparison with all others of its row.
    if unit == "seconds" and unit_of(searches) != unit:
        return summarise(()), summarise(())
    costs = [search_cost(search.rows, unit) for search in searches if len(search.rows)]
    return summarise(cost.amortised for cost in costs), summarise(cost.standalone for cost in costs)


def circumstances(rows: pd.DataFrame) -> list[str]:
    """One sentence for each circumstance that makes rows less comparable: shared devices, mixed devices, threads, precisions, versions."""
    found = []
    packed = rows[rows["device_share"] < 1]
    if len(packed):
        shares = ", ".join(f"{share:g}" for share in sorted(packed["device_share"].unique()))
        found.append(f"{len(packed)} of {len(rows)} rows were measured on a shared GPU (device_share {shares}).")
    faster = sorted({str(value) for value in rows["precision"].unique()} - {"float32"})
    if faster:
        found.append(f"Baselines were trained in {' and '.join(faster)}; corrections and scores are float32.")
    for column, noun in (("device", "devices"), ("threads", "thread counts"), ("precision", "precisions"), ("commit", "commits")):
        values = sorted(str(value) for value in rows[column].unique())
        if len(values) > 1:
            found.append(f"The rows mix {noun}: {', '.join(values)}.")
    found += processor_note(rows)
    for method, versions in rows.groupby("method", sort=False)["component_version"].unique().items():
        if len(versions) > 1:
            found.append(f"The rows of {method} mix versions: {', '.join(str(version) for version in sorted(versions))}.")
    return found

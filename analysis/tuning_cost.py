"""What a search costs, and what accuracy it has reached at which cost.

Seconds are compute seconds, added up over workers. *Shared* is what was really spent: work that several settings use is divided among
them. *Alone* is what the settings would cost if each ran by itself. Failed settings cost what they cost. The platform's own book-keeping
(test set, probes of the training set) is in neither.

Seconds say what a method costs only where nothing else slowed it down: a search whose rows do not say so is told in FLOPs instead.

The expected curve is over all orders of the search's finite list of settings, exact, without replacement (Tang et al., 2020, for the best
validation score; here for the test score of the setting that has it): after k of N settings, drawn at random, the setting of rank i (1 is
worst, N best under the selection rule) is the best of those seen with probability C(i-1, k-1) / C(N, k).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from analysis.cells import Search
from analysis.choose import score_column
from analysis.stats import Summary, summarise

ALONE = ("train_seconds", "select_seconds", "prepare_seconds", "correct_seconds", "evaluate_seconds")
"""The phases of one setting by itself; train_seconds is null but for methods that train anew."""

Unit = Literal["seconds", "flops"]

_SHARED: dict[Unit, str] = {"seconds": "shared_seconds", "flops": "flops"}
_ALONE: dict[Unit, Sequence[str]] = {"seconds": ALONE, "flops": ("flops_alone",)}


@dataclass(frozen=True)
class Spent:
    """What one search cost; NaN when no row says."""

    shared: float
    alone: float


@dataclass(frozen=True)
class Curve:
    """Accuracy reached against cost: entry k - 1 holds the state after k settings."""

    cost: np.ndarray  # [K] cumulated, shared
    test: np.ndarray  # [K] test score of the model chosen so far


def unshared(rows: pd.DataFrame) -> bool:
    """Whether every job of the rows had its device to itself: cores of its own, or a whole GPU. Rows that do not say so count as shared.

    On a CPU, jobs with cores of their own still share caches and memory bandwidth.
    """
    timed = rows[rows["shared_seconds"].notna()]
    on_cpu = (timed["device"] == "cpu") & (timed["device_jobs"] * timed["threads"] <= timed["cores"])
    on_gpu = (timed["device"] != "cpu") & (timed["device_jobs"] == 1) & (timed["device_share"] == 1)
    return bool((on_cpu | on_gpu).all())


def unit_of(searches: Iterable[Search]) -> Unit:
    """The unit that all of the searches can be told in."""
    return "seconds" if all(unshared(search.rows) for search in searches) else "flops"


def spent(rows: pd.DataFrame, unit: Unit = "seconds") -> Spent:
    """The cost of a search's rows."""
    return Spent(
        shared=float(rows[_SHARED[unit]].sum(min_count=1)),
        alone=float(rows[list(_ALONE[unit])].sum(axis=1, min_count=1).sum(min_count=1)),
    )


def as_run(search: Search, rule: str, unit: Unit = "seconds") -> Curve | None:
    """The curve in the order in which the settings ran; None when the search cannot be judged under `rule`."""
    if search.choose(rule).row is None or search.vanilla is None:
        return None
    rows = search.rows.sort_values(["started_at", "job_id", "position"], kind="stable")
    column, test = score_column(rule, search.measure), score_column("test_oracle", search.measure)
    scores = rows[column].where(rows["status"] == "ok").astype(float)
    # the unmodified model wins ties, then the earlier setting of the space; a NaN compares as not better
    best_so_far, chosen_test = (float(search.vanilla[column]), math.inf), float(search.vanilla[test])
    reached = []
    for score, position, test_score in zip(scores, rows["position"], rows[test], strict=True):
        if (score, -position) > best_so_far:
            best_so_far, chosen_test = (score, -position), test_score
        reached.append(chosen_test)
    return Curve(rows[_SHARED[unit]].fillna(0).cumsum().to_numpy(), np.array(reached))


def expected(search: Search, rule: str, unit: Unit = "seconds") -> Curve | None:
    """The expected curve over all orders of the settings; None when the search cannot be judged under `rule`.

    The expected cost of k settings is k times their mean cost.
    """
    if search.choose(rule).row is None or search.vanilla is None:
        return None
    rows = search.rows.sort_values("position", kind="stable")
    column, test = score_column(rule, search.measure), score_column("test_oracle", search.measure)
    scores = rows[column].where(rows["status"] == "ok").astype(float).to_numpy()
    reached = expected_best(float(search.vanilla[column]), float(search.vanilla[test]), scores, rows[test].to_numpy(dtype=float))
    steps = np.arange(1, len(rows) + 1)
    return Curve(steps * spent(rows, unit).shared / len(rows), reached)


def expected_best(unmodified: float, unmodified_test: float, scores_N: np.ndarray, tests_N: np.ndarray) -> np.ndarray:
    """Expected test score of the model chosen after k = 1..N settings in random order; shape [N].

    Args:
        unmodified: the unmodified model's score under the selection rule; a setting that does not beat it is never chosen.
        unmodified_test: its test score.
        scores_N: the settings' scores, in the order of the space (which breaks ties); NaN for failed ones.
        tests_N: their test scores.
    """
    count = len(scores_N)
    beats = np.nan_to_num(scores_N, nan=-np.inf) > unmodified
    gained = np.where(beats, tests_N, unmodified_test)
    # worst first; among equal scores the later setting is the worse one
    ranks = np.lexsort((-np.arange(count), np.where(beats, scores_N, -np.inf)))
    gained_by_rank = gained[ranks]
    rank = np.arange(1, count + 1)
    probability = np.full(count, 1 / count)  # k = 1: each setting is the best of itself
    reached = np.empty(count)
    for k in range(1, count + 1):
        reached[k - 1] = probability @ gained_by_rank
        # C(i-1, k) / C(N, k+1) from C(i-1, k-1) / C(N, k)
        if k < count:
            probability = probability * np.maximum(rank - k, 0) / k * (k + 1) / (count - k)
    return reached


def per_seed(searches: Sequence[Search], unit: Unit = "seconds") -> tuple[Summary, Summary]:
    """Shared and stand-alone cost of one seed's search: mean and spread over the seeds. No seconds where rows shared their device."""
    if unit == "seconds" and unit_of(searches) != unit:
        return summarise(()), summarise(())
    costs = [spent(search.rows, unit) for search in searches if len(search.rows)]
    return summarise(cost.shared for cost in costs), summarise(cost.alone for cost in costs)


def circumstances(rows: pd.DataFrame) -> list[str]:
    """Sentences on what makes rows less comparable: packed or different devices, threads, precisions, commits, versions."""
    said = []
    packed = rows[rows["device_share"] < 1]
    if len(packed):
        shares = ", ".join(f"{share:g}" for share in sorted(packed["device_share"].unique()))
        said.append(f"{len(packed)} of {len(rows)} rows were measured on a shared GPU (device_share {shares}).")
    faster = sorted({str(value) for value in rows["precision"].unique()} - {"float32"})
    if faster:
        said.append(f"Baselines were trained in {' and '.join(faster)}; corrections and scores are float32.")
    for column, what in (("device", "devices"), ("threads", "thread counts"), ("precision", "precisions"), ("commit", "commits")):
        values = sorted(str(value) for value in rows[column].unique())
        if len(values) > 1:
            said.append(f"The rows mix {what}: {', '.join(values)}.")
    for method, versions in rows.groupby("method", sort=False)["version"].unique().items():
        if len(versions) > 1:
            said.append(f"The rows of {method} mix versions: {', '.join(str(version) for version in sorted(versions))}.")
    return said

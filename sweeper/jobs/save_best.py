"""`save_corrected=best`: the best corrected network of each search as a file, made when all of the search's rows are there.

A search's families are jobs of their own, in any order and on any machine, so which setting is best is known at the end alone. It is then
chosen from the rows, by the rule that reports call val_noisy, and run once more by itself: a setting alone has the bits that it has in its
family, which the score is compared for. So the order of jobs cannot change what is kept, nothing is held in memory or on disk for settings
that lose, and a store whose rows were there before the key was set gets networks in the same way. The price is one more run of the chosen
setting. A network that is there for the chosen row is left alone.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from analysis.store.selection_rule import best
from sap_core.api import Stopped
from sap_core.checkpoint import save_state
from sap_core.construct import is_entry
from sap_core.errors import StorageError
from sap_core.files import save_json, storing
from sap_core.records import Row
from sweeper.jobs.context import JobContext
from sweeper.jobs.job import Job, SweepPaths, artifact
from sweeper.jobs.run_job import execute, settle
from sweeper.jobs.stages import correct_again
from sweeper.store.store import Store

Key = tuple[str, str, str]
"""(baseline, method, space): one search."""

_SAME = 1e-9


@dataclass(frozen=True)
class Search:
    """A search whose jobs all ended: what it chose, None where the unmodified model is kept."""

    key: Key
    column: str  # the score it chooses by
    unmodified: float
    best: tuple[Job, Row] | None

    def folder(self, root: Path) -> Path:
        """Where its network lies."""
        baseline, method, space = self.key
        return root / "corrected" / baseline / f"{method}@{space}"


def save_best(jobs: Sequence[Job], folders: SweepPaths, device: str) -> int:
    """Makes the networks that are missing, and says what it did; returns 1 when one could not be made."""
    store, failed, waiting = Store(folders.store), 0, 0
    by_id = {job.job_id: job for job in jobs}
    for search in _searches(jobs, store):
        if search is None:
            waiting += 1
            continue
        folder = search.folder(folders.store)
        if search.best is None:
            _forget(folder)
            print(
                f"{'@'.join(search.key[1:])} on {search.key[0]}: nothing is better than the unmodified model, which is kept",
                file=sys.stderr,
            )
        elif _held(folder) != search.best[1].run_id:
            failed += not _make(search, folder, by_id, folders, device)
    if waiting:
        print(f"{waiting} searches are not whole yet; their corrected networks are chosen when they are", file=sys.stderr)
    return 1 if failed else 0


def _searches(jobs: Sequence[Job], store: Store) -> Iterator[Search | None]:
    """Every search of the plan; None for one of which a job has not ended."""
    grouped: dict[Key, list[Job]] = {}
    for job in jobs:
        if job.job_type in ("tune", "search"):
            grouped.setdefault(_key(job.labels), []).append(job)
    ended = store.statuses()
    for key, members in grouped.items():
        vanilla = store.read_rows(key[0])
        column = _column(members[0].labels, vanilla[0]) if vanilla else ""
        unmodified = _score(vanilla[0], column) if vanilla else None
        if unmodified is None or not all(job.job_id in ended for job in members):
            yield None
            continue
        planned = {run.run_id for job in members for run in job.runs}
        rows = [(job, row) for job in members for row in store.read_rows(job.job_id) if row.run_id in planned]
        yield Search(key, column, unmodified, best_of(rows, column, unmodified))


def _key(labels: Mapping[str, Any]) -> Key:
    """A search other than the grid is one of its own per sampler, budget and seed."""
    sampled = [str(labels[name]) for name in ("search", "search_budget", "search_seed") if labels.get(name) is not None]
    space = "-".join([str(labels["space"]), *sampled])
    return labels["baseline_id"], labels["method"], space


def best_of(rows: Sequence[tuple[Job, Row]], column: str, unmodified: float) -> tuple[Job, Row] | None:
    """The row that the selection rule of reports (`analysis.store.selection_rule.best`) takes; None where it keeps the unmodified model."""
    ordered = sorted(rows, key=lambda entry: _place(entry[1]))
    scores = [_score(row, column) for _, row in ordered]
    winner = best(unmodified, [math.nan if score is None else score for score in scores])
    return None if winner is None else ordered[winner]


def _place(row: Row) -> int:
    """The setting's place in its space; a trial's number where the space has ranges."""
    return row.position if row.grid_position is None else row.grid_position


def _column(labels: Mapping[str, Any], vanilla: Row) -> str:
    """The score that a search chooses by: the one on the given validation labels."""
    return "val_noisy_acc" if vanilla.val_noisy_acc is not None else "val_noisy_r2"


def _score(row: Row, column: str) -> float | None:
    score: float | None = getattr(row, column)
    return None if row.status != "ok" or score is None or math.isnan(score) else score


def _held(folder: Path) -> str | None:
    """The run whose network lies there, whole."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        if (folder / "model.safetensors").exists():
            return str(json.loads((folder / "meta.json").read_text())["run_id"])
    return None


def _forget(folder: Path) -> None:
    """An earlier choice that no longer holds; what describes it goes first."""
    for name in ("meta.json", "model.safetensors"):
        with suppress(FileNotFoundError):
            (folder / name).unlink()


def _make(search: Search, folder: Path, jobs: dict[str, Job], folders: SweepPaths, device: str) -> bool:
    """Runs the chosen setting by itself and stores its network; false if it could not be made, which is said."""
    assert search.best is not None
    job, row = search.best
    (run,) = [run for run in job.runs if run.run_id == row.run_id]
    if job.job_type == "search":  # its plan knows no settings, its rows do
        base = job.spec["search"]["method"]
        nested = {key: value for key, value in base["settings"].items() if is_entry(value)}  # rows hold their names alone
        run = replace(run, entry={"target": base["target"], "settings": json.loads(row.settings) | nested})
    name = f"{search.key[1]}@{search.key[2]} on {search.key[0]}"
    print(f"{name}: the chosen setting is run once more for its network, {folder}", file=sys.stderr)
    settle(job.threads)
    place = JobContext(folders.data, folders.artifacts, torch.device(device), lambda: False)
    try:
        _remake_parents(job, jobs, folders, device)
        weights, scores = correct_again(replace(job, runs=(run,)), place, folder / "last.safetensors")
    except (StorageError, Stopped):
        raise
    except Exception as error:
        print(f"{name}: its network cannot be made ({type(error).__name__}: {error})", file=sys.stderr)
        return False
    found, wanted = scores.get(search.column), _score(row, search.column)
    if found is None or wanted is None or abs(found - wanted) > _SAME:
        print(
            f"{name}: run again, the chosen setting scores {found} where its row says {wanted}, so its network is not kept; "
            f"another machine or another number of threads gives other bits",
            file=sys.stderr,
        )
        return False
    with storing(folders.store):
        _forget(folder)
        save_state(folder / "model.safetensors", weights)
        save_json(folder / "meta.json", _meta(search, job, row))
    return True


def _remake_parents(job: Job, jobs: dict[str, Job], folders: SweepPaths, device: str) -> None:
    """Artifacts that the job reads and that were deleted since are made again; their rows stay as they are."""
    for parent in job.parents:
        if not artifact(folders.artifacts, parent).exists():
            _remake_parents(jobs[parent], jobs, folders, device)
            execute(jobs[parent], folders, device)


def _meta(search: Search, job: Job, row: Row) -> dict[str, object]:
    """What this network is: its row's identity and scores, and the score that it had to beat."""
    columns = (
        "run_id", "dataset", "noise", "noise_rate", "network", "trainer", "pruner", "seed", "baseline_id", "method", "space", "position",
        "val_noisy_acc", "val_clean_acc", "val_noisy_r2", "val_newly_wrong", "val_newly_right", "num_val", "commit", "component_version",
    )  # fmt: skip
    known = {name: getattr(row, name) for name in columns}
    return {**known, "settings": json.loads(row.settings), "model": job.spec["baseline"]["model"], "unmodified_score": search.unmodified}

"""`save_corrected=best`: stores the best corrected network of each search, once all rows of the search are stored.

The families of a search are separate jobs that run in any order on any machine, so the best setting is known only at the end. The driver
then chooses it from the rows by the selection rule of the reports (val_noisy) and recomputes that one setting. A setting has the same bits
alone as in its family; the recomputed score is compared with the row, and the network is discarded if they differ. So the order of jobs
cannot influence which network is stored, other settings occupy neither memory nor disk, and the key can be set after the sweep has run.
The cost is one more run of the chosen setting. A network that is already stored for the chosen row is left as it is.
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
from sap_core.construct import construct, is_entry
from sap_core.data.source import named_classes
from sap_core.errors import StorageError
from sap_core.files import load_json, storing
from sap_core.records import Row
from sap_core.text import one_line
from sweeper.jobs.context import JobContext
from sweeper.jobs.job import Job, SweepPaths
from sweeper.jobs.job_types import recompute_setting
from sweeper.jobs.run_job import configure_torch, execute
from sweeper.jobs.searches import SearchKey, every_setting_failed, group_searches, search_rows
from sweeper.jobs.stored_artifacts import damage_of, is_complete, write_marker
from sweeper.store.store import Store

_MODEL = "model.safetensors"

# Accuracies differ by at least one sample over the size of the validation set; anything above rounding is another network.
_TOLERANCE = 1e-9
"""Largest accepted difference between the recomputed score and the one in the row."""


@dataclass(frozen=True)
class FinishedSearch:
    """A search whose jobs have all ended, and its best row; `best` is None if the unmodified model is kept, or every setting failed."""

    key: SearchKey
    column: str  # of the score that the selection uses
    unmodified: float
    best: tuple[Job, Row] | None
    failure: str | None = None  # the sentence for a search in which every setting failed

    def folder(self, root: Path) -> Path:
        """The folder of its corrected network."""
        baseline, method, space = self.key
        return root / "corrected" / baseline / f"{method}@{space}"


def save_best(jobs: Sequence[Job], paths: SweepPaths, device: str) -> int:
    """Compute and store the missing networks, with messages on standard error.

    Returns:
        The exit code: 1 if a network could not be computed, or every setting of a search failed.

    Raises:
        StorageError: a network cannot be written.
        Stopped: the sweep was asked to stop.
    """
    store, failed, waiting = Store(paths.store), 0, 0
    # Parents by id, for artifacts that have to be restored before the recomputation.
    by_id = {job.job_id: job for job in jobs}
    for search in _searches(jobs, store):
        if search is None:
            waiting += 1
            continue
        folder = search.folder(paths.store)
        if search.best is None:
            _delete_network(folder)
            why = search.failure or "no setting is better than the unmodified model, which is kept"
            print(f"{'@'.join(search.key[1:])} on {search.key[0]}: {why}", file=sys.stderr)
            # Nothing is known about a method whose settings all failed, so this is no reason to keep the unmodified model.
            failed += search.failure is not None
        # Compared by the run's id, so a network is recomputed only when the choice has changed, for example because the space was widened.
        elif _stored_run(folder) != search.best[1].run_id:
            failed += not _store_network(search, folder, by_id, paths, device)
    if waiting:
        print(f"{waiting} searches are incomplete; their corrected networks are chosen when all of their jobs have ended", file=sys.stderr)
    return 1 if failed else 0


def _searches(jobs: Sequence[Job], store: Store) -> Iterator[FinishedSearch | None]:
    """Every search of the plan; None for a search with a job that has not ended, or without a scored baseline."""
    ended = store.statuses()
    for key, members in group_searches(jobs).items():
        vanilla = store.read_rows(key[0])
        column = _column(members[0].labels, vanilla[0]) if vanilla else ""
        unmodified = _score(vanilla[0], column) if vanilla else None
        # The best of a part of the settings may not be the best of all, so an incomplete search has no network yet.
        if unmodified is None or not all(job.job_id in ended for job in members):
            yield None
            continue
        rows = search_rows(members, store)
        all_failed = bool(rows) and all(row.status != "ok" for _, row in rows)
        failure = f"{every_setting_failed(row.error_type for _, row in rows)}, so there is no corrected network" if all_failed else None
        yield FinishedSearch(key, column, unmodified, best_of(rows, column, unmodified), failure)


def best_of(rows: Sequence[tuple[Job, Row]], column: str, unmodified: float) -> tuple[Job, Row] | None:
    """The row that the selection rule of the reports (`analysis.store.selection_rule`) chooses; None if it keeps the unmodified model."""
    # Ties go to the setting that is earlier in its space. Rows arrive in the order of the jobs, so they are sorted first.
    ordered = sorted(rows, key=lambda entry: _grid_index(entry[1]))
    scores = [_score(row, column) for _, row in ordered]
    # The rule itself is the reports' own, so that the network stored here is the one that the tables name.
    winner = best(unmodified, [math.nan if score is None else score for score in scores])
    return None if winner is None else ordered[winner]


def _grid_index(row: Row) -> int:
    """The index of the setting in its space, which decides ties; the number of the trial if the space is not a grid."""
    return row.position if row.grid_position is None else row.grid_position


def _column(labels: Mapping[str, Any], vanilla: Row) -> str:
    """The score that the selection uses: the one on the given validation labels."""
    return "val_noisy_acc" if vanilla.val_noisy_acc is not None else "val_noisy_r2"


def _score(row: Row, column: str) -> float | None:
    score: float | None = getattr(row, column)
    return None if row.status != "ok" or score is None or math.isnan(score) else score


def _stored_run(folder: Path) -> str | None:
    """The id of the run whose complete and intact network is stored in `folder`."""
    marker = folder / "meta.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        # Both files: one of them alone is the remainder of an interrupted deletion or of a failed copy.
        if (folder / _MODEL).exists() and marker.exists():
            if why := damage_of(marker, (_MODEL,), {}):
                print(f"{why}; the network is computed again", file=sys.stderr)
                return None
            return str(load_json(marker)["run_id"])
    return None


def _delete_network(folder: Path) -> None:
    """Delete the network of an earlier selection."""
    # meta.json first: a network without it counts as absent, so a kill in between leaves no mislabelled network.
    for name in ("meta.json", "model.safetensors"):
        with suppress(FileNotFoundError):
            (folder / name).unlink()


def _store_network(search: FinishedSearch, folder: Path, jobs: dict[str, Job], paths: SweepPaths, device: str) -> bool:
    """Recompute the chosen setting and store its network. Returns False, after a message, if that is not possible."""
    assert search.best is not None
    job, row = search.best
    (run,) = [run for run in job.runs if run.run_id == row.run_id]
    # The settings of trials are in the rows, not in the plan; rows contain only the names of nested components.
    if job.job_type == "search":
        base = job.spec["search"]["method"]
        nested = {key: value for key, value in base["settings"].items() if is_entry(value)}
        run = replace(run, entry={"target": base["target"], "settings": json.loads(row.settings) | nested})
    name = f"{search.key[1]}@{search.key[2]} on {search.key[0]}"
    print(f"{name}: recomputing the chosen setting for its network, {folder}", file=sys.stderr)
    # The sweep's number of threads, because another number gives other bits and the score would then differ from the row.
    configure_torch(job.threads)
    # Without stop requests: an interrupt ends the driver itself, and the network is computed at the next start.
    context = JobContext(paths.data, paths.artifacts, torch.device(device), lambda: False)
    try:
        _restore_artifacts(job, jobs, paths, device)
        weights, scores = recompute_setting(replace(job, runs=(run,)), context, folder / "last.safetensors")
    # One network that cannot be computed must not prevent the others; a full disk and a stop concern them all.
    except (StorageError, Stopped):
        raise
    except Exception as error:
        print(one_line(f"{name}: its network cannot be computed ({type(error).__name__}: {error})"), file=sys.stderr)
        return False
    found, wanted = scores.get(search.column), _score(row, search.column)
    # A network whose score is not the row's would be published under numbers that it does not have.
    if found is None or wanted is None or abs(found - wanted) > _TOLERANCE:
        print(
            f"{name}: recomputed, the chosen setting scores {found} instead of the {wanted} in its row, so its network is not stored; "
            f"run the command on the machine and with the number of threads of the sweep",
            file=sys.stderr,
        )
        return False
    with storing(paths.store):
        _delete_network(folder)
        save_state(folder / _MODEL, weights)
        write_marker(folder / "meta.json", (_MODEL,), _meta(search, job, row, paths.data))
    return True


def _restore_artifacts(job: Job, jobs: dict[str, Job], paths: SweepPaths, device: str) -> None:
    """Recompute the artifacts that the job reads and that have been deleted since; stored rows are not changed."""
    for parent in job.parents:
        # Recursive, because the network that a selection was made by may have been deleted together with the baseline.
        if not is_complete(paths.artifacts, parent):
            _restore_artifacts(jobs[parent], jobs, paths, device)
            execute(jobs[parent], paths, device)


def _meta(search: FinishedSearch, job: Job, row: Row, data: Path) -> dict[str, object]:
    """The metadata of a network: identity and scores of its row, the score of the unmodified model, and the classes of its outputs."""
    columns = (
        "run_id", "dataset", "noise", "noise_rate", "network", "trainer", "pruner", "seed", "baseline_id", "method", "space", "position",
        "val_noisy_acc", "val_clean_acc", "val_noisy_r2", "val_newly_wrong", "val_newly_right", "num_val", "commit", "component_version",
    )  # fmt: skip
    known = {name: getattr(row, name) for name in columns}
    # Null where the files do not name the classes, as in published sets of arrays.
    classes = named_classes(construct(job.spec["baseline"]["dataset"]), data)
    return {
        **known, "settings": json.loads(row.settings), "model": job.spec["baseline"]["model"], "unmodified_score": search.unmodified,
        "classes": list(classes.names) if classes else None,
    }  # fmt: skip

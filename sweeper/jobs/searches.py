"""Groups the jobs of a plan by search, and finds the searches in which every setting failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from sap_core.errors import StorageError
from sap_core.files import load_json, save_json
from sap_core.identity import content_id
from sap_core.records import Row
from sweeper.jobs.job import Job
from sweeper.store.store import Store

RECORD = "failed_searches.json"
"""File of a store with the sentences of `failed_searches`, and the state of the store that they were computed from."""

SearchKey = tuple[str, str, str]
"""(baseline, method, space)"""


def group_searches(jobs: Iterable[Job]) -> dict[SearchKey, list[Job]]:
    """The jobs of each search of a plan, in its order."""
    grouped: dict[SearchKey, list[Job]] = {}
    for job in jobs:
        if job.job_type in ("tune", "search"):
            grouped.setdefault(_key(job.labels), []).append(job)
    return grouped


def _key(labels: Mapping[str, Any]) -> SearchKey:
    """The key of a job's search. Sampled searches of one space differ in sampler, budget or seed."""
    sampled = [str(labels[name]) for name in ("search", "search_budget", "search_seed") if labels.get(name) is not None]
    # Joined into the folder's name, where two searches of one space would otherwise overwrite each other's network.
    space = "-".join([str(labels["space"]), *sampled])
    return labels["baseline_id"], labels["method"], space


def search_rows(jobs: Sequence[Job], store: Store) -> list[tuple[Job, Row]]:
    """The stored rows of a search with their jobs; rows that a former plan left in the store are no members of it."""
    planned = {run.run_id for job in jobs for run in job.runs}
    return [(job, row) for job in jobs for row in store.read_rows(job.job_id) if row.run_id in planned]


def failed_searches(jobs: Iterable[Job], store: Store) -> list[str]:
    """One sentence for each search whose jobs have all ended and in which every setting failed.

    The sentences are recorded, so that a start with nothing to do reads no rows; `jobs` is not iterated then.
    """
    record, state = store.root / RECORD, _state(store)
    with suppress(OSError, ValueError, KeyError, TypeError):
        stored = load_json(record)
        if stored["state"] == state:
            return list(map(str, stored["failed"]))
    found = list(_failed(jobs, store))
    # Only a record: a store that cannot be written can still be asked.
    with suppress(StorageError, OSError):
        save_json(record, {"state": state, "failed": found})
    return found


def _state(store: Store) -> str:
    """A hash of the plan and of the statuses of its jobs, which decide the sentences."""
    try:
        plan = (store.root / "plan.json").read_text(encoding="utf-8")
    except OSError:
        plan = ""
    return content_id({"plan": plan, "statuses": store.statuses()})


def _failed(jobs: Iterable[Job], store: Store) -> Iterator[str]:
    ended = store.statuses()
    for key, members in group_searches(jobs).items():
        if not all(job.job_id in ended for job in members):
            continue
        rows: list[Row] = []
        # One row that is ok ends the reading, so that a store of many searches is not read as a whole.
        for job in members:
            rows += [row for _, row in search_rows([job], store)]
            if any(row.status == "ok" for row in rows):
                break
        else:
            if rows:
                seed = members[0].labels["seed"]
                yield f"{'@'.join(key[1:])} on {key[0]} (seed {seed}): {every_setting_failed(row.error_type for row in rows)}"


def every_setting_failed(kinds: Iterable[str | None]) -> str:
    """`every setting failed (3 diverged, 1 error)`."""
    counts = Counter(kind or "error" for kind in kinds)
    return f"every setting failed ({', '.join(f'{count} {kind}' for kind, count in sorted(counts.items()))})"

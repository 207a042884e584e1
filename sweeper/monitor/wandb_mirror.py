"""Mirrors a store to Weights & Biases: one W&B run per finished job, and one with the tables (docs/tracking.md).

Only `sap-sweep track` imports wandb. `tracking=wandb` runs that command as a separate process during the sweep (`mirroring`). The process
only reads the store: if W&B fails, hangs or crashes, the sweep ends at most `tracking.timeout_seconds` later.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from sap_core.errors import UserError
from sap_core.files import storing
from sap_core.location import HOME, child_environment
from sap_core.records import Point, Row
from sweeper.config.schema import TrackingConfig
from sweeper.store.credentials import redact
from sweeper.store.store import Store

if TYPE_CHECKING:
    from analysis.store.results import CellResult, SearchResult

SUMMARY = "summary"
"""Used in place of a job id for the W&B run that contains the tables."""

_POLL_SECONDS = 2.0
_CONFIG = (
    "experiment", "debug", "job_type", "dataset", "noise", "noise_rate", "network", "trainer", "pruner", "keep_fraction", "seed", "method",
    "space", "search", "search_budget", "search_seed", "information", "device", "precision", "baseline_id", "job_id", "commit",
)  # fmt: skip
"""Columns that identify a job: W&B filters and groups runs by them."""


@contextlib.contextmanager
def mirroring(tracking: TrackingConfig, store: Path) -> Iterator[None]:
    """Runs `sap-sweep track --follow` while the block runs and for at most `timeout_seconds` after it; its failure is only a warning."""
    process, seconds = None, 0.0
    try:
        process = _start(tracking, store) if tracking.name == "wandb" else None
    # Tracking is an addition: no failure of it, not even a missing program, stops a sweep.
    except OSError as error:
        print(f"tracking: the W&B mirror could not be started ({error.strerror}); the sweep continues without it", file=sys.stderr)
    try:
        yield
        # Only here: an interrupted sweep does not reach this line and waits 0 seconds for the mirror.
        seconds = tracking.timeout_seconds
    finally:
        if process is not None and not _ended_well(process, seconds):
            remedy = f"`sap-sweep track {os.path.relpath(store)}` mirrors the remaining jobs"
            print(f"tracking: not every job was mirrored, see {folder_of(store)}/mirror.log; {remedy}", file=sys.stderr)


def _start(tracking: TrackingConfig, store: Path) -> subprocess.Popen[bytes]:
    """Starts the mirror in a new session, which Ctrl-C does not reach and which can be killed together with W&B's own processes."""
    settings = [f"{name}={'null' if value is None else value}" for name, value in asdict(tracking).items() if name != "name"]
    command = [sys.executable, "-P", "-m", "sweeper", "track", str(store), "--follow", *settings]
    folder_of(store).mkdir(parents=True, exist_ok=True)
    # To a file, because W&B's own messages would disturb the progress display.
    with (folder_of(store) / "mirror.log").open("ab") as log:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log, cwd=HOME, env=child_environment(), start_new_session=True
        )  # fmt: skip


def _ended_well(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Ends the mirror by closing its input, and kills it after `seconds`; returns whether it succeeded."""
    assert process.stdin is not None
    # The end of its input is the signal: it also comes when the sweep is killed, unlike a message.
    process.stdin.close()
    try:
        return process.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        # The group includes W&B's service process, which would otherwise survive a hang.
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def mirror(tracking: TrackingConfig, store: Store, follow: bool = False) -> bool:
    """Mirrors every ended job that is not mirrored yet, then the tables. Stops at W&B's first error.

    The store is only read. The process exits with code 1 if one job takes longer than `timeout_seconds`.

    Args:
        tracking: W&B's project, entity and mode.
        store: the sweep's results.
        follow: mirror jobs as they end, until standard input is closed (because the sweep has ended or was killed).

    Returns:
        False after an error of W&B, which is printed on standard error.

    Raises:
        StorageError: the folder of W&B's files cannot be written.
    """
    if tracking.mode == "offline":
        # Not needed offline, and W&B cannot log what it does not know.
        os.environ.pop("WANDB_API_KEY", None)
    folder = folder_of(store.root)
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # Outside the store, which other programs read and which the mirror must not change.
        notes = (folder / "mirrored.jsonl").open("a", buffering=1, encoding="utf-8")
    with notes:
        _lock(notes, store)
        # Only after the lock, because the mirror that had it before may have added entries.
        done, ended = mirrored(store.root), False
        while not ended:
            # Statuses are read after the end of the sweep was seen, so that its last job is not missed.
            ended = not follow or bool(select.select([sys.stdin], [], [], _POLL_SECONDS)[0])
            # Compared by status, so that a job that failed and later succeeded is sent a second time and continues its W&B run.
            new = [(name, status) for name, status in store.statuses().items() if done.get(name) != status]
            if ended and (new or SUMMARY not in done):
                new.append((SUMMARY, "ok"))
            # One W&B run per job, not per search: a job ends once and is stored completely, so no run is appended to after a restart.
            for name, status in new:
                # Works even if W&B never releases the GIL.
                faulthandler.dump_traceback_later(tracking.timeout_seconds, exit=True)
                try:
                    _send(
                        tracking, folder, summary_run(store) if name == SUMMARY else job_run(store.read_rows(name), store.read_series(name))
                    )
                    # After W&B has accepted the job: a kill in between sends it twice, under the same id, and never loses it.
                    notes.write(json.dumps({"job": name, "status": status}) + "\n")
                except Exception as error:  # whatever W&B raises
                    print(redact(f"{name} was not mirrored: {type(error).__name__}: {' '.join(str(error).split())[:500]}"), file=sys.stderr)
                    return False
                finally:
                    faulthandler.cancel_dump_traceback_later()
                done[name] = status
    return True


def _lock(file: TextIO, store: Store) -> None:
    """Locks the list of mirrored jobs; a second mirror of the same store waits, so that no job is mirrored twice."""
    try:
        # First without waiting, only to be able to report the wait.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"waiting for another process that is mirroring {store.root}", file=sys.stderr)
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
    # A file system without locks (NFS and FUSE may have none): mirroring a job twice sends the same W&B run again.
    except OSError as error:
        print(f"{file.name} cannot be locked ({error.strerror}); do not start a second mirror of {store.root}", file=sys.stderr)


def _send(tracking: TrackingConfig, folder: Path, content: Run) -> None:
    # Imported at the first job, not at the top: a sweep must run where wandb is not installed.
    import wandb

    # W&B must not record console output, code, git state or machine data, which may contain paths and secrets.
    settings = wandb.Settings(silent=True, console="off", disable_git=True, save_code=False, x_disable_stats=True, x_disable_meta=True)
    mode: Any = tracking.mode
    run = wandb.init(
        project=tracking.project, entity=tracking.entity, mode=mode, dir=str(folder), id=content.id, name=content.name, group=content.group,
        job_type=content.type, config=content.config, resume="allow", settings=settings, reinit=True,
    )  # fmt: skip
    for step, values in content.curves:
        run.log(values, step=step)
    for name, (columns, lines) in content.tables.items():
        run.log({name: wandb.Table(columns=columns, data=lines, allow_mixed_types=True)})
    run.summary.update(content.summary)
    run.finish()


@dataclass(frozen=True)
class Run:
    """The content of one W&B run."""

    id: str  # unique in the project; W&B continues a run of the same id
    name: str
    group: str
    type: str  # job type, or SUMMARY
    config: dict[str, Any]
    summary: dict[str, Any]
    tables: dict[str, tuple[list[str], list[list[Any]]]]  # name -> (columns, rows)
    curves: Sequence[tuple[int, dict[str, float]]] = ()  # (epoch, values by series)


def job_run(rows: Sequence[Row], points: Sequence[Point]) -> Run:
    """A job's rows and series as a W&B run.

    Raises:
        ValueError: there are no rows, because their file is damaged.
    """
    if not rows:
        raise ValueError("its rows cannot be read")
    first = rows[0]
    # Smoke runs have a group of their own, so that they never mix with the sweep's runs.
    group = _group(first.experiment, first.debug)
    method = first.method + (f"@{first.space}" if first.space else "") + (f" {first.search}" if first.search else "")
    rate = f" {first.noise_rate:g}" if first.noise_rate is not None else ""
    curves: dict[int, dict[str, float]] = defaultdict(dict)
    for point in points:
        # Costs and transition counts are series of the store that are not indexed by epoch.
        if not point.name.startswith(("cost/", "transition/")):
            curves[point.step][point.name] = point.value
    # Without `error`: a message may contain paths and secrets.
    columns = [item.name for item in fields(Row) if item.name != "error"]
    lines = [[getattr(row, name) for name in columns] for row in sorted(rows, key=lambda row: row.position)]
    return Run(
        id=f"{group}-{first.job_id}",
        name=f"{method} {first.dataset} {first.noise}{rate} {first.network} {first.trainer} seed {first.seed}",
        group=group,
        type=first.job_type,
        config={name: getattr(first, name) for name in _CONFIG} | ({"settings": json.loads(first.settings)} if len(rows) == 1 else {}),
        summary=_scores(rows),
        tables={"rows": (columns, lines)},
        curves=sorted(curves.items()),
    )


def _scores(rows: Sequence[Row]) -> dict[str, Any]:
    """All scores of a baseline; for a family only its highest validation score, because no setting is selected by a test score."""
    ok = [row for row in rows if row.status == "ok"]
    names = ("val_noisy_acc", "val_noisy_r2") + (("val_clean_acc", "test_acc", "test_r2", "train_acc") if len(rows) == 1 else ())
    scores = {name: [value for row in ok if (value := getattr(row, name)) is not None] for name in names}
    counts = {"num_rows": len(rows), "num_failed": len(rows) - len(ok), "seconds": sum(row.tuning_seconds or 0.0 for row in rows)}
    return {name: max(values) for name, values in scores.items() if values} | counts


def summary_run(store: Store) -> Run:
    """A W&B run with the selected setting of every search and its cost; without a table for a smoke run."""
    # pandas is imported here, when the sweep has ended: the mirror follows a sweep without it
    from analysis.store.load import load
    from analysis.store.results import cells

    results = load([store.root])
    experiment = str(results.rows["experiment"].iloc[0]) if len(results.rows) else store.root.name
    group = _group(experiment, ",".join(results.debug) or None)
    counts = {"planned": len(results.plan), "rows": len(results.rows), "failed": int((results.rows["status"] == "failed").sum())}
    lines: list[list[Any]] = []
    # Smoke runs and plans without baselines have no table; their summary is sent without one.
    with contextlib.suppress(UserError):
        lines = [_selected(cell, search) for cell in cells(results) for searches in cell.methods.values() for search in searches]
    tables = {"tables/selected": (list(_SELECTED_COLUMNS), lines)} if lines else {}
    return Run(f"{group}-{SUMMARY}", SUMMARY, group, SUMMARY, {"experiment": experiment}, counts, tables)


_SELECTED_COLUMNS = (
    "cell", "method", "space", "seed", "num_settings", "num_missing", "settings", "val_noisy", "test", "flops", "tuning_seconds",
)  # fmt: skip


def _selected(cell: CellResult, search: SearchResult) -> list[Any]:
    """The line of one search: the setting that `val_noisy` selects, its scores, and the cost of all its settings."""
    row = search.choose("val_noisy").row
    scores: list[Any] = [None, None, None]
    if row is not None:
        measure = cell.measure
        scores = [str(row["settings"]), float(row[f"val_noisy_{measure}"]), float(row[f"test_{measure}"])]
    costs = [float(search.rows[column].sum(min_count=1)) for column in ("flops", "tuning_seconds")]
    return [cell.name, search.method, search.space, search.seed, len(search.planned), search.missing, *scores, *costs]


def _group(experiment: str, debug: str | None) -> str:
    return (experiment if debug is None else f"{experiment}-{debug}")[:100]


def folder_of(store: Path) -> Path:
    """Folder of W&B's files, the list of mirrored jobs and the mirror's log: next to the store, because the store is only read."""
    return store.parent / "tracking" / store.name


def mirrored(store: Path) -> dict[str, str]:
    """Job id -> status (ok or failed) with which the job was mirrored last."""
    found: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in (folder_of(store) / "mirrored.jsonl").read_text(encoding="utf-8").splitlines():
            # The last line may be truncated by a kill.
            with contextlib.suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                found[entry["job"]] = entry["status"]
    return found

"""`tracking=wandb`: mirrors a store to Weights & Biases. A mirror only: the store is the record, and the sweep never waits for W&B.

The mirror is a process of its own that reads the store and nothing else, so any backend will do, and a store can be mirrored after its
sweep (`sap-sweep track STORE`). One W&B run is one job; its id is made of the experiment and the job id, so a restart continues it. What
was mirrored is noted beside W&B's files. A mirror that fails tries the next job and gives up after a few; one that hangs is ended by its
own watchdog, and by the driver at the end. W&B's key stays in the environment; offline the mirror does not even have it there.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from sap_core.errors import UserError
from sap_core.files import storing
from sap_core.location import CODE
from sap_core.records import Point, Row
from sweeper.provenance import HOME
from sweeper.schema import Tracking
from sweeper.secret_names import is_secret_name
from sweeper.store import Store

HUNG = 75
"""Exit code of a mirror that ended itself."""

SUMMARY = "summary"
"""In place of a job id: the run that holds the tables."""

_MOST_ERRORS = 3
_POLL_SECONDS = 2.0
_INTERRUPTED_SECONDS = 5.0
_CONFIG = (
    "experiment", "debug", "kind", "dataset", "dataset_verified", "noise", "noise_rate", "noise_rate_true", "network", "trainer",
    "pruner", "keep", "seed", "method", "space", "search", "search_budget", "search_seed", "information", "num_train", "num_val",
    "num_test", "device", "threads", "precision", "baseline_id", "job_id", "version", "commit",
)  # fmt: skip
_COLUMNS = (
    "run_id", "position", "settings", "status", "error_kind", "val_noisy_acc", "val_clean_acc", "test_acc", "val_noisy_r2", "test_r2",
    "train_acc", "wrong_given_acc", "wrong_true_acc", "trusted_precision", "shared_seconds", "flops", "peak_memory_bytes",
)  # fmt: skip
_NO_CURVES = ("cost/", "transition/")


def scrubbed(text: str, environment: Mapping[str, str] | None = None) -> str:
    """One line, without the value of any environment variable that is named like a secret."""
    for name, value in (os.environ if environment is None else environment).items():
        if is_secret_name(name) and len(value) >= 4:
            text = text.replace(value, "***")
    return " ".join(text.split())[:500]


# --- the driver's side -------------------------------------------------------------------------------------------------------------------


class Mirror:
    """A context: the mirror runs inside, and has `timeout_seconds` to finish after it. Never raises."""

    def __init__(self, tracking: Tracking, store: Path, folder: Path) -> None:
        self.tracking, self.store, self.folder = tracking, store, folder
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Mirror:
        if self.tracking.name != "none":
            try:
                self._process = start(self.tracking, self.store, self.folder, subprocess.PIPE)
            except OSError as error:
                print(f"tracking: the mirror could not be started ({error.strerror}); the sweep goes on without it", file=sys.stderr)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process is None:
            return
        with suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        try:
            code: int | None = self._process.wait(self.tracking.timeout_seconds if kind is None else _INTERRUPTED_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        with suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)  # what W&B may have left behind, too
        self._process.wait()
        if code:
            print(f"tracking: the mirror ended early; logs/tracking.log says why, {_remedy(self.store)}", file=sys.stderr)
        elif code is None:
            print(f"tracking: the mirror was not done in time and was ended; {_remedy(self.store)}", file=sys.stderr)


def _remedy(store: Path) -> str:
    return f"`sap-sweep track {os.path.relpath(store)}` mirrors what is left"


def start(tracking: Tracking, store: Path, folder: Path, stdin: int) -> subprocess.Popen[bytes]:
    """The mirror's process, in a session of its own, so that Ctrl-C does not reach it."""
    command = [
        sys.executable,
        "-m",
        "sweeper.tracking",
        "--store",
        str(store),
        "--folder",
        str(folder),
        "--settings",
        json.dumps(asdict(tracking)),
    ]
    path = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(CODE)])
    hidden = ("WANDB_API_KEY",) if tracking.mode == "offline" else ()
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    quiet = {"WANDB_SILENT": "true", "WANDB_CONSOLE": "off", "WANDB_DISABLE_GIT": "true", "WANDB_DISABLE_CODE": "true", "PYTHONPATH": path}
    nowhere = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=stdin, stdout=nowhere, stderr=nowhere, cwd=HOME, env=kept | quiet, start_new_session=True)


def track(words: Sequence[str]) -> int:
    """`sap-sweep track STORE [KEY=VALUE]`: mirrors what is not mirrored yet, and waits for it. Keys: project, entity, mode, folder, ...

    Raises:
        UserError: no such store or key.
    """
    from omegaconf import OmegaConf

    if not words or "=" in words[0]:
        raise UserError("sap-sweep track needs a store, the results folder of a sweep, as in sap-sweep track results/demo mode=online")
    store = Path(words[0]).resolve()
    if not (store / "plan.parquet").is_file():
        raise UserError(f"'{words[0]}' is no store: it has no plan.parquet; give the results folder of a sweep, such as results/demo")
    Store(store).check_version()
    try:
        whole: Any = OmegaConf.load(store / "config.yaml") if (store / "config.yaml").is_file() else {}
        stored = whole.get("tracking")
        given = OmegaConf.from_dotlist([word.removeprefix("tracking.") for word in words[1:]])
        merged: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Tracking), stored or {}, {"name": "wandb"}, given))
    except Exception as error:
        keys = ", ".join(asdict(Tracking()))
        names = " ".join(word.split("=")[0] for word in words[1:])  # not the values: somebody may have written a key there
        raise UserError(
            f"sap-sweep track does not take {names} so ({type(error).__name__}); write KEY=VALUE with the keys {keys}; W&B's own key is "
            f"read from the environment alone"
        ) from error
    tracking: Tracking = merged
    tracking.check()
    folder = place_of(tracking, store)
    process = start(tracking, store, folder, subprocess.DEVNULL)
    try:
        code = process.wait()
    finally:
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    done, jobs = len([job_id for job_id in noted(folder) if job_id != SUMMARY]), len(Store(store).statuses())
    print(f"{words[0]}: {done} of {jobs} jobs are mirrored in {folder}" + (f"; {store}/logs/tracking.log says why not all" if code else ""))
    if tracking.mode == "offline" and done:
        print(f"send them with: wandb sync {folder}/wandb/offline-run-*")
    return 1 if code else 0


def place_of(tracking: Tracking, store: Path) -> Path:
    """Where W&B's files of a store go: outside it."""
    return (HOME / tracking.folder / store.name).resolve()


# --- the mirror's side -------------------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """The mirror's process: mirrors until standard input ends, then what is left, then the tables. 0 done, 1 gave up, 75 hung."""
    parser = argparse.ArgumentParser(prog="python -m sweeper.tracking")
    for name in ("store", "folder"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--settings", type=json.loads, required=True)
    options = parser.parse_args(arguments)
    follower = Follower(Tracking(**options.settings), Store(options.store), options.folder)
    with follower.alone() as mine:
        return follower.run(_end_of_input()) if mine else 0


def _end_of_input() -> threading.Event:
    """Set when the driver closes our standard input, or is gone."""
    ending = threading.Event()

    def read() -> None:
        with suppress(OSError):
            while os.read(0, 1024):
                pass
        ending.set()

    threading.Thread(target=read, daemon=True).start()
    return ending


class Follower:
    """Follows one store."""

    def __init__(self, tracking: Tracking, store: Store, folder: Path) -> None:
        self.tracking, self.store, self.folder = tracking, store, folder
        self._errors = 0
        self._deadline: float | None = None
        self._doing = ""

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether no other mirror is at work here."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self._log("another mirror is at work here; this one ends")
                yield False
                return
            yield True

    def run(self, ending: threading.Event) -> int:
        """See `main`."""
        threading.Thread(target=self._watch, daemon=True).start()
        done = noted(self.folder)
        self._log(f"the mirror begins, {len(done)} mirrored before")
        while True:
            last = ending.is_set()
            fresh = {job_id: status for job_id, status in self.store.statuses().items() if done.get(job_id) != status}
            for job_id, status in fresh.items():
                if not self._try(job_id, status, done, lambda job_id=job_id: self._job(job_id)):
                    return 1
            if last:
                state = str(len(done))
                ok = (not fresh and SUMMARY in done) or self._try(SUMMARY, state, done, self._summary)
                left = sum(done.get(job_id) != now for job_id, now in self.store.statuses().items())
                self._log(f"the mirror ends, {left} jobs are not mirrored")
                return 0 if ok and not left else 1
            ending.wait(_POLL_SECONDS)

    def _try(self, job_id: str, status: str, done: dict[str, str], mirror: Any) -> bool:
        """Mirrors one thing under the watchdog; False when it is time to give up."""
        self._doing, self._deadline = job_id, time.monotonic() + self.tracking.timeout_seconds
        try:
            mirror()
        except Exception as error:  # whatever W&B may raise
            self._errors += 1
            self._log(f"{job_id} was not mirrored: {type(error).__name__}: {error}")
            if self._errors >= _MOST_ERRORS:
                self._log(f"the mirror gives up after {self._errors} failures; {_remedy(self.store.root)}")
            return self._errors < _MOST_ERRORS
        finally:
            self._deadline = None
        self._errors = 0
        done[job_id] = status
        with (self.folder / "mirrored.jsonl").open("a") as file:
            file.write(json.dumps({"job": job_id, "status": status}) + "\n")
        return True

    def _watch(self) -> None:
        """Ends this process when one thing takes too long."""
        while True:
            time.sleep(0.1)
            deadline = self._deadline
            if deadline is not None and time.monotonic() > deadline:
                self._log(
                    f"{self._doing} was not mirrored within {self.tracking.timeout_seconds:g} s (tracking.timeout_seconds): the mirror ends"
                )
                os._exit(HUNG)

    def _log(self, line: str) -> None:
        with suppress(OSError, UserError), storing(self.store.root):
            self.store.logs.mkdir(parents=True, exist_ok=True)
            with (self.store.logs / "tracking.log").open("a") as file:
                file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {scrubbed(line)}\n")

    def _job(self, job_id: str) -> None:
        rows, points = self.store.read_rows(job_id), self.store.read_series(job_id)
        if not rows:
            raise ValueError("its rows cannot be read")
        told = job_as_run(rows, points)
        with self._run(told["id"], told["name"], told["group"], told["type"], told["config"]) as run:
            for step, values in told["curves"]:
                run.log(values, step=step)
            run.log({"rows": self._table(list(_COLUMNS), told["table"])})
            run.summary.update(told["summary"])

    def _summary(self) -> None:
        """The tables of the store, as they are now."""
        from analysis.load import load
        from analysis.report import TABLES, main_tables

        results = load([self.store.root])
        experiment = str(results.rows["experiment"].iloc[0]) if len(results.rows) else self.store.root.name
        tables = []
        with suppress(UserError):  # smoke runs have no tables
            tables = [*main_tables(results), *TABLES["cost"](results)]
        counts = {"planned": len(results.plan), "rows": len(results.rows), "failed": int((results.rows["status"] == "failed").sum())}
        name = _experiment(experiment, ",".join(results.debug) or None)
        with self._run(f"{name}-{SUMMARY}", SUMMARY, name, SUMMARY, {"experiment": experiment}) as run:
            for number, table in enumerate(tables):
                heads = [f"{column.group}: {column.head}" if column.group else column.head for column in table.columns]
                lines = [[cell.text + cell.marks for cell in row] for row in table.rows]
                run.log({f"tables/{table.name}-{number}": self._table(heads, lines)})
            run.summary.update(counts)

    def _table(self, columns: list[str], data: list[list[Any]]) -> Any:
        import wandb

        return wandb.Table(columns=columns, data=data, allow_mixed_types=True)

    @contextmanager
    def _run(self, run_id: str, name: str, group: str, job_type: str, config: Mapping[str, Any]) -> Iterator[Any]:
        import wandb

        tracking: Any = self.tracking
        settings = wandb.Settings(silent=True, console="off", disable_git=True, save_code=False, x_disable_stats=True, x_disable_meta=True)
        run = wandb.init(
            project=tracking.project, entity=tracking.entity, mode=tracking.mode, dir=str(self.folder), id=run_id, name=name,
            group=group, job_type=job_type, config=dict(config), resume="allow", settings=settings, reinit=True,
        )  # fmt: skip
        try:
            yield run
        finally:
            run.finish()


def job_as_run(rows: Sequence[Row], points: Sequence[Point]) -> dict[str, Any]:
    """What a job looks like as one W&B run: id, name, group, type, config, curves by step, table of rows, summary."""
    first = rows[0]
    experiment = _experiment(first.experiment, first.debug)
    method = first.method + (f"@{first.space}" if first.space else "") + (f" {first.search}" if first.search else "")
    rate = f" {first.noise_rate:g}" if first.noise_rate is not None else ""
    curves: dict[int, dict[str, float]] = defaultdict(dict)
    for point in points:
        if not point.name.startswith(_NO_CURVES):
            curves[point.step][point.name] = point.value
    config = {name: getattr(first, name) for name in _CONFIG}
    if len(rows) == 1:
        config["settings"] = json.loads(first.settings)
    ordered = sorted(rows, key=lambda row: row.position)
    return {
        "id": f"{experiment}-{first.job_id}",
        "name": f"{method} {first.dataset} {first.noise}{rate} {first.network} {first.trainer} seed {first.seed}",
        "group": experiment,
        "type": first.kind,
        "config": config,
        "curves": sorted(curves.items()),
        "table": [[getattr(row, name) for name in _COLUMNS] for row in ordered],
        "summary": _summary_of(rows),
    }


def _summary_of(rows: Sequence[Row]) -> dict[str, Any]:
    """A baseline's scores; of settings the highest validation score (nothing is chosen by a test score) and what they cost."""
    ok = [row for row in rows if row.status == "ok"]
    names = ("val_noisy_acc", "val_noisy_r2") + (("val_clean_acc", "test_acc", "test_r2", "train_acc") if len(rows) == 1 else ())
    scores = {name: [value for row in ok if (value := getattr(row, name)) is not None] for name in names}
    counts = {"num_rows": len(rows), "num_failed": len(rows) - len(ok), "seconds": sum(row.shared_seconds or 0.0 for row in rows)}
    errors = {"error_kind": rows[0].error_kind, "error": scrubbed(rows[0].error or "")} if not ok else {}
    return {name: max(values) for name, values in scores.items() if values} | counts | errors


def _experiment(name: str, debug: str | None) -> str:
    return (name if debug is None else f"{name}-{debug}")[:100]


def noted(folder: Path) -> dict[str, str]:
    """Job id -> the status under which it was mirrored last."""
    found: dict[str, str] = {}
    with suppress(OSError):
        for line in (folder / "mirrored.jsonl").read_text().splitlines():
            with suppress(ValueError, KeyError, TypeError):  # a line that a kill has cut short
                entry = json.loads(line)
                found[entry["job"]] = entry["status"]
    return found


if __name__ == "__main__":
    raise SystemExit(main())

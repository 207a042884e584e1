"""Runs jobs as Ray Tune trials. The only file that knows Ray.

Measured habits (docs/design.md): actors are reused (37 trials a second instead of 0.4), automatic loggers and usage statistics are off,
rows are written by the worker before it reports, Tune's own restore is not used, and no Ray is ever stopped but the one started here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sap_core.errors import UserError
from sweeper.execute import Folders, Result, execute
from sweeper.jobs import Job
from sweeper.local_backend import fail_dead, settle_result, worker_environment
from sweeper.provenance import HOME
from sweeper.schedule import Report, Schedule
from sweeper.store import Store

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class RayBackend:
    """A Ray started here (or the one at `address`) and one Tune run that lasts as long as there are jobs."""

    def __init__(self, folders: Folders, workers: int, device: str = "cpu", address: str | None = None, gpus_per_job: float = 0.0) -> None:
        self.folders = Folders(*(Path(getattr(folders, name)).resolve() for name in ("data", "store", "artifacts")))
        self.workers = workers
        self.device = device
        self.address = address
        self.gpus_per_job = gpus_per_job
        self.store = Store(folders.store)

    def run(self, schedule: Schedule, report: Report) -> None:
        """See `sweeper.schedule.Backend`."""
        if schedule.empty:
            return
        os.environ.update({name: os.environ.get(name, value) for name, value in _QUIET.items()})
        driver = _Driver(schedule, self.store, report)
        with self._ray(), _quiet(self.store.logs / "ray.log"), tempfile.TemporaryDirectory(prefix="sap-tune-") as folder:
            from ray import tune

            context = {
                "folders": {name: str(getattr(self.folders, name)) for name in ("data", "store", "artifacts")},
                "device": self.device,
            }
            trainable = tune.with_parameters(_trainable(), jobs={name: job.to_json() for name, job in driver.jobs.items()}, context=context)
            resources = tune.PlacementGroupFactory([{"CPU": 1.0, **({"GPU": self.gpus_per_job} if self.gpus_per_job else {})}])
            search, callback = _pieces(driver)
            config = tune.TuneConfig(
                search_alg=search,
                num_samples=len(driver.jobs),
                max_concurrent_trials=self.workers,
                reuse_actors=True,
                metric="rows",
                mode="max",
            )
            run_config = tune.RunConfig(
                storage_path=folder, name="sweep", callbacks=[callback], verbose=0, failure_config=tune.FailureConfig(max_failures=0)
            )
            tune.Tuner(tune.with_resources(trainable, resources), tune_config=config, run_config=run_config).fit()
        if driver.fatal:
            raise UserError(driver.fatal)

    @contextlib.contextmanager
    def _ray(self) -> Iterator[None]:
        import ray

        if ray.is_initialized():
            raise UserError("Ray is already running in this process; start the sweep from a fresh one")
        environment = {name: value for name, value in worker_environment().items() if name in {"OMP_NUM_THREADS", "PYTHONPATH"}}
        common: dict[str, Any] = {
            "runtime_env": {"env_vars": environment},
            "log_to_driver": False,
            "logging_level": logging.ERROR,
            "configure_logging": True,
        }
        try:
            if self.address:
                ray.init(address=self.address, **common)
            else:
                short = f"/tmp/sap-ray-{os.getuid()}"  # a socket's path has at most 107 bytes
                ray.init(num_cpus=self.workers, include_dashboard=False, _temp_dir=short, **common)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise UserError(
                f"Ray could not be started or reached ({' '.join(str(error).split())[:300]}); use backend=local, or mend backend.address"
            ) from error
        try:
            yield
        finally:
            ray.shutdown()


def _trainable() -> type:
    """The class of trials: one step runs one job. Made here so that importing this module does not import Ray."""
    from ray import tune

    class JobTrial(tune.Trainable):
        def setup(self, config: dict[str, Any], jobs: dict[str, str], context: dict[str, Any]) -> None:
            os.chdir(HOME)
            self._jobs, self._context = jobs, context
            self._job_id = config["job_id"]

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._job_id = new_config["job_id"]
            return True

        def step(self) -> dict[str, Any]:
            job = Job.from_json(self._jobs[self._job_id])
            folders = Folders(**{name: Path(path) for name, path in self._context["folders"].items()})
            try:
                result = asdict(execute(job, folders, self._context["device"]))
            except UserError as error:
                result = {"job_id": job.job_id, "fatal": str(error)}
            return {"result": result, "rows": result.get("rows", 0), "done": True}

        def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
            return {}

        def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
            return None

    return JobTrial


class _Driver:
    """What the searcher and the callback share: the schedule and its books. Tune stores copies of both for a restore that is never used;
    this object goes into them as nothing.
    """

    def __init__(self, schedule: Schedule, store: Store, report: Report) -> None:
        self.schedule, self.store, self.report = schedule, store, report
        self.jobs = dict(schedule.waiting)
        self.attempts: dict[str, int] = {}
        self.fatal: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(None), ())

    def suggest(self) -> str | None:
        """The id of a job that can start, "" when none ever will, None when all wait."""
        job = None if self.fatal else self.schedule.next()
        if job is None:
            return None if self.schedule.running and not self.fatal else ""
        self.attempts[job.job_id] = self.store.attempts(job.job_id)
        return job.job_id

    def result(self, job_id: str, answer: dict[str, Any]) -> None:
        if "fatal" in answer:
            self.fatal = answer["fatal"]
        else:
            settle_result(self.schedule, self.store, self.jobs[job_id], Result(**answer), self.report)

    def died(self, job_id: str) -> None:
        job = self.jobs[job_id]
        settle_result(self.schedule, self.store, job, fail_dead(job, self.store, self.attempts[job_id], "its Ray actor died"), self.report)


def _pieces(driver: _Driver) -> tuple[Any, Any]:
    """The searcher that hands out ready jobs, and the callback that books ended ones."""
    from ray.tune import Callback
    from ray.tune.search import Searcher

    class Ready(Searcher):
        def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
            job_id = driver.suggest()
            return {"job_id": job_id} if job_id else str(Searcher.FINISHED) if job_id == "" else None

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            pass

        def save(self, checkpoint_path: str) -> None:
            pass

        def restore(self, checkpoint_path: str) -> None:
            pass

    class Book(Callback):
        def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
            driver.result(trial.config["job_id"], result["result"])

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            driver.died(trial.config["job_id"])

    return Ready(metric="rows", mode="max"), Book()


@contextlib.contextmanager
def _quiet(path: Path) -> Iterator[None]:
    """Tune prints a box and warnings whatever its verbosity: they go to a log file, progress is ours."""
    with path.open("a") as log, contextlib.redirect_stdout(log):
        loggers = [logging.getLogger(name) for name in ("ray", "ray.tune")]
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)

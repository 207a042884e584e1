"""Runs jobs as Ray Tune trials. The only file that knows Ray.

Measured habits (docs/design.md): actors are reused (37 trials a second instead of 0.4), automatic loggers and usage statistics are off,
rows are written by the worker before it reports, Tune's own restore is not used, and no Ray is ever stopped but the one started here.
A Ray started here gives its workers this process's environment, because a runtime_env takes two seconds more; what does not help to start
sooner: warming up workers with tasks (Tune's actors are new processes all the same), a small object store.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sap_core.errors import UserError
from sweeper.execute import Folders, execute
from sweeper.jobs import Job
from sweeper.local_backend import worker_environment
from sweeper.provenance import HOME
from sweeper.ray_driver import STOP, Driver
from sweeper.ray_folder import remove_stale, session_folder
from sweeper.schedule import Report, Schedule
from sweeper.store import Store
from sweeper.worker import PATIENCE_SECONDS, end_with

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}


SHORT = Path("/tmp")
"""Ray's sockets lie below it: their paths are limited to 107 bytes."""


class RayBackend:
    """A Ray started here (or the one at `address`) and one Tune run that lasts as long as there are jobs."""

    def __init__(self, folders: Folders, workers: int, device: str = "cpu", address: str | None = None) -> None:
        self.folders = Folders(*(Path(getattr(folders, name)).resolve() for name in ("data", "store", "artifacts")))
        self.workers = workers
        self.device = device
        self.address = address
        self.store = Store(folders.store)

    def run(self, schedule: Schedule, report: Report) -> None:
        """See `sweeper.schedule.Backend`."""
        if schedule.empty:
            return
        os.environ.update({name: os.environ.get(name, value) for name, value in _QUIET.items()})
        driver = Driver(schedule, self.store, report)
        resources = _resources(next(iter(driver.jobs.values())))
        with self._ray(resources), _quiet(self.store.logs / "ray.log"), driver.stoppable(), tempfile.TemporaryDirectory() as folder:
            from ray import tune

            places = {name: str(getattr(self.folders, name)) for name in ("data", "store", "artifacts")}
            trainable = tune.with_parameters(
                _trainable(), jobs={name: job.to_json() for name, job in driver.jobs.items()}, places=places, device=self.device,
                device_jobs=_device_jobs(self.workers, resources),
            )  # fmt: skip
            search, callback = _pieces(driver)
            config = tune.TuneConfig(
                search_alg=search,
                num_samples=-1,  # until the searcher says so: a job that another process has may be asked for several times
                max_concurrent_trials=self.workers,
                reuse_actors=True,
                metric="rows",
                mode="max",
            )
            run_config = tune.RunConfig(
                storage_path=folder,
                name="sweep",
                callbacks=[callback],
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # else the actor is busy when the next trial wants one
            )
            bundle = tune.PlacementGroupFactory([resources])
            tune.Tuner(tune.with_resources(trainable, bundle), tune_config=config, run_config=run_config).fit()
        if driver.fatal:
            raise UserError(driver.fatal)
        if driver.stopping:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def _ray(self, resources: dict[str, float]) -> Iterator[None]:
        """Ray, started here with a folder of its own, or reached."""
        import ray

        if ray.is_initialized():
            raise UserError("Ray is already running in this process; start the sweep from a fresh one")
        environment = {name: value for name, value in worker_environment().items() if name in {"OMP_NUM_THREADS", "PYTHONPATH"}}
        common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
        before = signal.getsignal(signal.SIGTERM)
        with contextlib.ExitStack() as stack:
            try:
                if self.address:
                    ray.init(address=self.address, runtime_env={"env_vars": environment}, **common)
                else:
                    os.environ.update(environment)
                    remove_stale(SHORT)
                    short = stack.enter_context(session_folder(SHORT))
                    cpus = round(self.workers * resources["CPU"])
                    ray.init(address="local", num_cpus=cpus, include_dashboard=False, _temp_dir=str(short), **common)
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                raise UserError(
                    f"Ray could not be started or reached ({' '.join(str(error).split())[:300]}); "
                    "use backend=local, or mend backend.address"
                ) from error
            except SystemExit as ended:  # how Ray answers SIGTERM while it starts
                raise KeyboardInterrupt from ended
            finally:
                signal.signal(signal.SIGTERM, before)  # Ray takes it over
            stack.callback(ray.shutdown)
            yield


def _resources(job: Job) -> dict[str, float]:
    """What one trial occupies; all jobs of a plan ask for the same."""
    gpus = job.resources["gpus"]
    return {"CPU": job.resources["cpus"], **({"GPU": gpus} if gpus else {})}


def _device_jobs(workers: int, resources: Mapping[str, float]) -> int:
    """How many jobs may run at a time on one device: on a GPU as many as their shares allow; on a cluster's CPUs this is the most."""
    share = resources.get("GPU", 0.0)
    return min(workers, max(1, int(1 / share))) if share else workers


def _trainable() -> type:
    """The class of trials: one step runs one job. Made here so that importing this module does not import Ray."""
    from ray import tune

    class JobTrial(tune.Trainable):
        def setup(self, config: dict[str, Any], jobs: dict[str, str], places: dict[str, str], device: str, device_jobs: int) -> None:
            os.chdir(HOME)
            end_with(os.getppid())  # the raylet, which dies with the driver that started it
            self._jobs, self._device, self._device_jobs = jobs, device, device_jobs
            self._folders = Folders(**{name: Path(path) for name, path in places.items()})
            self._job_id, self._tried = config["job_id"], config["tried"]

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._job_id, self._tried = new_config["job_id"], new_config["tried"]
            return True

        def step(self) -> dict[str, Any]:
            job = Job.from_json(self._jobs[self._job_id])
            try:
                stop = (self._folders.store / STOP).exists
                result = asdict(
                    execute(
                        job, self._folders, self._device, stop, self._device_jobs, TuneAsker, patience=PATIENCE_SECONDS, tried=self._tried
                    )
                )
            except UserError as error:
                result = {"job_id": job.job_id, "fatal": str(error)}
            return {"result": result, "rows": result.get("rows", 0), "done": True}

    return JobTrial


class TuneAsker:
    """Ray Tune's OptunaSearch, asked and told by hand inside the job: a trial of Tune's is a job, not a setting."""

    def __init__(self, space: dict[str, Any], sampler: Any) -> None:
        from ray.tune.search.optuna import OptunaSearch

        self._search = OptunaSearch(space, metric="score", mode="max", sampler=sampler)
        self._asked = 0

    def ask(self) -> dict[str, Any]:
        self._asked += 1
        found: dict[str, Any] = self._search.suggest(str(self._asked))
        return found

    def tell(self, score: float | None) -> None:
        self._search.on_trial_complete(str(self._asked), None if score is None else {"score": score})

    def add(self, parameters: dict[str, Any], score: float | None) -> None:
        self._search.add_evaluated_point(parameters, score, pruned=score is None)


def _pieces(driver: Driver) -> tuple[Any, Any]:
    """The searcher that hands out ready jobs, and the callback that books ended ones."""
    from ray.tune import Callback
    from ray.tune.search import Searcher

    class Ready(Searcher):
        def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
            job_id = driver.suggest()
            return {"job_id": job_id, "tried": driver.tried.get(job_id, 0)} if job_id else str(Searcher.FINISHED) if job_id == "" else None

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

"""Runs jobs as Ray Tune trials. The only module that imports Ray.

Ray Tune is used as an executor: a trial is a job, not a hyperparameter setting. The searcher (`JobSearcher`) proposes ready jobs instead of
settings, rows are stored by the worker before it reports, and Tune's schedulers and its restore are not used, because the store already
records what is done. No Ray is ever stopped but the one that was started here.

Starting Ray takes most of the time of a small sweep. Warming up workers with tasks (Tune's actors are new processes all the same) and a
small object store did not shorten it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sap_core.errors import StorageError, UserError
from sap_core.guard import check_start
from sap_core.instruction_sets import REPRODUCIBLE
from sap_core.location import PLUGINS_VARIABLE
from sap_core.machine import parents
from sweeper.backends.local_backend import GRACE_SECONDS, worker_environment
from sweeper.backends.ray_address import check_reachable, init_error, own_address
from sweeper.backends.ray_driver import START_SECONDS, Capacity, Driver, RayUnavailable, capacity_of
from sweeper.backends.ray_paths import RAY_FOLDER, plain_ray, ray_parent_folder
from sweeper.backends.ray_session import remove_stale, session_folder
from sweeper.backends.ray_start import TimedOut, abandon, end_if_stuck, hangup_blocked, time_limit
from sweeper.execute import LEASE_WAIT_SECONDS, exit_with_parent
from sweeper.jobs.job import Job, SweepPaths
from sweeper.jobs.run_job import execute
from sweeper.scheduling.gpu_sharing import GpuSharing
from sweeper.scheduling.schedule import Report, Schedule
from sweeper.store.provenance import HOME
from sweeper.store.store import Store

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # CSV, JSON and TensorBoard files per trial.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Snapshots for a restore that is not used.
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    # Ray's newer console output is off: the progress display and logs/ray.log replace it.
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    # Else Ray hides all GPUs from trials that request none.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # `Driver.stoppable` handles signals.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Ray's own default, 15, gives every other program on the machine precedence over our jobs.
    "RAY_worker_niceness": "0",
}
"""Defaults of Ray's and Tune's environment variables."""

_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Makes Ray's processes listen at 127.0.0.1 alone, as it does by default where this variable was introduced."""

CAPACITY_SECONDS = 2.0
"""Time that the resources of a cluster's nodes are cached."""

_MAX_TRIALS = 10_000
"""Concurrent trials that Tune allows; the driver decides by free resources."""


class RayBackend:
    """One Tune run over all jobs, on a Ray started for it or on a running cluster.

    Args:
        paths: the sweep's paths; every node must see them.
        workers: maximum number of concurrent jobs; None (with an address): limited by the cluster's resources.
        device: device of the jobs that `cpu_jobs` does not name.
        address: HOST:PORT of a running cluster; None: start Ray.
        cpu_jobs: job types or methods that run on CPUs.
        start_seconds: time limit for starting Ray and its first worker.
        grace: seconds that running jobs have for storing their state when the sweep is stopped; None: `GRACE_SECONDS`.
    """

    def __init__(
        self, paths: SweepPaths, workers: int | None, device: str = "cpu", address: str | None = None, cpu_jobs: Sequence[str] = (),
        grace: float | None = None, start_seconds: float = START_SECONDS,
    ) -> None:  # fmt: skip
        # Absolute, because actors start in another working directory.
        self.paths = paths.resolved()
        self.workers = workers
        self.device = device
        self.address = address
        self.start_seconds = start_seconds
        self.grace = GRACE_SECONDS if grace is None else grace
        self.store = Store(paths.store)
        self.gpu_sharing = GpuSharing(self.store.packing, device, cpu_jobs)

    def run(self, schedule: Schedule, report: Report) -> None:
        """See `sweeper.scheduling.schedule.Backend`."""
        if schedule.empty:
            return
        # Only defaults: a variable that the user has set keeps its value.
        os.environ.update({name: os.environ.get(name, value) for name, value in _ENVIRONMENT.items()})
        driver = Driver(
            schedule, self.store, report, self.gpu_sharing, _capacity(), self.workers, bool(self.address), self.start_seconds
        )  # fmt: skip
        try:
            self._run(driver)
        except RayUnavailable:
            driver.give_back()
            raise
        # Raised after Tune has ended, so that the trials that were running have stored their state.
        if driver.fatal:
            raise UserError(driver.fatal)
        if driver.stopping:
            raise KeyboardInterrupt

    def _run(self, driver: Driver) -> None:
        """One Tune run.

        Raises:
            RayUnavailable: Ray did not start, or gave no worker in time.
            UserError: Tune ended with an error.
        """
        # A local Ray offers room for `workers` jobs of the largest size, so the number of workers alone limits concurrency.
        cpus = max(job.resources["cpus"] for job in driver.jobs.values())
        with (
            self._ray(cpus, driver),
            _quiet(self.store.logs / "ray.log"),
            driver.stoppable(self.grace),
            tempfile.TemporaryDirectory() as folder,
        ):
            from ray import tune

            folders = {name: str(getattr(self.paths, name)) for name in ("data", "store", "artifacts")}
            # Jobs reach the actors once, as an object of Ray; a trial's configuration contains only the job's id.
            jobs = {name: job.to_json() for name, job in driver.jobs.items()}
            trainable = tune.with_parameters(_trainable(), jobs=jobs, folders=folders)
            searcher, callback = _searcher_and_callback(driver)
            config = tune.TuneConfig(
                search_alg=searcher,
                # Until the searcher returns FINISHED: a job may take several trials.
                num_samples=-1,
                max_concurrent_trials=self.workers or _MAX_TRIALS,
                # 37 trials per second instead of 0.4.
                reuse_actors=True,
                metric="rows",
                mode="max",
            )
            run_config = tune.RunConfig(
                storage_path=folder,
                name="sweep",
                callbacks=[callback],
                verbose=0,
                # Tune must not retry: the driver counts attempts in the store, where they survive a restart.
                failure_config=tune.FailureConfig(max_failures=0),
                # With a checkpoint at the end, the actor is still busy saving when the next trial needs it, and Tune starts one actor too
                # many.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            )
            try:
                tune.Tuner(tune.with_resources(trainable, _resources), tune_config=config, run_config=run_config).fit()
            except Exception as error:
                # Raised by `check_start` inside Tune, which may have wrapped it.
                raise driver.unavailable or _tune_error(error) from error
        # Raised after Tune has ended, so that the trials that were running have stored their state.
        if driver.fatal:
            raise StorageError(driver.fatal)
        if driver.stopping:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def _ray(self, cpus: float, driver: Driver) -> Iterator[None]:
        """Context manager: joins the cluster at `address`, or starts Ray with its own session folder and token."""
        if self.address:
            check_reachable(self.address)
        else:
            # A random token keeps other users' drivers out. All before the import, because Ray reads its environment then and not later.
            os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32), **_LOOPBACK)
        handler, children = signal.getsignal(signal.SIGTERM), set(parents())
        # The stack ends Ray before it removes its session folder, in which Ray's processes still write.
        with contextlib.ExitStack() as stack:
            try:
                stuck = init_error(self.address, TimedOut(), self.start_seconds)
                left = driver.start_seconds_left
                with plain_ray(), hangup_blocked(), end_if_stuck(left, children, stuck), time_limit(left):
                    self._init(cpus, stack)
            except SystemExit as ended:  # Ray's reaction to SIGTERM while it starts
                raise KeyboardInterrupt from ended
            except UserError:
                raise
            # Of any type: ImportError, MemoryError and errors of Ray's libraries among them.
            except (TimedOut, Exception) as error:
                abandon(children)
                raise RayUnavailable(init_error(self.address, error, self.start_seconds)) from error
            finally:
                # ray.init replaces the handler.
                signal.signal(signal.SIGTERM, handler)
            yield

    def _init(self, cpus: float, stack: contextlib.ExitStack) -> None:
        """Calls `ray.init`; the stack is given what is undone at the end."""
        import ray

        # A Ray that is already running belongs to the caller: its resources and settings are unknown, and it must not be shut down.
        if ray.is_initialized():
            raise UserError("Ray is already running in this process; start the sweep from a fresh one")
        environment = {name: value for name, value in worker_environment().items() if name in _FORWARDED}
        common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
        if self.address:
            # Two nodes of a cluster may share a machine; the driver must join the one whose address was given.
            here = own_address(self.address)
            ray.init(address=self.address, _node_ip_address=here, runtime_env={"env_vars": environment}, **common)
        else:
            # Inherited by the workers; a runtime_env would take two seconds more.
            os.environ.update(environment)
            parent = ray_parent_folder()
            remove_stale(parent)
            session = stack.enter_context(session_folder(parent))
            num_cpus = round((self.workers or 1) * cpus)
            ray.init(address="local", num_cpus=num_cpus, include_dashboard=False, _temp_dir=str(session / RAY_FOLDER), **common)
        # Registered only after `ray.init` has succeeded: a Ray that this process did not start is not shut down.
        stack.callback(ray.shutdown)


_FORWARDED = ("OMP_NUM_THREADS", "PYTHONPATH", "SAP_SWEEP_CHECKPOINT_SECONDS", "SAP_SWEEP_HOME", PLUGINS_VARIABLE, *REPRODUCIBLE)
"""Environment variables that are forwarded to the workers of an existing cluster. No secrets: others could read them there."""


def _tune_error(error: Exception) -> UserError:
    text = " ".join(str(error).split())[:300]
    return UserError(
        f"Ray Tune ended with an error ({type(error).__name__}: {text}); all jobs finished so far are stored: the same command continues, "
        "also with backend=local"
    )


def _capacity() -> Capacity:
    """A function that returns the cluster's resources, cached for `CAPACITY_SECONDS`."""
    cached: tuple[float, dict[str, float]] | None = None

    def capacity() -> dict[str, float]:
        import ray

        nonlocal cached
        if cached is None or time.monotonic() - cached[0] > CAPACITY_SECONDS:
            # Asked anew after `CAPACITY_SECONDS`, because nodes join and leave; not at every suggestion, because each is a call to the
            # head.
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            cached = (time.monotonic(), capacity_of(nodes))
        return cached[1]

    return capacity


def _resources(config: Mapping[str, Any]) -> Any:
    """The resources of a trial with this configuration."""
    from ray import tune

    gpus = config.get("gpus", 0.0)
    return tune.PlacementGroupFactory([{"CPU": config.get("cpus", 1.0), **({"GPU": gpus} if gpus else {})}])


def _trainable() -> type:
    """The Tune trainable: one step runs one job. Defined in a function, so that importing this module does not import Ray."""
    from ray import tune

    class JobTrial(tune.Trainable):
        def setup(self, config: dict[str, Any], jobs: dict[str, str], folders: dict[str, str]) -> None:
            # Ray starts actors in a session folder, but relative paths of the configuration refer to this one.
            os.chdir(HOME)
            check_start()
            # The raylet, which ends with the driver that started it.
            exit_with_parent(os.getppid())
            self._jobs = jobs
            self._paths = SweepPaths(**{name: Path(path) for name, path in folders.items()})
            self._trial_config = config

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._trial_config = new_config
            # The actor can be reused.
            return True

        def step(self) -> dict[str, Any]:
            config = self._trial_config
            job = Job.from_json(self._jobs[config["job_id"]])
            # The share at the time of the trial, which the rows record; the job's JSON has the planned one.
            job = replace(job, resources={"cpus": config["cpus"], "gpus": config["gpus"]})
            try:
                # A file in the store, because actors on other nodes share nothing but the folders with the driver.
                stop = (self._paths.store / config["stop"]).exists
                result = asdict(
                    execute(
                        job, self._paths, config["device"], stop, config["jobs_on_device"], TuneAsker, wait_seconds=LEASE_WAIT_SECONDS,
                        known_failures=config["known_failures"], oom_retries=config["oom_retries"],
                    )
                )  # fmt: skip
            # Returned, not raised: an exception would reach the driver as a dead actor, without its message.
            except UserError as error:
                result = {"job_id": job.job_id, "fatal": str(error)}
            # `done` ends the trial after one step; the actor stays alive for the next trial.
            return {"result": result, "rows": result.get("rows", 0), "done": True}

    return JobTrial


class TuneAsker:
    """An ask-and-tell interface to Ray Tune's OptunaSearch, used inside a `search` job, because a Tune trial is a job, not a setting."""

    def __init__(self, space: dict[str, Any], sampler: Any) -> None:
        from ray.tune.search.optuna import OptunaSearch

        self._search = OptunaSearch(space, metric="score", mode="max", sampler=sampler)
        self._count = 0

    def ask(self) -> dict[str, Any]:
        self._count += 1
        # OptunaSearch identifies a trial by a name of the caller's choice; a counter suffices.
        found: dict[str, Any] = self._search.suggest(str(self._count))
        return found

    def tell(self, score: float | None) -> None:
        self._search.on_trial_complete(str(self._count), None if score is None else {"score": score})

    def add(self, parameters: dict[str, Any], score: float | None) -> None:
        self._search.add_evaluated_point(parameters, score, pruned=score is None)


def _searcher_and_callback(driver: Driver) -> tuple[Any, Any]:
    """The searcher that proposes ready jobs, and the callback that records ended trials."""
    from ray.tune import Callback
    from ray.tune.search import Searcher

    class JobSearcher(Searcher):
        def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
            # None makes Tune ask again later, FINISHED ends the run; the driver's "" stands for the latter, so that it need not import Ray.
            found = driver.suggest()
            return str(Searcher.FINISHED) if found == "" else found

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            # Results arrive through the callback, which Tune calls before it asks for the next trial.
            pass

        def save(self, checkpoint_path: str) -> None:
            pass

        def restore(self, checkpoint_path: str) -> None:
            pass

    class ResultCallback(Callback):
        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            driver.worker_started()

        def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
            driver.check_start()

        def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
            driver.result(trial.config["job_id"], result["result"])

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            why = _trial_error(trial)
            job_id, lost = trial.config["job_id"], any(phrase in why for phrase in _NODE_LOST)
            driver.died(job_id, lost, f"its Ray actor died: {why}"[:300], driver.has_begun(job_id))

    return JobSearcher(metric="rows", mode="max"), ResultCallback()


# "temporarily unavailable" is the ActorUnavailableError by which a lost node shows first, a second before "node has died" (docs/log.md).
_NODE_LOST = ("node has died", "node was terminated", "node died", "NodeDiedError", "NODE_DIED", "temporarily unavailable")
"""Phrases in Ray's error messages that mean a lost or unreachable node, which is not the job's fault."""


def _trial_error(trial: Any) -> str:
    """The error that Tune recorded for a trial, in one line."""
    with contextlib.suppress(OSError, TypeError):
        return " ".join(Path(trial.error_file).read_text(encoding="utf-8", errors="replace").split())
    return "no error file"


@contextlib.contextmanager
def _quiet(path: Path) -> Iterator[None]:
    """Redirects Tune's output to a log file: it prints a box and warnings whatever its verbosity."""
    with path.open("a", encoding="utf-8", errors="backslashreplace") as log, contextlib.redirect_stdout(log):
        loggers = [logging.getLogger(name) for name in ("ray", "ray.tune")]
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)

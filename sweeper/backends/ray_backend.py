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
import secrets
import signal
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sap_core.errors import UserError
from sweeper.backends.local_backend import GRACE_SECONDS, worker_environment
from sweeper.backends.ray_driver import Capacity, Driver, capacity_of
from sweeper.backends.ray_session import remove_stale, session_folder
from sweeper.execute import PATIENCE_SECONDS, end_with
from sweeper.jobs.job import Job, SweepPaths
from sweeper.jobs.run_job import execute
from sweeper.scheduling.gpu_sharing import GpuSharing
from sweeper.scheduling.schedule import Report, Schedule
from sweeper.store.provenance import HOME
from sweeper.store.store import Store

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


CAPACITY_SECONDS = 2.0
"""How long what is known of a cluster's nodes is taken for true."""

REACH_SECONDS = 10.0
"""How long the head of a cluster may take to answer."""

_MANY = 10_000
"""Trials that Tune may have at a time: our own books say where there is room."""


class RayBackend:
    """A Ray started here (or the one at `address`) and one Tune run that lasts as long as there are jobs.

    Args:
        folders: seen under the same paths by every node.
        workers: jobs at a time at most; None (at an address): as many as the cluster has room for.
        device: where jobs run that `cpu_jobs` does not name.
        address: "HOST:PORT" of a running cluster.
        cpu_jobs: kinds of jobs or methods that need no GPU and get none.
        grace: seconds that running jobs have to store their state once the sweep is told to end; None: `GRACE_SECONDS`.
    """

    def __init__(
        self, folders: SweepPaths, workers: int | None, device: str = "cpu", address: str | None = None, cpu_jobs: Sequence[str] = (),
        grace: float | None = None,
    ) -> None:  # fmt: skip
        self.folders = SweepPaths(*(Path(getattr(folders, name)).resolve() for name in ("data", "store", "artifacts")))
        self.workers = workers
        self.device = device
        self.address = address
        self.grace = GRACE_SECONDS if grace is None else grace
        self.store = Store(folders.store)
        self.gpu_sharing = GpuSharing(self.store.packing, device, cpu_jobs)

    def run(self, schedule: Schedule, report: Report) -> None:
        """See `sweeper.scheduling.schedule.Backend`."""
        if schedule.empty:
            return
        os.environ.update({name: os.environ.get(name, value) for name, value in _QUIET.items()})
        driver = Driver(schedule, self.store, report, self.gpu_sharing, _capacity(), self.workers, bool(self.address))
        cpus = max(job.resources["cpus"] for job in driver.jobs.values())
        with self._ray(cpus), _quiet(self.store.logs / "ray.log"), driver.stoppable(self.grace), tempfile.TemporaryDirectory() as folder:
            from ray import tune

            places = {name: str(getattr(self.folders, name)) for name in ("data", "store", "artifacts")}
            jobs = {name: job.to_json() for name, job in driver.jobs.items()}
            trainable = tune.with_parameters(_trainable(), jobs=jobs, places=places)
            search, callback = _pieces(driver)
            config = tune.TuneConfig(
                search_alg=search,
                num_samples=-1,  # until the searcher says so: a job may take several trials
                max_concurrent_trials=self.workers or _MANY,
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
            tune.Tuner(tune.with_resources(trainable, _resources), tune_config=config, run_config=run_config).fit()
        if driver.fatal:
            raise UserError(driver.fatal)
        if driver.stopping:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def _ray(self, cpus: float) -> Iterator[None]:
        """Ray, started here with a folder and a token of its own, or reached."""
        if self.address:
            _check_reachable(self.address)
        else:  # nobody else's job can join this Ray; its core reads this as it is imported, and not later
            os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
        import ray

        if ray.is_initialized():
            raise UserError("Ray is already running in this process; start the sweep from a fresh one")
        environment = {name: value for name, value in worker_environment().items() if name in _PASSED_ON}
        common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
        before = signal.getsignal(signal.SIGTERM)
        with contextlib.ExitStack() as stack:
            try:
                if self.address:
                    here = _own_address(self.address)
                    ray.init(address=self.address, _node_ip_address=here, runtime_env={"env_vars": environment}, **common)
                else:
                    os.environ.update(environment)
                    remove_stale(SHORT)
                    short = stack.enter_context(session_folder(SHORT))
                    num_cpus = round((self.workers or 1) * cpus)
                    ray.init(address="local", num_cpus=num_cpus, include_dashboard=False, _temp_dir=str(short), **common)
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                raise UserError(_unreachable(self.address, error)) from error
            except SystemExit as ended:  # how Ray is_reachable SIGTERM while it starts
                raise KeyboardInterrupt from ended
            finally:
                signal.signal(signal.SIGTERM, before)  # Ray takes it over
            stack.callback(ray.shutdown)
            yield


_PASSED_ON = ("OMP_NUM_THREADS", "PYTHONPATH", "SAP_SWEEP_CHECKPOINT_SECONDS")
"""What the workers of an existing cluster get of this process's environment: no secrets, they would be readable there."""


def is_reachable(address: str) -> bool:
    """Does anybody listen there?"""
    with contextlib.suppress(OSError):
        _knock(address)
        return True
    return False


def _knock(address: str) -> None:
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), REACH_SECONDS).close()


def _check_reachable(address: str) -> None:
    """Ray itself tries for long, and says it in many lines."""
    try:
        _knock(address)
    except OSError as error:
        raise UserError(f"no Ray is_reachable at backend.address={address} ({error.strerror or error}); {_HOW_TO_START}") from error


_HOW_TO_START = "start one with `ray start --head --port=PORT`, give its HOST:PORT, or leave backend.address out"


def _unreachable(address: str | None, error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    if address:
        return (
            f"the Ray at backend.address={address} is_reachable but could not be joined ({text}); set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN "
            "(or RAY_AUTH_TOKEN_PATH) as they were when it was started, and start the sweep on one of its nodes"
        )
    return f"Ray could not be started ({text}); use backend=local, or mend that"


def _own_address(address: str) -> str | None:
    """The address's host if this machine has it: on a machine with several, Ray would guess which one its own node goes by."""
    host = address.rpartition(":")[0].strip("[]")
    with contextlib.suppress(OSError):
        family, kind, _, _, place = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(place)
        return str(place[0])
    return None


def _capacity() -> Capacity:
    """A function that says what the cluster has, asking it every other second."""
    known: tuple[float, dict[str, float]] | None = None

    def capacity() -> dict[str, float]:
        import ray

        nonlocal known
        if known is None or time.monotonic() - known[0] > CAPACITY_SECONDS:
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            known = (time.monotonic(), capacity_of(nodes))
        return known[1]

    return capacity


def _resources(config: Mapping[str, Any]) -> Any:
    """What one trial occupies."""
    from ray import tune

    gpus = config.get("gpus", 0.0)
    return tune.PlacementGroupFactory([{"CPU": config.get("cpus", 1.0), **({"GPU": gpus} if gpus else {})}])


def _trainable() -> type:
    """The class of trials: one step runs one job. Made here so that importing this module does not import Ray."""
    from ray import tune

    class JobTrial(tune.Trainable):
        def setup(self, config: dict[str, Any], jobs: dict[str, str], places: dict[str, str]) -> None:
            os.chdir(HOME)
            end_with(os.getppid())  # the raylet, which dies with the driver that started it
            self._jobs = jobs
            self._folders = SweepPaths(**{name: Path(path) for name, path in places.items()})
            self._asked = config

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._asked = new_config
            return True

        def step(self) -> dict[str, Any]:
            asked = self._asked
            job = Job.from_json(self._jobs[asked["job_id"]])
            job = replace(job, resources={"cpus": asked["cpus"], "gpus": asked["gpus"]})
            try:
                stop = (self._folders.store / asked["stop"]).exists
                result = asdict(
                    execute(
                        job, self._folders, asked["device"], stop, asked["jobs_on_device"], TuneAsker, patience=PATIENCE_SECONDS,
                        tried=asked["tried"], crowded=asked["crowded"],
                    )
                )  # fmt: skip
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
            found = driver.suggest()
            return str(Searcher.FINISHED) if found == "" else found

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
            why = _why_it_died(trial)
            driver.died(trial.config["job_id"], any(words in why for words in _NODE_LOST), f"its Ray actor died: {why}"[:300])

    return Ready(metric="rows", mode="max"), Book()


_NODE_LOST = ("node has died", "node was terminated", "node died", "NodeDiedError", "NODE_DIED", "temporarily unavailable")
"""How Ray says that a node went, or cannot be reached: not the job's doing."""


def _why_it_died(trial: Any) -> str:
    """What Tune wrote down of a trial's error, in one line."""
    with contextlib.suppress(OSError, TypeError):
        return " ".join(Path(trial.error_file).read_text(errors="replace").split())
    return "no reason is known"


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

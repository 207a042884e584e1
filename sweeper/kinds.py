"""What each kind of job does: train a baseline, select samples, tune a corrector's family of settings."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sap_core.api import Need, Pruner, Samples, Stopped, Task, Trainer
from sap_core.checkpoint import save_state
from sap_core.construct import construct
from sap_core.cost import CostMeter, Costs, flops_per_sample, peak_memory_bytes
from sap_core.data.assemble import Prepared, prepare
from sap_core.errors import StorageError, UserError
from sap_core.evaluate import Evaluator
from sap_core.files import save_json
from sap_core.grid import run_family
from sap_core.identity import canonical_json
from sap_core.records import Point
from sweeper.artifacts import claimed, load_model, on_selection, save_model
from sweeper.jobrun import JobRun
from sweeper.jobs import Job

Columns = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where a job runs."""

    data: Path
    artifacts: Path
    device: torch.device
    stop: Callable[[], bool]


@dataclass(frozen=True)
class Failure:
    """Why a method ended early."""

    kind: str
    error: str
    traceback: str


@dataclass
class Work:
    """What running a job came to: columns per planned run, and those that all share."""

    columns: list[Columns]
    scored: list[bool]
    facts: Columns = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    failure: Failure | None = None
    started_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


def run_kind(job: Job, place: Place, note: Callable[[str], None]) -> Work:
    """Runs a job of any kind; what goes wrong inside becomes `Work.failure`.

    Raises:
        Stopped: the job was asked to stop, and stored its state.
        StorageError: its state or artifact cannot be written: the disk's failure, not the method's.
    """
    work = Work([{} for _ in job.runs], [False] * len(job.runs))
    try:
        _KINDS[job.kind](job, place, work, note)
    except (Stopped, StorageError):
        raise
    except Exception as error:
        work.failure = _failure(error)
    return work


def _train(job: Job, place: Place, work: Work, note: Callable[[str], None]) -> None:
    """A checkpoint and one row. Trained once however many sweeps use it: the artifact keeps its row's columns."""
    spec, folder = job.spec, place.artifacts / job.job_id
    with claimed(folder):
        if not (folder / "meta.json").exists():
            prepared, evaluator = _prepared(canonical_json(_data_keys(spec)), place.data, place.device)
            task = on_selection(prepared.task, spec, place.artifacts)
            run = JobRun(CostMeter(device=place.device), folder / "last.safetensors", place.stop, note, _precision(evaluator))
            trainer: Trainer = construct(spec["trainer"])
            started_at = datetime.now(UTC).isoformat(timespec="seconds")
            fitted = trainer.fit(task, run)
            scores = evaluator.baseline(fitted.model, run.meter)
            cost = _cost_columns(run.meter.costs(*_flops(fitted.model, prepared))[0], place.device)
            facts = _facts(prepared, len(task.train))
            save_model(folder, fitted)
            meta = {"columns": {**facts, **scores, **cost}, "started_at": started_at, "curve": run.curve() + _transitions(prepared)}
            save_json(folder / "meta.json", meta)
            run.forget_checkpoint()
        meta = json.loads((folder / "meta.json").read_text())
    work.columns[0], work.scored[0], work.started_at = meta["columns"], True, meta["started_at"]
    work.points = [Point(job.job_id, job.job_id, name, int(step), float(value)) for name, step, value in meta["curve"]]


def _select(job: Job, place: Place, work: Work, note: Callable[[str], None]) -> None:
    """The kept indices and every sample's score."""
    spec, folder = job.spec, place.artifacts / job.job_id
    with claimed(folder):
        if not (folder / "meta.json").exists():
            prepared, evaluator = _prepared(canonical_json(_data_keys(spec["baseline"])), place.data, place.device)
            run = JobRun(CostMeter(device=place.device), folder / "last.safetensors", place.stop, note, _precision(evaluator))
            pruner: Pruner = construct(spec["pruner"])
            warm = load_model(place.artifacts / job.parents[0], prepared.task)
            with run.meter("select"):
                selection = pruner.select(prepared.task, warm, spec["keep"], run)
            save_state(folder / "selection.safetensors", {"index": selection.index, "score": selection.score})
            cost = _cost_columns(run.meter.costs(*_flops(warm.model, prepared))[0], place.device)
            columns = {**_facts(prepared, len(selection.index)), **evaluator.trusted(selection.index), **cost}
            save_json(folder / "meta.json", {"columns": columns})
        work.columns[0] = json.loads((folder / "meta.json").read_text())["columns"]
    work.scored[0] = True


def _tune(job: Job, place: Place, work: Work, note: Callable[[str], None]) -> None:
    """One family of settings on one baseline: one row each."""
    spec = job.spec["baseline"]
    prepared, evaluator = _prepared(canonical_json(_data_keys(spec)), place.data, place.device)
    task = on_selection(prepared.task, spec, place.artifacts)
    model = load_model(place.artifacts / job.parents[0], task).model
    settings = [construct(run.entry) for run in job.runs if run.entry is not None]
    meter = CostMeter(len(settings), place.device)
    run = JobRun(meter, place.artifacts / job.job_id / "last.safetensors", place.stop, note, _precision(evaluator))
    task, served = _counting(task)
    evaluator.compare_with(model, meter)
    work.facts = _facts(prepared, len(task.train))

    def score(candidate: nn.Module, which: int) -> dict[str, float | None]:
        run.check_stop()
        return evaluator.tuned(candidate, meter, which, served.get(Need.RETAIN), served.get(Need.FORGET))

    try:
        for outcome in run_family(settings, model, task, run, score):
            work.scored[outcome.which] = True
            work.columns[outcome.which] |= outcome.scores
            if outcome.diverged:
                work.columns[outcome.which] |= {"status": "failed", "error_kind": "diverged", "error": outcome.diverged}
    finally:
        for which, cost in enumerate(meter.costs(*_flops(model, prepared))):
            work.columns[which] |= _cost_columns(cost, place.device)
            if which in run.trusted_sets:
                index = run.trusted_sets[which]
                work.columns[which] |= {"num_trusted": len(index), **evaluator.trusted(index)}
        work.facts |= {f"num_{need}": count for need, count in served.items() if need is not Need.TRUE_LABELS}
        work.points = run.series(job.job_id, job.runs[0].run_id)
    run.forget_checkpoint()


def correct_again(job: Job, place: Place, last: Path) -> tuple[dict[str, Tensor], dict[str, float | None]]:
    """(weights, scores) of a tune job's first setting, which alone has the bits that it has in its family; stores no row.

    `last` is where a long one keeps its state.

    Raises:
        UserError: it diverges, or what its method raises.
    """
    spec = job.spec["baseline"]
    prepared, evaluator = _prepared(canonical_json(_data_keys(spec)), place.data, place.device)
    task = on_selection(prepared.task, spec, place.artifacts)
    model = load_model(place.artifacts / job.parents[0], task).model
    meter = CostMeter(1, place.device)
    run = JobRun(meter, last, place.stop)
    weights: dict[str, Tensor] = {}

    def score(candidate: nn.Module, which: int) -> dict[str, float | None]:
        weights.update({name: value.detach().cpu().clone() for name, value in candidate.state_dict().items()})
        return evaluator.tuned(candidate, meter, which)

    (outcome,) = run_family([construct(job.runs[0].entry or {})], model, task, run, score)
    run.forget_checkpoint()
    if outcome.diverged:
        raise UserError(
            f"{job.labels['method']} diverged where it did not before ({outcome.diverged}); is this the machine of the first run?"
        )
    return weights, outcome.scores


_KINDS: Mapping[str, Callable[[Job, Place, Work, Callable[[str], None]], None]] = {"train": _train, "select": _select, "tune": _tune}


@lru_cache(maxsize=2)
def _prepared(text: str, root: Path, device: torch.device) -> tuple[Prepared, Evaluator]:
    prepared = prepare(json.loads(text), root, device)
    return prepared, Evaluator(prepared)


def _data_keys(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {key: spec[key] for key in ("dataset", "noise", "model", "preprocess", "seed", "limit")}


def _facts(prepared: Prepared, num_train: int) -> Columns:
    sizes = {"num_train": num_train, "num_val": len(prepared.val), "num_test": len(prepared.test)}
    return {"noise_rate_true": prepared.noise_rate_true, **sizes}


def _transitions(prepared: Prepared) -> list[tuple[str, int, float]]:
    """How many training samples of each class were given which label, as points named transition/TRUE with step GIVEN."""
    if prepared.transitions is None:
        return []
    return [
        (f"transition/{true}", given, float(n)) for true, row in enumerate(prepared.transitions.tolist()) for given, n in enumerate(row)
    ]


def _precision(evaluator: Evaluator) -> Callable[[Tensor], float | None]:
    return lambda index: evaluator.trusted(index).get("trusted_precision")


def _counting(task: Task) -> tuple[Task, dict[Need, int]]:
    """The task, and a record of how many verified samples of each need were handed out."""
    served: dict[Need, int] = {}
    source = task.verified_source

    def serve(need: Need, n: int | None) -> Samples:
        if source is None:
            raise UserError(f"this data set has no verified samples, so '{need}' cannot be served")
        samples = source(need, n)
        served[need] = max(served.get(need, 0), len(samples))
        return samples

    return replace(task, verified_source=serve), served


_FLOPS: dict[tuple[str, tuple[int, ...]], tuple[float, float]] = {}


def _flops(model: nn.Module, prepared: Prepared) -> tuple[float, float]:
    key = (str(model), tuple(prepared.dataset.shape))
    if key not in _FLOPS:
        _FLOPS[key] = flops_per_sample(model, prepared.dataset.shape, prepared.task.device)
    return _FLOPS[key]


def _cost_columns(cost: Costs, device: torch.device) -> Columns:
    seconds = cost.seconds

    def total(*phases: str) -> float | None:
        found = [seconds[phase] for phase in phases if phase in seconds]
        return sum(found) if found else None

    return {
        "train_seconds": total("train"), "select_seconds": total("select"), "prepare_seconds": total("collect", "factor"),
        "correct_seconds": total("build", "correct"), "evaluate_seconds": total("evaluate"), "report_seconds": total("report"),
        "shared_seconds": cost.shared_seconds, "sample_forwards": cost.forwards, "sample_backwards": cost.backwards, "flops": cost.flops,
        "peak_memory_bytes": peak_memory_bytes(device),
    }  # fmt: skip


def _failure(error: Exception) -> Failure:
    """The error as one line with its place. FloatingPointError is how a method says that its input or its scores are not finite."""
    text = str(error)
    memory = isinstance(error, torch.OutOfMemoryError | MemoryError) or "out of memory" in text.lower()
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames and not isinstance(error, UserError) else ""
    name = type(error).__name__ if not isinstance(error, UserError) else ""
    line = " ".join(f"{name}: {text}".strip(": ").split())
    kind = "oom" if memory else "diverged" if isinstance(error, FloatingPointError) else "error"
    return Failure(kind, f"{line}{where}", "".join(traceback.format_exception(error)))

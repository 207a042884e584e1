"""The types of jobs: train a baseline, select training samples, tune one family of a corrector's settings, run a sampled search."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sap_core.api import Need, Pruner, Stopped, Trainer
from sap_core.checkpoint import save_state
from sap_core.construct import construct
from sap_core.cost import CostMeter
from sap_core.data.assemble import AssembledTask
from sap_core.errors import StorageError, UserError
from sap_core.evaluation import decision_boundary
from sap_core.evaluation.evaluator import Evaluator, Scores
from sap_core.evaluation.family import run_family
from sap_core.files import load_json, storing
from sap_core.records import Point
from sweeper.jobs.artifacts import load_model, save_model, single_network, with_selection
from sweeper.jobs.context import (
    Columns,
    JobContext,
    JobOutcome,
    counting_served,
    failure_of,
    flops_of,
    label_precision,
    prepared_data,
    selection_columns,
    served_columns,
    size_columns,
    used_information,
)
from sweeper.jobs.cost_columns import cost_columns, cost_points
from sweeper.jobs.job import Job, artifact
from sweeper.jobs.run_context import JobRun
from sweeper.jobs.stored_artifacts import ARTIFACT_FILES, damage, set_aside, write_marker

Log = Callable[[str], None]


def run_job_type(job: Job, context: JobContext, log: Log) -> JobOutcome:
    """Run a job of any type. Errors of methods become `JobOutcome.failure`.

    Raises:
        Stopped: the job was asked to stop, and stored its state.
        StorageError: its checkpoint or artifact cannot be written, which is not the method's failure.
    """
    # Filled in by the job type as it goes, so that what was reached before a failure is stored together with the failure.
    outcome = JobOutcome([{} for _ in job.runs], [False] * len(job.runs))
    try:
        _JOB_TYPES[job.job_type](job, context, outcome, log)
    # Neither is the method's failure: a stopped job continues at the next start, and a full disk is the user's to mend.
    except (Stopped, StorageError):
        raise
    except Exception as error:
        outcome.failure = failure_of(error)
    return outcome


def _train(job: Job, context: JobContext, outcome: JobOutcome, log: Log) -> None:
    """Train a baseline: a checkpoint and one row."""
    spec, folder = job.spec, context.artifacts / job.job_id
    # The artifact contains the columns of the row, so that other sweeps need not train or score the baseline a second time.
    if _is_missing(job, context, log):
        prepared, evaluator = prepared_data(spec, context)
        task = with_selection(prepared.task, spec, context.artifacts)
        run = JobRun(
            CostMeter(device=context.device), folder / "last.safetensors", context.stop, log, label_precision(evaluator), owner=job.job_id
        )
        trainer: Trainer = construct(spec["trainer"])
        started_at = datetime.now(UTC).isoformat(timespec="seconds")
        fitted = trainer.fit(task, run)
        # The unmodified network's scores are computed once, here; every search of the baseline compares with this row.
        scores = evaluator.score_baseline(fitted.model, run.meter)
        planar = decision_boundary.is_planar(evaluator)
        # Only data sets in the plane can be drawn.
        boundary = decision_boundary.samples(evaluator) if planar else []
        boundary += decision_boundary.decisions(fitted.model, evaluator, run.meter) if planar else []
        # FLOPs of one network: trainers of several record the passes of each, so an ensemble's FLOPs would count them twice.
        (cost,) = run.meter.costs(*flops_of(single_network(fitted.model), prepared))
        facts = size_columns(prepared, len(task.train))
        facts |= _kept_noise_rate(evaluator, task.train.index) if spec.get("selection") else {}
        # Raises if another process has taken the job over in the meantime: the artifact is then the other's to write.
        context.stop()
        save_model(folder, fitted)
        made: dict[str, Any] = {
            "columns": {**facts, **scores, **cost_columns(cost, context.device, context.jobs_on_device)},
            "started_at": started_at,
            "processor": outcome.processor,
            "curve": [*run.curve(), *_transitions(prepared), *boundary, *cost_points(cost)],
        }
        # meta.json last: its presence means that the artifact is complete, so the checkpoint is needed until then.
        write_marker(folder / "meta.json", (ARTIFACT_FILES["train"],), {"job_id": job.job_id, **made})
        run.delete_checkpoint()
    meta = load_json(folder / "meta.json")
    outcome.columns[0], outcome.scored[0], outcome.started_at = meta["columns"], True, meta["started_at"]
    outcome.processor = _processor_of(meta, job, folder)
    outcome.points = _own_points(job, meta["curve"])


def _is_missing(job: Job, context: JobContext, log: Log) -> bool:
    """Whether the job has to make its artifact. A damaged one is set aside."""
    # The caller's lease on the artifact keeps other sweeps from making it at the same time.
    if why := damage(context.artifacts, job.job_id):
        log(f"{why}; it is set aside and computed again")
        with storing(context.artifacts):
            set_aside(context.artifacts, job.job_id)
    return not artifact(context.artifacts, job.job_id).exists()


def _select(job: Job, context: JobContext, outcome: JobOutcome, log: Log) -> None:
    """Select training samples: the kept indices and every sample's score, and one row."""
    spec, folder = job.spec, context.artifacts / job.job_id
    if _is_missing(job, context, log):
        prepared, evaluator = prepared_data(spec["baseline"], context)
        run = JobRun(
            CostMeter(device=context.device), folder / "last.safetensors", context.stop, log, label_precision(evaluator), owner=job.job_id
        )
        pruner: Pruner = construct(spec["pruner"])
        # The network that the selection reads is another job's artifact, so all pruners of a cell share one warm-up.
        warmup = load_model(context.artifacts / job.parents[0], prepared.task)
        # The loading of data and network is outside: the column `select_seconds` is the cost of the method.
        with run.meter("select"):
            selection = pruner.select(prepared.task, warmup, spec["keep_fraction"], run)
        context.stop()
        # Before meta.json, whose presence declares the artifact complete.
        save_state(folder / "selection.safetensors", {"index": selection.index, "score": selection.score})
        (cost,) = run.meter.costs(*flops_of(warmup.model, prepared))
        columns = {
            **size_columns(prepared, len(selection.index)),
            **evaluator.score_trusted(selection.index),
            **_kept_noise_rate(evaluator, selection.index),
            **cost_columns(cost, context.device, context.jobs_on_device),
        }
        content = {"job_id": job.job_id, "columns": columns, "processor": outcome.processor, "curve": cost_points(cost)}
        write_marker(folder / "meta.json", (ARTIFACT_FILES["select"],), content)
    meta = load_json(folder / "meta.json")
    outcome.columns[0], outcome.scored[0] = meta["columns"], True
    outcome.processor = _processor_of(meta, job, folder)
    outcome.points = _own_points(job, meta.get("curve", []))


def _processor_of(meta: Mapping[str, Any], job: Job, folder: Path) -> Columns:
    """The columns of the process that made an artifact, which may have been another sweep's on another machine.

    Raises:
        UserError: the job is to be reproducible, and the artifact is not.
    """
    # Artifacts of earlier versions do not say.
    processor: Columns = meta.get("processor") or {"cpu_capability": None, "reproducible": None}
    if job.reproducible and not processor["reproducible"]:
        raise UserError(f"{folder} was computed without backend.reproducible=true; choose another folder of artifacts (paths.artifacts)")
    return processor


def _tune(job: Job, context: JobContext, outcome: JobOutcome, log: Log) -> None:
    """Correct one baseline with one family of settings: one row each."""
    spec = job.spec["baseline"]
    prepared, evaluator = prepared_data(spec, context)
    task = with_selection(prepared.task, spec, context.artifacts)
    model = load_model(context.artifacts / job.parents[0], task).model
    settings = [construct(run.entry) for run in job.runs if run.entry is not None]
    # One meter for the family: work that several settings use is recorded once, with its users, and divided among them later.
    meter = CostMeter(len(settings), context.device)
    checkpoint = context.artifacts / job.job_id / "last.safetensors"
    run = JobRun(meter, checkpoint, context.stop, log, label_precision(evaluator), owner=job.job_id)
    task, served = counting_served(task)
    # The baseline's answers are kept by its id, so that consecutive jobs on one baseline do not evaluate it anew.
    evaluator.set_reference(model, job.parents[0])
    outcome.facts = size_columns(prepared, len(task.train))

    # A network is valid only while it is scored, so the best setting's decisions are read on the way rather than at the end.
    best = decision_boundary.Best(evaluator, meter)

    def score(candidate: nn.Module, which: int) -> Scores:
        run.check_stop()
        scores = evaluator.score_corrected(candidate, meter, which, served.get(Need.RETAIN), served.get(Need.FORGET))
        if decision_boundary.is_planar(evaluator):
            best.watch(candidate, which, scores)
        return scores

    try:
        # A generator of results: a setting is scored before the next one is computed, so the family needs memory for one corrected network.
        for result in run_family(settings, model, task, run, score):
            outcome.scored[result.which] = True
            outcome.columns[result.which] |= result.scores
            if result.diverged:
                outcome.columns[result.which] |= {"status": "failed", "error_type": "diverged", "error": result.diverged}
    finally:
        # Also after a failure: the settings scored before it are kept, and the cost was spent.
        outcome.points = run.series(job.job_id, job.runs[0].run_id)
        for which, cost in enumerate(meter.costs(*flops_of(model, prepared))):
            outcome.columns[which] |= cost_columns(cost, context.device, context.jobs_on_device)
            outcome.points += [Point(job.job_id, job.runs[which].run_id, *point) for point in cost_points(cost)]
            outcome.columns[which] |= selection_columns(run, which, evaluator)
            outcome.columns[which] |= used_information(settings[which], run, which, prepared.dataset, served)
        boundary = [(best.which or 0, name, step, value) for name, step, value in best.points]
        outcome.points += [
            Point(job.job_id, job.runs[which].run_id, name, step, value) for which, name, step, value in (*run.observations, *boundary)
        ]
        outcome.facts |= served_columns(served)
    # Raises if the lease is lost: the checkpoint then belongs to the new owner.
    context.stop()
    run.delete_checkpoint()


def recompute_setting(job: Job, context: JobContext, checkpoint: Path) -> tuple[dict[str, Tensor], dict[str, float | None]]:
    """(weights, scores) of the first setting of a tune job, computed alone and without storing a row.

    A setting has the same bits alone as in its family; every corrector is tested for that. `checkpoint` is the file for its state.

    Raises:
        UserError: the setting diverges.
    """
    spec = job.spec["baseline"]
    prepared, evaluator = prepared_data(spec, context)
    task = with_selection(prepared.task, spec, context.artifacts)
    model = load_model(context.artifacts / job.parents[0], task).model
    meter = CostMeter(1, context.device)
    # The choice may have changed since an attempt that was killed.
    run = JobRun(meter, checkpoint, context.stop, owner=job.runs[0].run_id)
    weights: dict[str, Tensor] = {}

    # The network is valid only while it is scored: a method may reuse its memory for the next setting.
    def score(candidate: nn.Module, which: int) -> dict[str, float | None]:
        weights.update({name: value.detach().cpu().clone() for name, value in candidate.state_dict().items()})
        return evaluator.score_corrected(candidate, meter, which)

    # Without the columns and points of a row: the row of the setting is stored already and must not change.
    (result,) = run_family([construct(job.runs[0].entry or {})], model, task, run, score)
    run.delete_checkpoint()
    if result.diverged:
        raise UserError(
            f"{job.labels['method']} diverged ({result.diverged}), although it did not in the sweep; rerun it on the machine of the sweep"
        )
    return weights, result.scores


def _search(job: Job, context: JobContext, outcome: JobOutcome, log: Log) -> None:
    """Run a sampled search on one baseline: one row per trial."""
    # Imported here, because only this job type needs Optuna, and every worker would pay for it at start-up.
    from sweeper.jobs.search_job import run_search

    run_search(job, context, outcome, log)


_JOB_TYPES: Mapping[str, Callable[[Job, JobContext, JobOutcome, Log], None]] = {
    "train": _train, "select": _select, "tune": _tune, "search": _search,
}  # fmt: skip


def _own_points(job: Job, curve: list[tuple[str, int, float]]) -> list[Point]:
    """The points of a job with one row, whose run has the job's id."""
    # Train and select jobs write one row each, whose run id is the job's id.
    return [Point(job.job_id, job.job_id, name, int(step), float(value)) for name, step, value in curve]


def _kept_noise_rate(evaluator: Evaluator, index: Tensor) -> Columns:
    """The share of wrong labels among the samples that a pruner kept, if the truth is known."""
    precision = evaluator.score_trusted(index).get("trusted_label_precision")
    # Null rather than 0 where nobody knows the truth: human labels without an audit have an unknown share of wrong ones.
    return {} if precision is None else {"kept_noise_rate": 1 - precision}


def _transitions(prepared: AssembledTask) -> list[tuple[str, int, float]]:
    """The number of training samples per true and given class, as points named transition/TRUE whose step is the given class."""
    if prepared.transitions is None:
        return []
    return [
        (f"transition/{true}", given, float(n)) for true, row in enumerate(prepared.transitions.tolist()) for given, n in enumerate(row)
    ]

"""What each kind of job does: train a baseline, select samples, tune a corrector's family of settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from torch import Tensor, nn

from sap_core.api import Need, Pruner, Stopped, Trainer
from sap_core.checkpoint import save_state
from sap_core.construct import construct
from sap_core.cost import CostMeter
from sap_core.data.assemble import Prepared
from sap_core.errors import StorageError, UserError
from sap_core.evaluation import decision_boundary as plane
from sap_core.evaluation.evaluator import Evaluator, Scores
from sap_core.evaluation.family import run_family
from sap_core.files import save_json
from sap_core.identity import canonical_json
from sap_core.records import Point
from sweeper.jobs.artifacts import load_model, on_selection, one_of, save_model
from sweeper.jobs.context import (
    Columns,
    JobContext,
    JobOutcome,
    chosen_columns,
    counting,
    data_keys,
    facts_of,
    failure_of,
    flops_of,
    precision_of,
    prepared_for,
    used_information,
)
from sweeper.jobs.cost_columns import columns_of, points_of
from sweeper.jobs.job import Job
from sweeper.jobs.run_context import JobRun


def run_kind(job: Job, place: JobContext, note: Callable[[str], None]) -> JobOutcome:
    """Runs a job of any kind; what goes wrong inside becomes `JobOutcome.failure`.

    Raises:
        Stopped: the job was asked to stop, and stored its state.
        StorageError: its state or artifact cannot be written: the disk's failure, not the method's.
    """
    work = JobOutcome([{} for _ in job.runs], [False] * len(job.runs))
    try:
        _KINDS[job.job_type](job, place, work, note)
    except (Stopped, StorageError):
        raise
    except Exception as error:
        work.failure = failure_of(error)
    return work


def _train(job: Job, place: JobContext, work: JobOutcome, note: Callable[[str], None]) -> None:
    """A checkpoint and one row. Trained once however many sweeps use it: the artifact keeps its row's columns."""
    spec, folder = job.spec, place.artifacts / job.job_id
    if not (folder / "meta.json").exists():
        prepared, evaluator = prepared_for(canonical_json(data_keys(spec)), place.data, place.device)
        task = on_selection(prepared.task, spec, place.artifacts)
        run = JobRun(CostMeter(device=place.device), folder / "last.safetensors", place.stop, note, precision_of(evaluator))
        trainer: Trainer = construct(spec["trainer"])
        started_at = datetime.now(UTC).isoformat(timespec="seconds")
        fitted = trainer.fit(task, run)
        scores = evaluator.score_baseline(fitted.model, run.meter)
        drawn = plane.is_planar(evaluator)
        plane_points = [*plane.samples(evaluator), *plane.decisions(fitted.model, evaluator, run.meter)] if drawn else []
        (cost,) = run.meter.costs(*flops_of(one_of(fitted.model), prepared))
        facts = facts_of(prepared, len(task.train)) | (_kept(evaluator, task.train.index) if spec.get("selection") else {})
        place.stop()  # raises where another process has taken the job over in the meantime
        save_model(folder, fitted)
        curve = [*run.curve(), *_transitions(prepared), *plane_points, *points_of(cost)]
        meta = {
            "columns": {**facts, **scores, **columns_of(cost, place.device, place.jobs_on_device)},
            "started_at": started_at,
            "curve": curve,
        }
        save_json(folder / "meta.json", meta)
        run.forget_checkpoint()
    meta = json.loads((folder / "meta.json").read_text())
    work.columns[0], work.scored[0], work.started_at = meta["columns"], True, meta["started_at"]
    work.points = [Point(job.job_id, job.job_id, name, int(step), float(value)) for name, step, value in meta["curve"]]


def _select(job: Job, place: JobContext, work: JobOutcome, note: Callable[[str], None]) -> None:
    """The kept indices and every sample's score."""
    spec, folder = job.spec, place.artifacts / job.job_id
    if not (folder / "meta.json").exists():
        prepared, evaluator = prepared_for(canonical_json(data_keys(spec["baseline"])), place.data, place.device)
        run = JobRun(CostMeter(device=place.device), folder / "last.safetensors", place.stop, note, precision_of(evaluator))
        pruner: Pruner = construct(spec["pruner"])
        warm = load_model(place.artifacts / job.parents[0], prepared.task)
        with run.meter("select"):
            selection = pruner.select(prepared.task, warm, spec["keep_fraction"], run)
        place.stop()
        save_state(folder / "selection.safetensors", {"index": selection.index, "score": selection.score})
        (cost,) = run.meter.costs(*flops_of(warm.model, prepared))
        columns = {
            **facts_of(prepared, len(selection.index)),
            **evaluator.trusted(selection.index),
            **_kept(evaluator, selection.index),
            **columns_of(cost, place.device, place.jobs_on_device),
        }
        save_json(folder / "meta.json", {"columns": columns, "curve": points_of(cost)})
    meta = json.loads((folder / "meta.json").read_text())
    work.columns[0], work.scored[0] = meta["columns"], True
    work.points = [Point(job.job_id, job.job_id, name, int(step), float(value)) for name, step, value in meta.get("curve", [])]


def _tune(job: Job, place: JobContext, work: JobOutcome, note: Callable[[str], None]) -> None:
    """One family of settings on one baseline: one row each."""
    spec = job.spec["baseline"]
    prepared, evaluator = prepared_for(canonical_json(data_keys(spec)), place.data, place.device)
    task = on_selection(prepared.task, spec, place.artifacts)
    model = load_model(place.artifacts / job.parents[0], task).model
    settings = [construct(run.entry) for run in job.runs if run.entry is not None]
    meter = CostMeter(len(settings), place.device)
    run = JobRun(meter, place.artifacts / job.job_id / "last.safetensors", place.stop, note, precision_of(evaluator))
    task, served = counting(task)
    evaluator.set_reference(model, job.parents[0])
    work.facts = facts_of(prepared, len(task.train))

    best = plane.Best(evaluator, meter)

    def score(candidate: nn.Module, which: int) -> Scores:
        run.check_stop()
        scores = evaluator.score_corrected(candidate, meter, which, served.get(Need.RETAIN), served.get(Need.FORGET))
        if plane.is_planar(evaluator):
            best.watch(candidate, which, scores)
        return scores

    try:
        for outcome in run_family(settings, model, task, run, score):
            work.scored[outcome.which] = True
            work.columns[outcome.which] |= outcome.scores
            if outcome.diverged:
                work.columns[outcome.which] |= {"status": "failed", "error_type": "diverged", "error": outcome.diverged}
    finally:
        work.points = run.series(job.job_id, job.runs[0].run_id)
        for which, cost in enumerate(meter.costs(*flops_of(model, prepared))):
            work.columns[which] |= columns_of(cost, place.device, place.jobs_on_device)
            work.points += [Point(job.job_id, job.runs[which].run_id, *point) for point in points_of(cost)]
            work.columns[which] |= chosen_columns(run, which, evaluator)
            work.columns[which] |= used_information(settings[which], run, which, prepared.dataset, served)
        drawn = [(best.which or 0, name, step, value) for name, step, value in best.points]
        work.points += [
            Point(job.job_id, job.runs[which].run_id, name, step, value) for which, name, step, value in (*run.observations, *drawn)
        ]
        work.facts |= {f"num_{need}": count for need, count in served.items() if need is not Need.TRUE_LABELS}
    place.stop()
    run.forget_checkpoint()


def correct_again(job: Job, place: JobContext, last: Path) -> tuple[dict[str, Tensor], dict[str, float | None]]:
    """(weights, scores) of a tune job's first setting, which alone has the bits that it has in its family; stores no row.

    `last` is where a long one keeps its state.

    Raises:
        UserError: it diverges, or what its method raises.
    """
    spec = job.spec["baseline"]
    prepared, evaluator = prepared_for(canonical_json(data_keys(spec)), place.data, place.device)
    task = on_selection(prepared.task, spec, place.artifacts)
    model = load_model(place.artifacts / job.parents[0], task).model
    meter = CostMeter(1, place.device)
    run = JobRun(meter, last, place.stop)
    weights: dict[str, Tensor] = {}

    def score(candidate: nn.Module, which: int) -> dict[str, float | None]:
        weights.update({name: value.detach().cpu().clone() for name, value in candidate.state_dict().items()})
        return evaluator.score_corrected(candidate, meter, which)

    (outcome,) = run_family([construct(job.runs[0].entry or {})], model, task, run, score)
    run.forget_checkpoint()
    if outcome.diverged:
        raise UserError(
            f"{job.labels['method']} diverged where it did not before ({outcome.diverged}); is this the machine of the first run?"
        )
    return weights, outcome.scores


def _search(job: Job, place: JobContext, work: JobOutcome, note: Callable[[str], None]) -> None:
    """One search on one baseline, one trial at a time: one row each."""
    from sweeper.jobs.search_stage import run_search  # Optuna is needed here alone

    run_search(job, place, work, note)


_KINDS: Mapping[str, Callable[[Job, JobContext, JobOutcome, Callable[[str], None]], None]] = {
    "train": _train, "select": _select, "tune": _tune, "search": _search,
}  # fmt: skip


def _kept(evaluator: Evaluator, index: Tensor) -> Columns:
    """The share of wrong labels among the samples that a pruner kept, where truth is known."""
    right = evaluator.trusted(index).get("trusted_label_precision")
    return {} if right is None else {"kept_noise_rate": 1 - right}


def _transitions(prepared: Prepared) -> list[tuple[str, int, float]]:
    """How many training samples of each class were given which label, as points named transition/TRUE with step GIVEN."""
    if prepared.transitions is None:
        return []
    return [
        (f"transition/{true}", given, float(n)) for true, row in enumerate(prepared.transitions.tolist()) for given, n in enumerate(row)
    ]

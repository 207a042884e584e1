"""The job of a search: one baseline, one trial at a time, one row each. A stopped search begins again at the next start.

A trial is one configuration scored at one level of the resource; without a resource there is one level. The corrector yields the levels of
a configuration along its trajectory, so a later level goes on from where the earlier one stands. Its networks are held until the
configuration is closed. The sampler sees the validation score on the given labels and nothing else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from sap_core.api import Corrector, Need, Stopped, Task
from sap_core.construct import construct
from sap_core.cost import CostMeter
from sap_core.data.assemble import Prepared
from sap_core.errors import StorageError, UserError
from sap_core.evaluation.evaluator import Evaluator, Scores
from sap_core.evaluation.family import SettingResult, run_family
from sap_core.identity import canonical_json
from sap_core.records import Point as CurvePoint
from sweeper.config.component import shown
from sweeper.config.search_space import Domain
from sweeper.jobs.artifacts import load_model, on_selection
from sweeper.jobs.context import (
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
)  # fmt: skip
from sweeper.jobs.cost_columns import columns_of, points_of
from sweeper.jobs.job import Job
from sweeper.jobs.run_context import JobRun
from sweeper.search.encoding import Setting, SettingSpace
from sweeper.search.samplers import OptunaAskTell, run_trials
from sweeper.search.trial_search import resource_levels
from sweeper.search.trials import Score

Note = Callable[[str], None]


def run_search(job: Job, place: JobContext, work: JobOutcome, note: Note) -> None:
    """Fills in the row of every trial."""
    spec, baseline = job.spec["search"], job.spec["baseline"]
    prepared, evaluator = prepared_for(canonical_json(data_keys(baseline)), place.data, place.device)
    task = on_selection(prepared.task, baseline, place.artifacts)
    model = load_model(place.artifacts / job.parents[0], task).model
    evaluator.set_reference(model, job.parents[0])
    work.facts = facts_of(prepared, len(task.train))
    points = SettingSpace(tuple(Domain(field, word, tuple(values)) for field, word, values in spec["domains"]))
    scene = _Scene(job, place, work, note, points, prepared, evaluator, task, model)
    walks: dict[int, _Walk] = {}

    def climb(trial: int, configuration: int, point: Setting) -> Score:
        if configuration not in walks:
            walks[configuration] = _Walk(scene, point)
        return walks[configuration].climb(trial)

    def close(configuration: int) -> None:
        walks.pop(configuration).close()

    try:
        run_trials(points, spec, job.labels["baseline_id"], climb, close, place.asker or OptunaAskTell)
    finally:
        for walk in walks.values():
            walk.close()


@dataclass(frozen=True)
class _Scene:
    """What all trials of a search share."""

    job: Job
    place: JobContext
    work: JobOutcome
    note: Note
    points: SettingSpace
    prepared: Prepared
    evaluator: Evaluator
    task: Task
    model: nn.Module

    @property
    def resource(self) -> str | None:
        found: str | None = self.job.spec["search"]["resource"]
        return found


@dataclass
class _Walk:
    """One configuration on its way up the levels; `trials` are the rows it has so far, lowest level first."""

    scene: _Scene
    point: Setting
    trials: list[int] = field(default_factory=list)
    failed: dict[str, Any] | None = None  # why it cannot go on

    def __post_init__(self) -> None:
        scene, resource = self.scene, self.scene.resource
        levels = [{**self.point, resource: level} for level in resource_levels(scene.points, resource)] if resource else [self.point]
        base = scene.job.spec["search"]["method"]
        self.levels = levels
        self.entries = [{"target": base["target"], "settings": {**base["settings"], **level}} for level in levels]
        self.meter = CostMeter(len(levels), scene.place.device)
        self.run = JobRun(self.meter, None, scene.place.stop, scene.note, precision_of(scene.evaluator))
        self.served: dict[Need, int] = {}
        self.settings: list[Corrector] = []
        self.outcomes = self._outcomes()

    def climb(self, trial: int) -> Score:
        """Goes on to the next level and fills in the row of `trial`; the score is None when it failed."""
        level, columns = len(self.trials), self.scene.work.columns[trial]
        self.trials.append(trial)
        settings = self.entries[level]["settings"]
        columns |= {"settings": json.dumps(shown(settings), sort_keys=True), "grid_position": self.scene.points.index(self.levels[level])}
        if self.failed is None:
            try:
                outcome = next(self.outcomes)
                if outcome.which != level:
                    raise UserError(
                        f"the method yielded its setting {outcome.which} where {level} was due: it does not go along the resource"
                    )
                if outcome.diverged:
                    self.failed = {"status": "failed", "error_type": "diverged", "error": outcome.diverged}
                columns |= outcome.scores
            except (Stopped, StorageError):
                raise
            except StopIteration:
                self.failed = {"status": "failed", "error_type": "error", "error": "the method ended without yielding this setting"}
            except Exception as error:
                failure = failure_of(error)
                self.scene.note(failure.traceback)
                self.failed = {"status": "failed", "error_type": failure.kind, "error": failure.error}
        if self.failed:
            columns |= self.failed
            return None
        self.scene.work.scored[trial] = True
        score: Score = columns.get("val_noisy_acc", columns.get("val_noisy_r2"))
        return score if score is not None and math.isfinite(score) else None

    def close(self) -> None:
        """Gives up what has not been reached, and books what each level cost: work that several of them use is divided among them."""
        self.outcomes.close()
        reached = range(len(self.trials))
        for piece in self.meter.records:
            piece.used_by = tuple(which for which in piece.used_by if which in reached) or (reached[-1],)
        scene, job, work = self.scene, self.scene.job, self.scene.work
        costs = self.meter.costs(*flops_of(scene.model, scene.prepared))
        for level, trial in enumerate(self.trials):
            columns = work.columns[trial]
            columns |= columns_of(costs[level], scene.place.device, scene.place.jobs_on_device)
            run_id = job.runs[trial].run_id
            work.points += [CurvePoint(job.job_id, run_id, *point) for point in points_of(costs[level])]
            columns |= {f"num_{need}": count for need, count in self.served.items() if need is not Need.TRUE_LABELS}
            columns |= chosen_columns(self.run, level, scene.evaluator)
            if self.settings:
                columns |= used_information(self.settings[level], self.run, level, scene.prepared.dataset, self.served)
        run_id = job.runs[self.trials[0]].run_id
        work.points += [CurvePoint(job.job_id, run_id, name, step, value) for name, step, value in self.run.curve()]

    def _outcomes(self) -> Generator[SettingResult, None, None]:
        """One outcome per level; work begins when the first is asked for."""
        self.settings = [construct(entry) for entry in self.entries]
        task, self.served = counting(self.scene.task)

        def score(candidate: nn.Module, which: int) -> Scores:
            self.run.check_stop()
            return self.scene.evaluator.score_corrected(
                candidate, self.meter, which, self.served.get(Need.RETAIN), self.served.get(Need.FORGET)
            )

        yield from run_family(self.settings, self.scene.model, task, self.run, score)

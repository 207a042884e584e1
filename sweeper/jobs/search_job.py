"""The job type `search`: a sampled search on one baseline, one trial at a time, one row each. An interrupted search starts over.

A trial is one configuration scored at one level of the resource; without a resource there is one level. The corrector yields the levels of
a configuration along its trajectory, so a later level continues from where the previous one ended. Its networks are kept in memory until
the configuration is closed. The sampler sees the validation score on the given labels and nothing else.
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
from sap_core.data.assemble import AssembledTask
from sap_core.errors import StorageError, UserError
from sap_core.evaluation.evaluator import Evaluator, Scores
from sap_core.evaluation.family import SettingResult, run_family
from sap_core.records import Point
from sweeper.config.component import display_settings
from sweeper.config.search_space import Domain
from sweeper.jobs.artifacts import load_model, with_selection
from sweeper.jobs.context import (
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
from sweeper.jobs.job import Job
from sweeper.jobs.run_context import JobRun
from sweeper.search.encoding import Setting, SettingSpace
from sweeper.search.samplers import OptunaAskTell, run_trials
from sweeper.search.trial_search import resource_levels
from sweeper.search.trials import Score

Log = Callable[[str], None]


def run_search(job: Job, context: JobContext, outcome: JobOutcome, log: Log) -> None:
    """Run all trials of the job's search and fill in their rows in `outcome`."""
    spec, baseline = job.spec["search"], job.spec["baseline"]
    prepared, evaluator = prepared_data(baseline, context)
    task = with_selection(prepared.task, baseline, context.artifacts)
    model = load_model(context.artifacts / job.parents[0], task).model
    evaluator.set_reference(model, job.parents[0])
    # The facts come before the first trial, so that rows of a search that fails early are complete as well.
    outcome.facts = size_columns(prepared, len(task.train))
    space = SettingSpace(tuple(Domain(field, domain_type, tuple(values)) for field, domain_type, values in spec["domains"]))
    shared = _SharedState(job, context, outcome, log, space, prepared, evaluator, task, model)
    # Open configurations by number. Successive halving returns to them later, so their networks stay in memory until they are closed.
    trajectories: dict[int, _Trajectory] = {}

    def run_trial(trial: int, configuration: int, setting: Setting) -> Score:
        if configuration not in trajectories:
            trajectories[configuration] = _Trajectory(shared, setting)
        return trajectories[configuration].run_trial(trial)

    def close(configuration: int) -> None:
        # Popped before it is closed, so that the `finally` below does not close it a second time.
        trajectories.pop(configuration).close()

    try:
        run_trials(space, spec, job.labels["baseline_id"], run_trial, close, context.ask_tell or OptunaAskTell)
    finally:
        # After a failure or a stop, too: the cost of the open configurations was spent and belongs in their rows.
        for trajectory in trajectories.values():
            trajectory.close()


@dataclass(frozen=True)
class _SharedState:
    """State that all trials of a search share."""

    job: Job
    context: JobContext
    outcome: JobOutcome
    log: Log
    space: SettingSpace
    prepared: AssembledTask
    evaluator: Evaluator
    task: Task
    model: nn.Module

    @property
    def resource(self) -> str | None:
        found: str | None = self.job.spec["search"]["resource"]
        return found


@dataclass
class _Trajectory:
    """One configuration and the levels of the resource that it has reached; `trials` are its rows, lowest level first."""

    shared: _SharedState
    setting: Setting
    trials: list[int] = field(default_factory=list)
    failed: dict[str, Any] | None = None  # columns that say why it cannot continue

    def __post_init__(self) -> None:
        shared, resource = self.shared, self.shared.resource
        # Levels of one configuration form a family, so that the method shares the work up to each level (a trajectory read off on the way).
        levels = [{**self.setting, resource: level} for level in resource_levels(shared.space, resource)] if resource else [self.setting]
        base = shared.job.spec["search"]["method"]
        self.levels = levels
        self.entries = [{"target": base["target"], "settings": {**base["settings"], **level}} for level in levels]
        # A meter of its own for each configuration, because configurations share no work with each other.
        self.meter = CostMeter(len(levels), shared.context.device)
        # Without a checkpoint: the state of a sampler and of several networks is not stored, so a search starts over.
        self.run = JobRun(self.meter, None, shared.context.stop, shared.log, label_precision(shared.evaluator))
        self.served: dict[Need, int] = {}
        self.settings: list[Corrector] = []
        # A generator is not started before its first `next`, so an invalid setting fails in its own trial and not in the constructor.
        self.results = self._results()

    def run_trial(self, trial: int) -> Score:
        """Continue to the next level and fill in the row of `trial`. Returns the score, None if the trial failed."""
        level, columns = len(self.trials), self.shared.outcome.columns[trial]
        self.trials.append(trial)
        settings = self.entries[level]["settings"]
        # Filled in before the trial runs: the plan does not know which setting a trial gets, and a failed row needs it as well.
        columns["settings"] = json.dumps(display_settings(settings), sort_keys=True)
        # The index in the space decides ties as in a grid search; the number of the trial would depend on the sampler.
        columns["grid_position"] = self.shared.space.index(self.levels[level])
        # A configuration that failed at a lower level fails at the higher ones without being computed.
        if self.failed is None:
            try:
                result = next(self.results)
                # Scores of another level would be reported to the sampler as this one's, which no later check could notice.
                if result.which != level:
                    raise UserError(
                        f"the method yielded its setting {result.which} where setting {level} was due: it does not follow the resource"
                    )
                if result.diverged:
                    self.failed = {"status": "failed", "error_type": "diverged", "error": result.diverged}
                columns |= result.scores
            # These end the job; any other error ends this configuration alone, because the sampler can go on with others.
            except (Stopped, StorageError):
                raise
            except StopIteration:
                self.failed = {"status": "failed", "error_type": "error", "error": "the method ended without yielding this setting"}
            except Exception as error:
                failure = failure_of(error)
                self.shared.log(failure.traceback)
                self.failed = {"status": "failed", "error_type": failure.error_type, "error": failure.error}
        if self.failed:
            columns |= self.failed
            return None
        self.shared.outcome.scored[trial] = True
        # The sampler sees the validation score on the given labels, never a score that needs true labels or the test set.
        score: Score = columns.get("val_noisy_acc", columns.get("val_noisy_r2"))
        return score if score is not None and math.isfinite(score) else None

    def close(self) -> None:
        """Discard the levels that were not reached and fill in the cost of each level; work that several of them use is divided."""
        # Closing the generator ends the method at its last `yield`, so the levels above are never computed.
        self.results.close()
        reached = range(len(self.trials))
        for record in self.meter.records:
            # Work for levels that were never reached is charged to the last one that was: it has been spent.
            record.used_by = tuple(which for which in record.used_by if which in reached) or (reached[-1],)
        shared, job, outcome = self.shared, self.shared.job, self.shared.outcome
        costs = self.meter.costs(*flops_of(shared.model, shared.prepared))
        for level, trial in enumerate(self.trials):
            columns = outcome.columns[trial]
            columns |= cost_columns(costs[level], shared.context.device, shared.context.jobs_on_device)
            run_id = job.runs[trial].run_id
            outcome.points += [Point(job.job_id, run_id, *point) for point in cost_points(costs[level])]
            columns |= served_columns(self.served)
            columns |= selection_columns(self.run, level, shared.evaluator)
            if self.settings:
                columns |= used_information(self.settings[level], self.run, level, shared.prepared.dataset, self.served)
        run_id = job.runs[self.trials[0]].run_id
        outcome.points += [Point(job.job_id, run_id, name, step, value) for name, step, value in self.run.curve()]

    def _results(self) -> Generator[SettingResult, None, None]:
        """One result per level; the computation starts with the first `next`."""
        self.settings = [construct(entry) for entry in self.entries]
        task, self.served = counting_served(self.shared.task)

        def score(candidate: nn.Module, which: int) -> Scores:
            self.run.check_stop()
            return self.shared.evaluator.score_corrected(
                candidate, self.meter, which, self.served.get(Need.RETAIN), self.served.get(Need.FORGET)
            )

        # The baseline is passed unchanged to every configuration; correctors work on copies.
        yield from run_family(self.settings, self.shared.model, task, self.run, score)

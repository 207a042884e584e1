"""How much looking a race saves: the share of image evaluations, over an experiment's baselines, for every family of settings.

`python -m benchmarks.race experiment=demo methods=[sap,scrub] [--artifacts DIR] [--data DIR] [--families N] [KEY=VALUE ...]`

Counts, no times: what is printed does not depend on the machine. Baselines that DIR lacks are trained first (minutes for demo, a quarter
of an hour for fashion). Per rule and method: median, smallest and largest share over families and baselines, of the images that count
under the rule. First the two-phase order as the product has it, without and with the one pass of the unmodified network; then a fixed order
(settings by their place in the space, images in stored order, a setting stops when it cannot win). Every race is held against the
exhaustive choice.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from analysis.choose import best
from sap_core.api import Task
from sap_core.construct import construct
from sap_core.data.assemble import Prepared, prepare
from sap_core.evaluate import Evaluator
from sap_core.grid import candidates
from sap_core.race import race_family
from sap_core.records import RACE_RULES
from sap_core.run import PlainRun
from sweeper.artifacts import load_model, on_selection
from sweeper.cells import check_cell
from sweeper.config import compose_all
from sweeper.execute import Folders, execute
from sweeper.jobs import Job, artifact
from sweeper.plan import Plan, make_plan

LOOK = 64
"""Images between two looks at the bound in the fixed order."""


@dataclass(frozen=True)
class Replay:
    """A corrector that hands out networks that are there already; None for one that has diverged."""

    networks: ClassVar[list[nn.Module | None]] = []

    def needs(self) -> frozenset[Any]:
        return frozenset()

    @classmethod
    def correct(cls, settings: Sequence[Replay], model: nn.Module, task: Task, run: PlainRun) -> Iterator[tuple[int, nn.Module]]:
        yield from ((which, network) for which, network in enumerate(cls.networks) if network is not None)


@dataclass(frozen=True)
class Shares:
    """Image evaluations of one family, as shares of scoring every sound setting on every image that counts."""

    race: float
    fixed: float


def corrected(job: Job, model: nn.Module, task: Task, evaluator: Evaluator) -> list[nn.Module | None]:
    """The family's networks in quick form, by position."""
    settings = [construct(run.entry) for run in job.runs if run.entry is not None]
    found: list[nn.Module | None] = [None] * len(settings)
    for which, candidate, unsound in candidates(settings, model, task, PlainRun(len(settings))):
        found[which] = None if unsound else evaluator.quick(candidate)
    return found


def fixed_order(base: int, hits: Sequence[Tensor]) -> int:
    """Images looked at when settings and images come in stored order."""
    seen, highest = 0, base
    for hits_N in hits:
        possible = len(hits_N)
        for part in hits_N.split(LOOK):
            if possible <= highest:
                break
            possible -= int((~part).sum())
            seen += len(part)
        highest = max(highest, possible)
    return seen


def shares(
    name: str, model: nn.Module, networks: list[nn.Module | None], prepared: Prepared, evaluator: Evaluator, rule: str
) -> Shares | None:
    """Races the networks and compares; None when all have diverged."""
    run, part, labels = PlainRun(len(networks)), evaluator.validation_part(rule), prepared.val.labels
    base, *hits = (
        None if network is None else (evaluator.validation_outputs(network, run.meter).argmax(1) == labels)[part]
        for network in (model, *networks)
    )
    sound = [each for each in hits if each is not None]
    if not sound or base is None:
        return None
    run = PlainRun(len(networks))
    Replay.networks = networks
    evaluator.compare_with(model, name)
    family = [Replay() for _ in networks]
    outcomes = list(race_family(family, model, prepared.task, run, evaluator, rule, lambda quick, which: {}, lambda: None))  # type: ignore[arg-type]
    finished = [outcome for outcome in outcomes if RACE_RULES[rule] in outcome.scores]
    wanted = best(int(base.sum()), [float("nan") if each is None else int(each.sum()) for each in hits])
    if (finished[-1].which if finished else None) != wanted:
        print("    the race chose DIFFERENTLY")
    everything = len(sound) * len(part)
    seen = sum(int(outcome.scores["images_evaluated"] or 0) for outcome in outcomes)
    return Shares(seen / everything, fixed_order(int(base.sum()), sound) / everything)


def planned(words: Sequence[str]) -> Plan:
    composed = compose_all(words)
    return make_plan(composed.config, [check_cell(cell, composed.config) for cell in composed.cells], {})


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for sap-sweep")
    parser.add_argument("--artifacts", type=Path, help="where the baselines are, or go")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--families", type=int, default=10**6, help="at most so many of each method and baseline, evenly spread")
    parser.add_argument("--quick", action="store_true", help="one baseline of one epoch: only shows that it runs")
    options = parser.parse_args(words)
    quick = ["experiment=demo", "methods=[sap]", "seeds=[1]", "trainer.epochs=1"]
    plan = planned(quick if options.quick else options.overrides or ["experiment=demo", "methods=[sap,scrub]"])
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folders = Folders(options.data, Path(scratch), options.artifacts or Path(scratch) / "artifacts")
        for job in plan.jobs:
            if job.kind != "tune" and not artifact(folders.artifacts, job.job_id).exists():
                execute(job, folders)
        found: dict[tuple[str, str], list[Shares]] = {}
        for job in spread(plan, options.families):
            spec = job.spec["baseline"]
            prepared = prepare(spec, folders.data, torch.device("cpu"))
            evaluator, task = Evaluator(prepared), on_selection(prepared.task, spec, folders.artifacts)
            model = load_model(folders.artifacts / job.parents[0], task).model
            networks = corrected(job, model, task, evaluator)
            for rule in RACE_RULES:
                each = shares(job.parents[0], model, networks, prepared, evaluator, rule)
                if each:
                    found.setdefault((job.labels["method"], rule), []).append(each)
    for (method, rule), some in found.items():
        columns = {"race": "race", "fixed order": "fixed"}
        told = "; ".join(f"{name} {told_of([getattr(each, field) for each in some])}" for name, field in columns.items())
        print(f"{method}, {rule}, {len(some)} families: {told}")


def spread(plan: Plan, count: int) -> Iterator[Job]:
    """The tuning jobs, at most `count` of each method and baseline."""
    groups: dict[tuple[str, str], list[Job]] = {}
    for job in plan.jobs:
        if job.kind == "tune":
            groups.setdefault((job.labels["method"], job.parents[0]), []).append(job)
    for jobs in groups.values():
        step = max(1, -(-len(jobs) // count))
        yield from jobs[::step]


def told_of(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()

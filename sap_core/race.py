"""Choosing among the settings of one family without scoring all of them on every validation image: exact, and explicit.

With W the validation images that the unmodified network gets wrong and R those it gets right:

    1  every setting is scored on W: what it gains
    2  settings by falling gain: each is scored on R, the images of smallest margin first, and stops as soon as it could not become the
       choice any more, if it lost none of the images of R that are left

The choice is that of the exhaustive search under the same rule: most images right, ties to the unmodified network, then to the earlier
setting. What stopped has no score; what finished has the exhaustive one. Batches are not those of a full evaluation; on a CPU an image
has the same bits in both (benchmarks/evaluation.py looks). Where a device's library sees that otherwise, two logits that are equal to
rounding may count differently.

Memory: phase 1 keeps a copy of every setting that gains something, in quick form, until its turn in phase 2: at most a family's size times
the network's parameters and buffers (16 settings of a ResNet18: 0.7 GB).

Source: ours. (Racing by bounds is old; that W decides most of it was measured here, see benchmarks/race.py.)

Shapes: N validation images that count under the rule, B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sap_core.api import Corrector, Run, Samples, Task
from sap_core.cost import CostMeter
from sap_core.evaluate import Evaluator, Scores, answers, fits
from sap_core.grid import Outcome, candidates, run_family
from sap_core.records import RACE_RULES

FEWEST, MOST = 16, 512
"""Images between two looks at the bound. It takes as many lost images as a setting has to spare, so no more looks are made than that."""


@dataclass(frozen=True)
class Stretch:
    """Validation images in the order in which they are looked at."""

    samples: Samples
    inputs: Tensor | None  # preprocessed; None where they do not fit memory

    @classmethod
    def of(cls, samples: Samples) -> Stretch:
        batches = samples.batches(MOST) if len(samples) and fits(samples) else ()
        inputs = [batch.inputs for batch in batches]
        return cls(samples, torch.cat(inputs) if inputs else None)

    def __len__(self) -> int:
        return len(self.samples)

    def right(self, quick: nn.Module, start: int, stop: int, meter: CostMeter) -> int:
        """How many of the images from `start` to `stop` the network gets right."""
        if self.inputs is not None:
            inputs = self.inputs[start:stop]
        else:
            inputs = next(iter(self.samples.subset(torch.arange(start, stop)).batches(stop - start))).inputs
        return int((answers(quick, inputs, meter).argmax(1) == self.samples.labels[start:stop]).sum())


@dataclass(frozen=True)
class Course:
    """The images of a race: those that the unmodified network gets wrong, and those it gets right, smallest margin first."""

    wrong: Stretch  # W
    right: Stretch  # R

    @classmethod
    def of(cls, logits_NC: Tensor, samples: Samples) -> Course:
        """From the unmodified network's logits on `samples`."""
        labels_N1 = samples.labels.view(-1, 1)
        given_N = logits_NC.gather(1, labels_N1).squeeze(1)
        others_NC = logits_NC.scatter(1, labels_N1, -torch.inf)
        margin_N = given_N - others_NC.max(1).values
        is_right = logits_NC.argmax(1) == samples.labels
        right = torch.nonzero(is_right).flatten()
        ordered = right[margin_N[right].argsort(stable=True)]
        return cls(Stretch.of(samples.subset(torch.nonzero(~is_right).flatten())), Stretch.of(samples.subset(ordered)))

    def gain(self, quick: nn.Module, meter: CostMeter) -> int:
        """How many images of W the network gets right."""
        return sum(self.wrong.right(quick, start, min(start + MOST, len(self.wrong)), meter) for start in range(0, len(self.wrong), MOST))

    def finish(self, quick: nn.Module, gain: int, needed: int, meter: CostMeter) -> tuple[int | None, int]:
        """(images right in all, images of R looked at); the first is None as soon as fewer than `needed` are left possible."""
        possible, seen = gain + len(self.right), 0
        while possible >= needed and seen < len(self.right):
            size = min(max(FEWEST, possible - needed + 1), MOST, len(self.right) - seen)
            possible -= size - self.right.right(quick, seen, seen + size, meter)
            seen += size
        return (possible if possible >= needed else None), seen


@dataclass(frozen=True)
class _Runner:
    """A setting after phase 1."""

    which: int
    gain: int
    quick: nn.Module


@dataclass(frozen=True)
class _Leader:
    """The best so far: the unmodified network, or a setting that finished."""

    which: int  # -1: the unmodified network
    right: int
    quick: nn.Module | None = None


def scored_family(
    settings: Sequence[Corrector],
    model: nn.Module,
    task: Task,
    run: Run,
    evaluator: Evaluator,
    rule: str | None,
    probed: Callable[[], tuple[int | None, int | None]],
    check_stop: Callable[[], None],
    watch: Callable[[nn.Module, int, Scores], None] | None = None,
) -> Iterator[Outcome]:
    """Outcomes of a family raced under `rule`, or scored in full where there is none. `probed` says how many retain and forget samples the
    method was told so far; `watch` is shown every model that is scored in full, with its scores; for the others see `race_family`.
    """

    def score(candidate: nn.Module, which: int) -> Scores:
        check_stop()
        scores = evaluator.tuned(candidate, run.meter, which, *probed())
        if watch:
            watch(candidate, which, scores)
        return scores

    def report(quick: nn.Module, which: int) -> Scores:
        return evaluator.reported(quick, run.meter, which, *probed())

    if rule is None:
        return run_family(settings, model, task, run, score)
    return race_family(settings, model, task, run, evaluator, rule, report, check_stop)


def race_family(
    settings: Sequence[Corrector],
    model: nn.Module,
    task: Task,
    run: Run,
    evaluator: Evaluator,
    rule: str,
    report: Callable[[nn.Module, int], Scores],
    check_stop: Callable[[], None],
) -> Iterator[Outcome]:
    """Yields one outcome per setting, the choice last; a setting without scores was stopped.

    A corrector that ends with FloatingPointError (the rest of its family has diverged) ends the race in the same way, after the settings
    before it have been raced.

    Args:
        settings: as for `sap_core.grid.run_family`, like the next three.
        model: the unmodified network.
        task: what the method may see.
        run: books the costs.
        evaluator: of the same task, a classification; it was told the unmodified network (`compare_with`).
        rule: a key of `RACE_RULES`: which validation images count.
        report: the scores that choose nothing, of a network in quick form; asked for the choice alone.
        check_stop: raises where the run was asked to stop; called before each setting's images.
    """
    part = evaluator.validation_part(rule)
    course = Course.of(evaluator.unmodified[part], evaluator.prepared.val.subset(part))
    runners: list[_Runner] = []
    diverged: FloatingPointError | None = None
    try:
        with closing(candidates(settings, model, task, run)) as corrected:
            for which, candidate, unsound in corrected:
                check_stop()
                runner = None if unsound else _open(course, evaluator, which, candidate, run)
                if runner is None:
                    yield Outcome(which, {} if unsound else {"images_evaluated": len(course.wrong)}, unsound)
                else:
                    runners.append(runner)
    except FloatingPointError as error:
        diverged = error
    yield from _second(course, runners, RACE_RULES[rule], run, report, check_stop)
    if diverged:
        raise diverged


def _open(course: Course, evaluator: Evaluator, which: int, candidate: nn.Module, run: Run) -> _Runner | None:
    """Phase 1 of one setting; None for a setting that gains nothing, which can only lose."""
    with run.meter("evaluate", used_by=[which]):
        quick = evaluator.quick(candidate)
        gain = course.gain(quick, run.meter)
    return _Runner(which, gain, quick) if gain else None


def _second(
    course: Course,
    runners: list[_Runner],
    column: str,
    run: Run,
    report: Callable[[nn.Module, int], Scores],
    check_stop: Callable[[], None],
) -> Iterator[Outcome]:
    """Phase 2, which empties `runners`."""
    count = len(course.wrong) + len(course.right)

    def finished(leader: _Leader) -> Outcome:
        return Outcome(leader.which, {column: leader.right / count, "images_evaluated": count})

    leader = _Leader(-1, len(course.right))
    runners.sort(key=lambda runner: (runner.gain, -runner.which))
    while runners:
        check_stop()
        runner = runners.pop()  # the largest gain, the earliest of equals
        with run.meter("evaluate", used_by=[runner.which]):
            needed = leader.right + (runner.which > leader.which)
            right, seen = course.finish(runner.quick, runner.gain, needed, run.meter)
        if right is None:
            yield Outcome(runner.which, {"images_evaluated": len(course.wrong) + seen})
        else:
            if leader.quick is not None:
                yield finished(leader)
            leader = _Leader(runner.which, right, runner.quick)
    if leader.quick is not None:
        outcome = finished(leader)
        outcome.scores.update(report(leader.quick, leader.which))
        yield outcome

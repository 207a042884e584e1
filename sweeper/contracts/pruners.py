"""Contract checks of pruners, on a small task."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from sap_core.api import Fitted, Pruner, Selection, Task
from sap_core.run import PlainRun
from sweeper.contracts import toys
from sweeper.contracts.common import Check, CheckFailed, check_component, global_randomness, refuse, same_bits, same_samples


@dataclass(frozen=True, eq=False)
class PrunerCase:
    """A pruner, with a network trained on all samples. Every run gets copies of the network, its tables and the task."""

    pruner: Pruner
    warm: Fitted
    task: Task
    keep: float = 0.3

    @cached_property
    def first(self) -> tuple[Selection, PlainRun]:
        """The selection, and its run."""
        return self.select()

    def select(self, warm: Fitted | None = None, task: Task | None = None) -> tuple[Selection, PlainRun]:
        """Selects once, without access to verified samples, with `warm` and `task` or copies of the case's."""
        run, warm = PlainRun(), warm or copy.deepcopy(self.warm)
        # A pruner prepares the baseline, which is to be trained from given labels alone.
        task = replace(task or toys.copy_of(self.task), declared=frozenset(), verified_source=refuse)
        # The platform opens the phase around a pruner, so that pruners need not.
        with run.meter("select"):
            return self.pruner.select(task, warm, self.keep, run), run


def _has_the_interface(case: PrunerCase) -> None:
    check_component(case.pruner, Pruner)


def _keeps_the_fraction(case: PrunerCase) -> None:
    selection, _ = case.first
    # Rounded as in the plan, which forecasts the training on the kept samples.
    wanted, index = round(case.keep * len(case.task.train)), selection.index
    if len(index) != wanted:
        raise CheckFailed(f"of {len(case.task.train)} samples with keep={case.keep:g} it keeps {len(index)}, not {wanted}")
    if len(index.unique()) != len(index) or not bool(torch.isin(index, case.task.train.index).all()):
        raise CheckFailed("its index contains a sample twice, or one outside the training set (indices refer to the universe)")
    if len(selection.score) != len(case.task.train):
        raise CheckFailed(f"it scores {len(selection.score)} samples; the training set has {len(case.task.train)}")


def _is_deterministic(case: PrunerCase) -> None:
    one, other = case.first[0], case.select()[0]
    # In the same order, because the index is stored as it is.
    if not torch.equal(one.index, other.index):
        raise CheckFailed("it selects other samples when it is rerun")


def _modifies_no_input(case: PrunerCase) -> None:
    warm, task = copy.deepcopy(case.warm), toys.copy_of(case.task)
    with global_randomness("select()"):
        case.select(warm, task)
    # Compared with the case's own, which no run has seen: a repeated change would not show between two runs on one network.
    same_bits(toys.weights(case.warm.model), toys.weights(warm.model), "the given network was modified")
    same_bits(case.warm.per_sample, warm.per_sample, "a table of the given network was modified")
    same_samples(case.task, task)


PRUNER_CHECKS: tuple[Check[PrunerCase], ...] = (
    Check("it is a frozen dataclass with the interface of a pruner", _has_the_interface),
    Check("it keeps the requested fraction and scores every sample", _keeps_the_fraction),
    Check("the same seed keeps the same samples", _is_deterministic),
    Check("it does not modify the given network and samples, nor torch's global generator", _modifies_no_input),
)

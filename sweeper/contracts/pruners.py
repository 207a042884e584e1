"""What every pruner promises, on a small task. See `sweeper.contracts.common`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch

from sap_core.api import Fitted, Pruner, Selection, Task
from sap_core.run import PlainRun
from sweeper.contracts import toys
from sweeper.contracts.common import CheckFailed, Promise, check_component, global_randomness, refuse, same_bits


@dataclass(frozen=True, eq=False)
class PrunerCase:
    """A pruner, with a network trained on all samples."""

    pruner: Pruner
    warm: Fitted
    task: Task
    keep: float = 0.3

    @cached_property
    def first(self) -> tuple[Selection, PlainRun]:
        """What it keeps, and its run."""
        return self.select()

    def select(self) -> tuple[Selection, PlainRun]:
        """Selects once, told the given labels and nothing else."""
        run = PlainRun()
        task = replace(self.task, declared=frozenset(), verified_source=refuse)
        with run.meter("select"):
            return self.pruner.select(task, self.warm, self.keep, run), run


def _pruner_is_a_part(case: PrunerCase) -> None:
    check_component(case.pruner, Pruner)


def _keeps_the_share(case: PrunerCase) -> None:
    selection, _ = case.first
    wanted, index = round(case.keep * len(case.task.train)), selection.index
    if len(index) != wanted:
        raise CheckFailed(f"of {len(case.task.train)} samples and keep={case.keep:g} it keeps {len(index)}, not {wanted}")
    if len(index.unique()) != len(index) or not bool(torch.isin(index, case.task.train.index).all()):
        raise CheckFailed("its index names a sample twice, or one that is not in the training set (positions are those of the universe)")
    if len(selection.score) != len(case.task.train):
        raise CheckFailed(f"it scores {len(selection.score)} samples; the training set has {len(case.task.train)}")


def _selects_twice_alike(case: PrunerCase) -> None:
    one, other = case.first[0], case.select()[0]
    if not torch.equal(one.index, other.index):
        raise CheckFailed("it keeps other samples when it is run again")


def _pruner_leaves_alone(case: PrunerCase) -> None:
    before, labels = toys.weights(case.warm.model), case.task.train.labels.clone()
    with global_randomness("select()"):
        case.select()
    same_bits(before, toys.weights(case.warm.model), "the network that it was given was changed")
    if not torch.equal(labels, case.task.train.labels):
        raise CheckFailed("the given labels were changed in place")


PRUNER: tuple[Promise[PrunerCase], ...] = (
    Promise("it is a frozen dataclass that offers what a pruner must", _pruner_is_a_part),
    Promise("it keeps the share that is asked for and scores every sample", _keeps_the_share),
    Promise("the same seed keeps the same samples", _selects_twice_alike),
    Promise("the network that it is given, the labels and global randomness are left alone", _pruner_leaves_alone),
)

"""Retrain: the baseline's recipe from scratch on correctly labelled samples only, an upper bound at the cost of a complete training.

Source: the "Retrain" rows of the paper's tables. Deviation: the released script, read literally, would train on the full set with true
labels; the tables' Retrain is a training on the correctly labelled part, and so is this one.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import nn

from baselines import sample_sources
from baselines.sample_sources import Source
from sap_core.api import BASELINE_TRAINER, FORGET_COUNT, RETAIN_COUNT, Need, Passes, Run, SampleCount, Sizes, Task, Trainer


@dataclass(frozen=True)
class Retrain:
    """Fits `recipe` to verified retain samples, starting from the baseline's own initialisation.

    `model` is used only to score samples (`source` = "scored").
    """

    name: ClassVar[str] = "retrain"
    version: ClassVar[int] = 1

    recipe: Trainer = field(metadata=BASELINE_TRAINER)
    num_retain: int | None = field(default=None, metadata=RETAIN_COUNT)  # None: all
    source: Source = "oracle"
    num_forget: SampleCount = field(default=None, metadata=FORGET_COUNT)  # source=identified: number of known wrong samples to leave out

    def __post_init__(self) -> None:
        sample_sources.check_counts("retrain", self.source, self.num_retain, self.num_forget, forgets=False)

    def needs(self) -> frozenset[Need]:
        return sample_sources.needs_of(self.source, Need.RETAIN)

    def selects_samples(self) -> bool:
        return self.source == "scored"

    def family(self) -> Hashable:
        # Trainings on different samples share no work.
        return self.computation()

    def computation(self) -> Hashable:
        """All fields that change the result."""
        return ("retrain", self.recipe, self.num_retain, self.num_forget, self.source)

    @classmethod
    def correct(cls, settings: Sequence[Retrain], model: nn.Module, task: Task, run: Run) -> Iterator[tuple[int, nn.Module]]:
        """One fit, which resumes from `run.saved_state()` as the trainer does; yielded for every setting of the family."""
        first = settings[0]
        retain = sample_sources.retain_samples(first, model, task, run)
        # Nothing verified is declared to the recipe: it gets samples and labels, as for the baseline.
        clean = replace(task, train=retain, declared=frozenset())
        # The recipe builds network 0, as the baseline's training did: the two differ in their samples only.
        fitted = first.recipe.fit(clean, run).model.eval()
        for position in range(len(settings)):
            yield position, fitted

    @classmethod
    def forecast(cls, settings: Sequence[Retrain], sizes: Sizes) -> Passes:
        """The recipe's passes; with `num_retain` None those over the complete training set, an upper bound."""
        first = settings[0]
        return sample_sources.scoring_passes(first, sizes) + first.recipe.forecast(
            replace(sizes, train=sample_sources.expected_counts(first, sizes, forgets=False)[0])
        )

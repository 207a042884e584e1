"""CF-k, catastrophic forgetting of the last k layers: training of these layers continues on correctly labelled samples.

Source: Goel, Prabhu, Sanyal, Lim, Torr and Kumaraguru, "Towards adversarial evaluations for inexact machine unlearning" (catastrophic
forgetting of the last k layers), as in the corrective unlearning benchmark (Goel et al. 2024): gradient descent with momentum 0.9 and
weight decay 5e-4 on the retain samples, the frozen layers in evaluation mode.

Deviations: a constant rate, so that fewer epochs are a prefix of more (the benchmark counts steps and decays the rate linearly); the
definition of a layer (see `last_layers`); images are not augmented by default.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import ClassVar

from torch import nn

from baselines import sample_sources
from baselines.finetune import finetune_on
from baselines.last_layers import all_but_last
from baselines.sample_sources import Source
from baselines.trajectory import Trajectory
from sap_core.api import FORGET_COUNT, RETAIN_COUNT, Need, Passes, Run, SampleCount, Sizes, Task, TaskType
from sap_core.errors import at_least
from trainers import optim


@dataclass(frozen=True)
class CFk:
    """Gradient descent on retain samples over the weights of the last `k` layers."""

    name: ClassVar[str] = "cf_k"
    version: ClassVar[int] = 1

    k: int = 2
    learning_rate: float = 1.0e-2
    epochs: int = 10
    batch_size: int = 64
    momentum: float = 0.9
    weight_decay: float = 5.0e-4
    num_retain: int = field(default=5000, metadata=RETAIN_COUNT)
    augment: bool = False
    source: Source = "oracle"
    num_forget: SampleCount = field(default=None, metadata=FORGET_COUNT)  # source=identified: number of known wrong samples to leave out

    def __post_init__(self) -> None:
        sample_sources.check_counts("cf_k", self.source, self.num_retain, self.num_forget, forgets=False)
        at_least("cf_k", 1, k=self.k, epochs=self.epochs, batch_size=self.batch_size)

    def needs(self) -> frozenset[Need]:
        return sample_sources.needs_of(self.source, Need.RETAIN)

    def selects_samples(self) -> bool:
        return self.source == "scored"

    def refuse(self, kind: TaskType, network: nn.Module) -> None:
        """Raises UserError where the network has fewer than k layers, or all parameters of the last k are frozen by the network."""
        # Found when the sweep is planned, before anything is trained.
        optim.trainable(all_but_last(network, self.k, "cf_k").trainable(network))

    def family(self) -> Hashable:
        """All fields but the epochs; a batch size above the size of the set equals that size."""
        return ("cf_k", *astuple(replace(self, epochs=1, batch_size=sample_sources.effective_batch_size(self.batch_size, self.num_retain))))

    def computation(self) -> Hashable:
        return (self.family(), self.epochs)

    @classmethod
    def correct(cls, settings: Sequence[CFk], model: nn.Module, task: Task, run: Run) -> Iterator[tuple[int, nn.Module]]:
        """Trains one trajectory and yields each setting's network at its last epoch."""
        first = settings[0]
        frozen = all_but_last(model, first.k, "cf_k")
        retain = sample_sources.retain_samples(first, model, task, run)
        # Weights and running statistics of the frozen layers stay as they are, so the last k layers always meet the noisy network's
        # features.
        yield from finetune_on(settings, Trajectory.start(model, first.momentum, first.weight_decay, frozen), retain, task, run)

    @classmethod
    def forecast(cls, settings: Sequence[CFk], sizes: Sizes) -> Passes:
        """The passes of the longest setting. Backward passes are counted in full, although they end at the last frozen layer."""
        passes = sample_sources.expected_counts(settings[0], sizes, forgets=False)[0] * max(setting.epochs for setting in settings)
        return sample_sources.scoring_passes(settings[0], sizes) + Passes(forwards=passes, backwards=passes)

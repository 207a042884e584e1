"""EU-k, exact unlearning of the last k layers: these layers are re-initialised and trained on correctly labelled samples.

Source: Goel, Prabhu, Sanyal, Lim, Torr and Kumaraguru, "Towards adversarial evaluations for inexact machine unlearning" (exact unlearning
of the last k layers), as in the corrective unlearning benchmark (Goel et al. 2024). It differs from `cf_k` in the initialisation only.

The fresh layers are those of a complete fresh network of the run (`Task.build`), norms with their running statistics included. Biases of
convolutions and linear layers are zero, as in the benchmark (`initialize_weights` in its `utils.py` at 0a65bed).

Deviations: those of `cf_k`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import ClassVar

from torch import nn

from baselines import sample_sources
from baselines.finetune import finetune_on
from baselines.last_layers import Frozen, all_but_last
from baselines.sample_sources import Source
from baselines.trajectory import Trajectory
from sap_core.api import FORGET_COUNT, RETAIN_COUNT, Need, Passes, Run, SampleCount, Sizes, Task, TaskType
from sap_core.errors import at_least
from sap_core.models.copies import copied
from sap_core.models.ensemble import Ensemble
from trainers import optim

_WITH_ZERO_BIAS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def reinitialised(model: nn.Module, frozen: Frozen, task: Task) -> nn.Module:
    """Returns a copy of `model` whose parameters and buffers that are not `frozen` are those of an untrained network."""
    # The first networks of a run are those of the baseline, whose initialisation would not be a fresh one.
    used = len(model.nets) if isinstance(model, Ensemble) else 1
    # Each network of an ensemble gets an initialisation of its own.
    fresh = Ensemble([task.build(used + k) for k in range(used)]) if isinstance(model, Ensemble) else task.build(used)
    copy = copied(model)
    # What the network itself has frozen is never trained, so it stays, too.
    kept = {name for name, parameter in model.named_parameters() if name in frozen.parameters or not parameter.requires_grad}
    # Running statistics of frozen norms stay with their weights; those of the fresh layers start over, as resetting does in the benchmark.
    whole = {name for name, module in model.named_modules() if _is_frozen(module)} | frozen.modules
    kept |= {name for name, _ in model.named_buffers() if name.rpartition(".")[0] in whole}
    # Not strict, because the names that are kept are left out on purpose.
    copy.load_state_dict({name: value for name, value in fresh.state_dict().items() if name not in kept}, strict=False)
    for name, module in copy.named_modules():
        if isinstance(module, _WITH_ZERO_BIAS) and module.bias is not None and f"{name}.bias" not in kept:
            nn.init.zeros_(module.bias)
    return copy


def _is_frozen(module: nn.Module) -> bool:
    own = list(module.parameters(recurse=False))
    return bool(own) and not any(parameter.requires_grad for parameter in own)


@dataclass(frozen=True)
class EUk:
    """Gradient descent on retain samples over the last `k` layers, from a fresh initialisation of these."""

    name: ClassVar[str] = "eu_k"
    version: ClassVar[int] = 2  # 2: biases start at zero

    k: int = 2
    learning_rate: float = 1.0e-2
    epochs: int = 50
    batch_size: int = 64
    momentum: float = 0.9
    weight_decay: float = 5.0e-4
    num_retain: int = field(default=5000, metadata=RETAIN_COUNT)
    augment: bool = False
    source: Source = "oracle"
    num_forget: SampleCount = field(default=None, metadata=FORGET_COUNT)  # source=identified: number of known wrong samples to leave out

    def __post_init__(self) -> None:
        sample_sources.check_counts("eu_k", self.source, self.num_retain, self.num_forget, forgets=False)
        at_least("eu_k", 1, k=self.k, epochs=self.epochs, batch_size=self.batch_size)

    def needs(self) -> frozenset[Need]:
        return sample_sources.needs_of(self.source, Need.RETAIN)

    def selects_samples(self) -> bool:
        return self.source == "scored"

    def refuse(self, kind: TaskType, network: nn.Module) -> None:
        """Raises UserError where the network has fewer than k layers, or all parameters of the last k are frozen by the network."""
        optim.trainable(all_but_last(network, self.k, "eu_k").trainable(network))

    def family(self) -> Hashable:
        """All fields but the epochs; a batch size above the size of the set equals that size."""
        return ("eu_k", *astuple(replace(self, epochs=1, batch_size=sample_sources.effective_batch_size(self.batch_size, self.num_retain))))

    def computation(self) -> Hashable:
        return (self.family(), self.epochs)

    @classmethod
    def correct(cls, settings: Sequence[EUk], model: nn.Module, task: Task, run: Run) -> Iterator[tuple[int, nn.Module]]:
        """Trains one trajectory from the re-initialised network and yields each setting's network at its last epoch."""
        first = settings[0]
        frozen = all_but_last(model, first.k, "eu_k")
        retain = sample_sources.retain_samples(first, model, task, run)
        trajectory = Trajectory.start(reinitialised(model, frozen, task), first.momentum, first.weight_decay, frozen)
        yield from finetune_on(settings, trajectory, retain, task, run)

    @classmethod
    def forecast(cls, settings: Sequence[EUk], sizes: Sizes) -> Passes:
        """The passes of the longest setting. Backward passes are counted in full, although they end at the last frozen layer."""
        passes = sample_sources.expected_counts(settings[0], sizes, forgets=False)[0] * max(setting.epochs for setting in settings)
        return sample_sources.scoring_passes(settings[0], sizes) + Passes(forwards=passes, backwards=passes)

"""The one epoch loop: batches in, steps, a learning rate per epoch, meters, and a state from which a run continues bit for bit.

A method hands over a `Training`: how an epoch's batches are made, what a step does with one, and the `TrainingState` that change on the way. What
a batch is (one mini-batch, a pair of them, one network's share of the work) is the method's affair; the loop only passes it on.
Whoever runs a network books its passes with `run.meter.count`.

Everything random comes from the `EpochContext`'s stream, which is keyed by the epoch; so an epoch does not depend on what was drawn before it,
and a run that is stopped in the middle of an epoch repeats that epoch whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sap_core.api import Run, State
from sap_core.seeding import Stream
from trainers import optim

B = TypeVar("B")


@dataclass(frozen=True)
class EpochContext:
    """Where a run stands: the epoch (from 1) and the stream for all that is drawn here."""

    epoch: int
    rng: Stream


@dataclass(frozen=True)
class StepReport:
    """What one step says of itself: how many samples it saw, sums over them ("loss", ...), and the universe positions it trusted."""

    samples: int
    sums: Mapping[str, Tensor]  # tensors without dimensions, left on their device
    kept: Tensor | None = None


@dataclass(frozen=True)
class EpochTotals:
    """The reports of one pass over the batches, together; `means` are per sample."""

    samples: int
    means: dict[str, float]
    kept: Tensor | None


@dataclass(frozen=True)
class EpochEnd:
    """What a method says at an epoch's end: whether to stop here, and further scalars for the curve."""

    stop: bool = False
    scalars: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingState:
    """Everything that changes while a run trains, by name: this, and the epoch, is what is saved and restored.

    `tables` are tensors that steps change in place: per-sample state (universe, ...), running thresholds.
    """

    models: Mapping[str, nn.Module]
    optimisers: Mapping[str, Optimizer] = field(default_factory=dict)
    tables: Mapping[str, Tensor] = field(default_factory=dict)

    def state(self) -> State:
        """A copy of everything, in plain dicts of tensors and numbers."""
        return {
            "models": {name: {key: value.clone() for key, value in model.state_dict().items()} for name, model in self.models.items()},
            "optimisers": {name: optim.state_of(optimiser) for name, optimiser in self.optimisers.items()},
            "tables": {name: table.clone() for name, table in self.tables.items()},
        }

    def load(self, state: State) -> None:
        """Takes over what `state()` gave."""
        for name, model in self.models.items():
            model.load_state_dict(state["models"][name])
        for name, optimiser in self.optimisers.items():
            optim.load_state(optimiser, state["optimisers"].get(name, {}))
        for name, table in self.tables.items():
            table.copy_(state["tables"][name])


def train_on(context: EpochContext, totals: EpochTotals) -> EpochEnd:
    """The end of an epoch for a method that trains all of them."""
    return EpochEnd()


@dataclass(frozen=True)
class Training(Generic[B]):
    """One whole training, as the loop sees it."""

    model: nn.Module  # what the caller evaluates at each epoch's end
    parts: TrainingState
    batches: Callable[[EpochContext], Iterable[B]]  # one epoch's; a generator may do an epoch's preparation before its first batch
    step: Callable[[B, EpochContext], StepReport]
    rate: Callable[[int], float]  # learning rate of an epoch, asked for at its start, for every optimiser of the parts
    finish: Callable[[EpochContext, EpochTotals], EpochEnd] = train_on  # may look at the pass's means


def one_pass(
    batches: Iterable[B], step: Callable[[B, EpochContext], StepReport], context: EpochContext, device: torch.device
) -> EpochTotals:
    """Steps through `batches`. Layers that use torch's global generator (dropout) draw from the context's stream, too."""
    samples = 0
    sums: dict[str, Tensor] = {}
    kept: list[Tensor] = []
    with context.rng.child("layers").scope(device):
        for number, batch in enumerate(batches):
            report = step(batch, EpochContext(context.epoch, context.rng.child("step", number)))
            samples += report.samples
            for name, value in report.sums.items():
                sums[name] = sums.get(name, 0) + value.detach().double()
            if report.kept is not None:
                kept.append(report.kept)
    means = {name: float(value) / max(samples, 1) for name, value in sums.items()}  # the pass's only wait for the device
    return EpochTotals(samples, means, torch.cat(kept) if kept else None)


def train(training: Training[B], epochs: int, rng: Stream, run: Run, device: torch.device) -> None:
    """Trains up to `epochs` epochs, from where `run.saved_state()` left off; models are put into train mode at each epoch's start.

    The curve gets the pass's means, the learning rate and the scalars of `finish`. A step that wants a model in eval mode says so itself.

    Raises:
        Stopped: by `run.end_epoch`, after it stored the state.
    """
    done, stop = 0, False
    saved = run.saved_state()
    if saved is not None:
        training.state.load(saved["state"])
        done, stop = int(saved["epoch"]), bool(saved["stop"])
    for epoch in range(done + 1, epochs + 1):
        if stop:
            return
        context = EpochContext(epoch, rng.child(epoch))
        rate = training.rate(epoch)
        for optimiser in training.state.optimisers.values():
            optim.set_rate(optimiser, rate)
        for model in training.state.models.values():
            model.train()
        with run.meter("train"):
            totals = one_pass(training.batches(context), training.step, context, device)
            end = training.finish(context, totals)
        stop = end.stop
        scalars = {**totals.means, "learning_rate": rate, **end.scalars}
        run.end_epoch(epoch, training.model, _state_at(training.state, epoch, stop), totals.kept, **scalars)


def _state_at(parts: TrainingState, epoch: int, stop: bool) -> Callable[[], State]:
    """The state after `epoch`, made when it is asked for (most epochs store none)."""
    return lambda: {"epoch": epoch, "stop": int(stop), "parts": parts.state()}

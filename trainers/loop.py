"""Epoch loop of all trainers: steps over batches, a learning rate per epoch, cost metering, and bit-exact resumption.

A trainer passes a `Training`: how to make an epoch's batches, what a step does with one, and the `TrainingState` that steps change. The
loop does not look into a batch, so it may be one mini-batch, a pair of them, or one network's share of the work. Whoever runs a network
counts its passes with `run.meter.count`.

All random numbers come from the stream of the `EpochContext`, which is keyed by the epoch. So an epoch does not depend on what was drawn
before it, and a run that was stopped in the middle of an epoch repeats that epoch from its start.
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
    """The epoch (from 1) and the stream from which everything random in it is drawn. A step gets one with a stream of its own."""

    epoch: int
    rng: Stream


@dataclass(frozen=True)
class StepReport:
    """Result of one step: number of samples, sums over them ("loss", ...), and the universe positions of the samples it trusted."""

    samples: int
    sums: Mapping[str, Tensor]  # zero-dimensional, left on their device: reading them at every step would make the GPU wait
    kept: Tensor | None = None


@dataclass(frozen=True)
class EpochTotals:
    """Step reports of one pass over the batches, added up; `means` are per sample."""

    samples: int
    means: dict[str, float]
    kept: Tensor | None


@dataclass(frozen=True)
class EpochEnd:
    """Decision at the end of an epoch: whether to stop training, and further scalars for the training curve."""

    stop: bool = False
    scalars: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingState:
    """Everything that training changes, by name. Checkpoints hold this and the epoch.

    `tables` are tensors that steps change in place: per-sample state of length `universe`, running thresholds, counters.
    """

    models: Mapping[str, nn.Module]
    optimisers: Mapping[str, Optimizer] = field(default_factory=dict)
    tables: Mapping[str, Tensor] = field(default_factory=dict)

    def state_dict(self) -> State:
        """Returns a copy of everything as plain dicts of tensors and numbers."""
        # Copies: a state dict refers to live tensors, which the next step changes.
        return {
            "models": {name: {key: value.clone() for key, value in model.state_dict().items()} for name, model in self.models.items()},
            "optimisers": {name: optim.state_of(optimiser) for name, optimiser in self.optimisers.items()},
            "tables": {name: table.clone() for name, table in self.tables.items()},
        }

    def load_state_dict(self, state: State) -> None:
        """Restores what `state_dict()` returned."""
        for name, model in self.models.items():
            model.load_state_dict(state["models"][name])
        for name, optimiser in self.optimisers.items():
            # An optimiser without memory (no momentum, or before its first step) leaves no entry in the file.
            optim.load_state(optimiser, state["optimisers"].get(name, {}))
        for name, table in self.tables.items():
            # In place, because steps hold references to these tensors.
            table.copy_(state["tables"][name])


def never_stop(context: EpochContext, totals: EpochTotals) -> EpochEnd:
    """The default `finish` of a `Training`, which trains all epochs."""
    return EpochEnd()


@dataclass(frozen=True)
class Training(Generic[B]):
    """One training run, as `train` executes it."""

    model: nn.Module  # passed to `run.end_epoch`, which may evaluate it
    state: TrainingState
    batches: Callable[[EpochContext], Iterable[B]]  # of one epoch; a generator may prepare the epoch before its first batch
    step: Callable[[B, EpochContext], StepReport]
    rate: Callable[[int], float]  # the learning rate of an epoch, set for all optimisers at its start
    finish: Callable[[EpochContext, EpochTotals], EpochEnd] = never_stop


def one_pass(
    batches: Iterable[B], step: Callable[[B, EpochContext], StepReport], context: EpochContext, device: torch.device
) -> EpochTotals:
    """Runs `step` on every batch and adds up the reports."""
    samples = 0
    sums: dict[str, Tensor] = {}
    kept: list[Tensor] = []
    # Dropout draws from torch's global generator; inside the scope that generator is seeded from the epoch's stream.
    with context.rng.child("layers").scope(device):
        for number, batch in enumerate(batches):
            # A stream for each step, so that its draws do not depend on how many numbers the steps before it took.
            report = step(batch, EpochContext(context.epoch, context.rng.child("step", number)))
            samples += report.samples
            for name, value in report.sums.items():
                # In float64: an epoch adds up thousands of terms.
                sums[name] = sums.get(name, 0) + value.detach().double()
            if report.kept is not None:
                kept.append(report.kept)
    # The only synchronisation with the device in a pass.
    means = {name: float(value) / max(samples, 1) for name, value in sums.items()}
    return EpochTotals(samples, means, torch.cat(kept) if kept else None)


def train(training: Training[B], epochs: int, rng: Stream, run: Run, device: torch.device) -> None:
    """Trains up to `epochs` epochs, continuing from `run.saved_state()` where there is one.

    All models are put into train mode at the start of each epoch; a step that needs evaluation mode sets it itself. The training curve
    gets the means of the pass, the learning rate, and the scalars that `finish` returns.

    Raises:
        Stopped: by `run.end_epoch`, after it has stored the state.
    """
    done, stop = 0, False
    saved = run.saved_state()
    if saved is not None:
        training.state.load_state_dict(saved["state"])
        # The decision to stop is stored with the epoch: a training that ended early must not go on when it is resumed.
        done, stop = int(saved["epoch"]), bool(saved["stop"])
    for epoch in range(done + 1, epochs + 1):
        if stop:
            return
        context = EpochContext(epoch, rng.child(epoch))
        # Set anew in every epoch, so checkpoints hold no rates.
        rate = training.rate(epoch)
        for optimiser in training.state.optimisers.values():
            optim.set_rate(optimiser, rate)
        # The end of the epoch before may have left evaluation mode behind.
        for model in training.state.models.values():
            model.train()
        # Whatever `finish` evaluates in order to stop, or to keep the best epoch, is a cost of the training.
        with run.meter("train"):
            totals = one_pass(training.batches(context), training.step, context, device)
            end = training.finish(context, totals)
        stop = end.stop
        scalars = {**totals.means, "learning_rate": rate, **end.scalars}
        # Outside the meter: storing and reporting are the caller's, not the method's.
        run.end_epoch(epoch, training.model, _state_after(training.state, epoch, stop), totals.kept, **scalars)


def _state_after(state: TrainingState, epoch: int, stop: bool) -> Callable[[], State]:
    """Returns a function that copies the state when it is called: most epochs store none, and a copy costs memory."""
    return lambda: {"epoch": epoch, "stop": int(stop), "state": state.state_dict()}

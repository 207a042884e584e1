"""SGD: training on the given labels by stochastic gradient descent, the recipe of the baseline and of all other trainers.

Source: SAP's released training script (SGD with Nesterov momentum 0.9, rate 0.01, weight decay 5e-4, batch 64, 350 epochs, crop and
flip). Deviations: `halve_every_11` is what that script's scheduler does in effect; `until_train_acc` is ours.

Other trainers have an `SGD` as their field `recipe` and replace one thing in it: the loss of a sample (`fit_losses`), the step on a
mini-batch (`fit_steps`), or the number of networks trained together (`fit_networks`). Optimiser, schedule, batches, early stopping and
checkpoints are implemented here only.

Shapes: B batch, N training samples, C outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeVar

from torch import Tensor, contiguous_format, nn
from torch.optim import Optimizer

from sap_core.api import Batch, Fitted, Passes, Run, Sizes, Task, TaskType
from sap_core.errors import UserError, at_least
from sap_core.models.ensemble import Ensemble
from sap_core.seeding import stream
from trainers import optim, ranges
from trainers.early_stopping import EarlyStopping, ReduceOnPlateau, given_accuracy
from trainers.learner import FORGOTTEN, ForgettingCounts, Learner, require_classes, require_hard_labels
from trainers.loop import EpochContext, EpochEnd, EpochTotals, StepReport, Training, TrainingState, train
from trainers.losses import loss_for, losses_for
from trainers.speed import Compile, Precision, Speed, make_forward
from trainers.target_trimming import num_trimmed, trimmed

B = TypeVar("B")

Step = Callable[[Learner, Batch, EpochContext], StepReport]
"""Step of a method on one mini-batch: forward and backward passes, optimiser step, report."""

Learners = tuple[Learner, ...]
"""Networks trained together, in the order in which the task builds them."""

Losses = Callable[[Tensor, Batch, EpochContext], Tensor]
"""(logits (B, C), mini-batch, context) -> (B,) losses whose mean is minimised."""

FLAT = {"flat": True}
"""Metadata of a field whose value is a dataclass and whose fields are written next to the owner's own in YAML, without a level."""


@dataclass(frozen=True)
class SGD:
    """Trains `task.build(0)` on `task.train` with cross-entropy (classification) or mean squared error (regression).

    With `until_train_acc` training stops at the first multiple of `check_every` epochs at which the network, in evaluation mode, reaches
    that accuracy on the given training labels (plain views); `epochs` remains the limit. The fixed interval keeps the cost of checking
    predictable: one forward pass over the training set each time.

    With `stop_patience` or `checkpoint="best"` the validation loss on given labels is computed after every epoch; the stop rule and the
    best-checkpoint rule are those of `trainers.early_stopping.EarlyStopping`.
    """

    name: ClassVar[str] = "sgd"
    version: ClassVar[int] = 1
    records_forgetting: ClassVar[bool] = True  # returned as `Fitted.per_sample[FORGOTTEN]` (classification, one network)

    epochs: int = 350
    optimiser: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9  # Adam's beta1
    nesterov: bool = True
    weight_decay: float = 5.0e-4
    batch_size: int = 64
    schedule: optim.Schedule = "halve_every_11"
    decay_epochs: tuple[int, ...] = ()  # for schedule="step": the last epochs before the rate changes, or
    decay_every: int | None = None  # for schedule="step": number of epochs between changes
    decay_rate: float = 0.1  # for schedule="step" and "plateau": the factor
    plateau_patience: int | None = None  # for schedule="plateau": epochs without improvement before the rate falls
    decay_after: int | None = None  # for schedule="linear": the last epoch at the full rate
    late_momentum: float | None = None  # for schedule="linear": the momentum after that epoch
    huber: float | None = None  # regression: residuals beyond this count linearly; None: squared error
    trim: float = 0.0  # regression: fraction of training samples, those with the most extreme given targets, to leave out
    until_train_acc: float | None = None
    check_every: int = 5
    stop_patience: int | None = None  # early stopping: epochs without improvement (5 in SAP's released script); None: off
    stop_delta: float = 0.0  # early stopping: tolerance above the lowest loss
    checkpoint: Literal["last", "best"] = "last"  # which epoch's weights are returned
    precision: Precision = "float32"  # of training only (trainers.speed); float32 is the reference
    compile: Compile = "none"
    channels_last: bool = False
    fused: bool = False  # one kernel per optimiser step

    def __post_init__(self) -> None:
        # A YAML list cannot be hashed.
        object.__setattr__(self, "decay_epochs", tuple(self.decay_epochs))
        self.training_speed.check("trainer")
        optim.check_schedule(self.schedule, "trainer", self.decay_epochs, self.decay_every, self.plateau_patience, self.decay_after)
        at_least("trainer", 1, epochs=self.epochs, batch_size=self.batch_size, check_every=self.check_every)
        at_least("trainer", 1, stop_patience=self.stop_patience)
        at_least("trainer", 0, weight_decay=self.weight_decay, stop_delta=self.stop_delta, until_train_acc=self.until_train_acc)
        ranges.check("trainer", "(0, 1]", decay_rate=self.decay_rate)
        # Above 1 it would never stop, and the training would go on to the last epoch without a word.
        ranges.check("trainer", "[0, 1]", until_train_acc=0.0 if self.until_train_acc is None else self.until_train_acc)
        ranges.check("trainer", "[0, 1)", trim=self.trim)
        ranges.check("trainer", "(0, inf)", learning_rate=self.learning_rate, huber=1.0 if self.huber is None else self.huber)
        ranges.check("trainer", "[0, 1)", momentum=self.momentum, late_momentum=self.late_momentum or 0.0)
        # From here on combinations: an option that the others would ignore is refused, so that no row names a setting that had no effect.
        if self.late_momentum is not None and self.schedule != "linear":
            raise UserError(f"trainer.late_momentum requires schedule=linear, but schedule={self.schedule}; set it to null")
        if self.optimiser == "adam" and self.nesterov:
            raise UserError("trainer.nesterov=true requires SGD, but trainer.optimiser=adam; set trainer.nesterov=false")
        if self.nesterov and self.momentum == 0:
            raise UserError(
                "trainer.nesterov=true requires momentum, but trainer.momentum=0; set trainer.nesterov=false or trainer.momentum=0.9"
            )
        if self.stop_delta and self.stop_patience is None:
            raise UserError(f"trainer.stop_delta={self.stop_delta:g} has no effect without early stopping; set trainer.stop_patience=5")

    @property
    def training_speed(self) -> Speed:
        """The options of precision, memory layout and compilation."""
        return Speed(self.precision, self.compile, self.channels_last, self.fused)

    def fit(self, task: Task, run: Run) -> Fitted:
        """Trains, or continues from `run.saved_state()`.

        Raises:
            UserError: an option does not apply to the task, or early stopping has no validation samples.
            Stopped: by `run.end_epoch`.
        """
        return self.fit_steps(task, run, plain_step, single_pass=True)

    def fit_losses(self, trainer: str, task: Task, run: Run, losses: Losses, tables: Mapping[str, Tensor] | None = None) -> Fitted:
        """Trains with `losses` in place of cross-entropy. `trainer` is the method's name for error messages.

        Raises:
            UserError: as `fit`, and for regression tasks and soft targets.
            Stopped: by `run.end_epoch`.
        """
        require_classes(task, trainer)

        def step(learner: Learner, batch: Batch, context: EpochContext) -> StepReport:
            require_hard_labels(batch, trainer)
            logits_BC = learner.forward(batch.inputs)
            loss = losses(logits_BC, batch, context).mean()
            learner.descend(loss, len(batch.labels))
            return learner.report(batch, loss, logits_BC)

        return self.fit_steps(task, run, step, tables, single_pass=True)

    def fit_steps(self, task: Task, run: Run, step: Step, tables: Mapping[str, Tensor] | None = None, single_pass: bool = False) -> Fitted:
        """Trains with `step` on every mini-batch. `tables` are tensors that steps change in place; they are part of each checkpoint.

        `single_pass` declares that each step makes one forward pass over its mini-batch and then descends; `compile` requires it.

        Raises:
            UserError: as `fit`, and `compile` is set for other steps.
            Stopped: by `run.end_epoch`.
        """

        def one(learners: Learners, batch: Batch, context: EpochContext) -> StepReport:
            return step(learners[0], batch, context)

        return self.fit_networks(1, task, run, one, tables, self.batches(task), single_pass=single_pass)

    def fit_networks(
        self,
        count: int,
        task: Task,
        run: Run,
        step: Callable[[Learners, B, EpochContext], StepReport],
        tables: Mapping[str, Tensor] | None,
        batches: Callable[[Learners, EpochContext], Iterable[B]],
        as_ensemble: bool = False,
        single_pass: bool = False,
    ) -> Fitted:
        """Trains `count` networks with different initialisations together, each with its own optimiser.

        `batches` makes the batches of an epoch, in any form that `step` accepts; `self.batches(task)` are the recipe's mini-batches.

        Returns the first network, or with `as_ensemble` all of them as an `Ensemble`. `until_train_acc`, early stopping, the best
        checkpoint and the training curve refer to the returned model. All networks are part of every checkpoint.

        Raises:
            UserError: as `fit`.
        """
        self._check_speed(task, single_pass)
        # Forgetting events are defined for classes and counted for one network.
        history = ForgettingCounts.start(task.train.universe, task.device) if count == 1 and task.kind == "classification" else None
        learners = tuple(self._learner(task, run, which, history) for which in range(count))
        self._refuse(task, learners[0].model)
        model = Ensemble([learner.model for learner in learners]) if as_ensemble else learners[0].model
        num_evaluated, loss_of = count if as_ensemble else 1, learners[0].loss
        plateau = (
            None if self.plateau_patience is None else ReduceOnPlateau.start(self.learning_rate, self.decay_rate, self.plateau_patience)
        )
        # Early stopping looks at the plain loss, whatever a trainer minimises, on given labels: true ones are out of a training's reach.
        validation = None
        if self._uses_validation():
            validation = EarlyStopping.start(model, task.val, loss_of, self.stop_patience, self.stop_delta, self.checkpoint == "best")

        def epoch(context: EpochContext) -> Iterable[B]:
            # From the epoch alone, so that a resumed training has it without a stored momentum.
            if self.late_momentum is not None and context.epoch > (self.decay_after or 0):
                for learner in learners:
                    optim.set_momentum(learner.optimiser, self.late_momentum)
            return batches(learners, context)

        def finish(context: EpochContext, totals: EpochTotals) -> EpochEnd:
            stop, scalars = False, {}
            if plateau is not None:
                plateau.update(totals.means["loss"])
            # At fixed epochs, so that the cost of checking is known in advance.
            if self.until_train_acc is not None and context.epoch % self.check_every == 0:
                scalars["given_acc"] = given_accuracy(model, task.train)
                run.meter.count(forwards=num_evaluated * len(task.train))
                stop = scalars["given_acc"] >= self.until_train_acc
            # The configuration has the share only; the curve has the number.
            if self.trim:
                scalars["num_trimmed"] = num_trimmed(len(task.train), self.trim)
            if validation is not None:
                out_of_patience, scalars["val_loss"] = validation.evaluate()
                run.meter.count(forwards=num_evaluated * len(task.val))
                # After the evaluation: the last epoch may be the best, whichever rule ends the training.
                stop = stop or out_of_patience
            return EpochEnd(stop, scalars)

        # Counters, lowest losses and best weights are part of the checkpoint: a resumed training stops and decays where an uninterrupted
        # one does.
        own_tables = {name: table for owner in (plateau, validation, history) if owner is not None for name, table in owner.tables.items()}
        training = Training(
            model,
            TrainingState(
                {network_key(which): learner.model for which, learner in enumerate(learners)},
                {network_key(which): learner.optimiser for which, learner in enumerate(learners)},
                {**(tables or {}), **own_tables},
            ),
            epoch,
            lambda batch, context: step(learners, batch, context),
            # Asked at the start of an epoch, when `finish` has recorded the loss of the one before.
            self.rate if plateau is None else lambda epoch: plateau.rate(),
            finish,
        )
        # TF32 is a switch of the whole process, so it is put back before anything is corrected or scored.
        with self.training_speed.tf32_mode():
            train(training, self.epochs, stream(task.seed, "train"), run, task.device)
        if validation is not None:
            validation.restore()
        # Corrections and scores are computed in the standard layout, whatever the layout of training.
        for learner in learners if self.channels_last else ():
            learner.model.to(memory_format=contiguous_format)
        return Fitted(model.eval(), {} if history is None else {FORGOTTEN: history.forgotten})

    def batches(self, task: Task) -> Callable[[Learners, EpochContext], Iterable[Batch]]:
        """Returns the recipe's mini-batches: one augmented view per epoch of every training sample that `trim` does not leave out."""
        # Once per fit: the given targets do not change between epochs.
        train = trimmed(task.train, self.trim)
        return lambda learners, context: train.batches(self.batch_size, context.rng, views=("augmented",))

    def rate(self, epoch: int) -> float:
        """Returns the learning rate of `epoch` (from 1) for schedules that depend on the epoch only."""
        options = (self.decay_epochs, self.decay_rate, self.decay_every, self.decay_after)
        return optim.rate_at(self.schedule, self.learning_rate, epoch, self.epochs, *options)

    def forecast(self, sizes: Sizes, forwards: int = 1, backwards: int = 1, num_evaluated: int = 1) -> Passes:
        """Returns the sample-passes of all epochs, for steps of `forwards` and `backwards` passes over each mini-batch.

        Included are the passes of `until_train_acc` and early stopping, which evaluate `num_evaluated` networks.
        """
        train_checks = 0 if self.until_train_acc is None else self.epochs // self.check_every
        val_checks = self.epochs if self._uses_validation() else 0
        # The accuracy that ends a training is that of all training samples, trimmed ones included.
        seen = self.epochs * self.num_train(sizes)
        return Passes(forwards * seen + num_evaluated * (train_checks * sizes.train + val_checks * sizes.val), backwards * seen)

    def num_train(self, sizes: Sizes) -> int:
        """Returns the number of training samples of an epoch."""
        return sizes.train - num_trimmed(sizes.train, self.trim)

    def _learner(self, task: Task, run: Run, which: int, history: ForgettingCounts | None) -> Learner:
        model = task.build(which).to(task.device)
        # An input is needed, because which feature maps are small depends on the size of the images.
        if self.training_speed.channels_last:
            self.training_speed.set_memory_format(model, next(iter(task.train.batches(2))).inputs)
        if self.optimiser == "adam":
            optimiser: Optimizer = optim.adam(model.parameters(), self.learning_rate, self.momentum, self.weight_decay, self.fused)
        else:
            optimiser = optim.sgd(model.parameters(), self.learning_rate, self.momentum, self.weight_decay, self.nesterov, self.fused)
        loss, each = loss_for(task.kind, self.huber), losses_for(task.kind, self.huber)
        # Wraps the pass only: state dicts, checkpoints and corrections see the plain network.
        call = make_forward(model, self.training_speed, self.batch_size)
        return Learner(model, optimiser, loss, task.kind == "classification", run.meter, each, history, call)

    def _check_speed(self, task: Task, single_pass: bool) -> None:
        self.training_speed.check_device(task.device)
        # A recorded pass overwrites its outputs at the next call, so a step with two passes would descend on the wrong ones.
        if self.compile != "none" and not single_pass:
            raise UserError(
                f"trainer.compile={self.compile} supports only trainers whose step makes one pass over its mini-batch; use "
                "trainer.compile=none (precision, channels_last and fused work for all trainers)"
            )

    def _uses_validation(self) -> bool:
        return self.stop_patience is not None or self.checkpoint == "best"

    def refuse(self, kind: TaskType, network: nn.Module) -> None:
        """Raises UserError for options that do not apply to this type of task, and for a network without trainable parameters."""
        optim.refuse_frozen(network.parameters())
        if self.until_train_acc is not None and kind != "classification":
            raise UserError(
                "trainer.until_train_acc requires a classification, but this task is a regression; set trainer.until_train_acc=null"
            )
        if kind == "classification" and (self.trim or self.huber is not None):
            raise UserError(
                "trainer.trim and trainer.huber require a regression, but this task is a classification; "
                "set trainer.trim=0 and trainer.huber=null"
            )

    def _refuse(self, task: Task, network: nn.Module) -> None:
        self.refuse(task.kind, network)
        if self._uses_validation() and len(task.val) == 0:
            raise UserError(
                "trainer.stop_patience and trainer.checkpoint=best need validation samples, but this task has none; "
                "set trainer.stop_patience=null and trainer.checkpoint=last"
            )


def network_key(which: int) -> str:
    """Returns the key in checkpoints of the network with index `which` and of its optimiser."""
    # The first network's key has no number, so that a training of one network stores it under the plain name.
    return f"net{which}" if which else "net"


def plain_step(learner: Learner, batch: Batch, context: EpochContext) -> StepReport:
    """Makes one step along the gradient of the mean loss."""
    outputs_BC = learner.forward(batch.inputs)
    loss = learner.loss(outputs_BC, batch.labels)
    learner.descend(loss, len(batch.labels))
    return learner.report(batch, loss, outputs_BC)

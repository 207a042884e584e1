"""Optimisers, their state as plain tensors, and learning rate schedules.

The rate is a pure function of the epoch (counted from 1), so a resumed run has the same rates, and so has a shorter one wherever the
schedule does not depend on the number of epochs. The exception is `plateau`, which follows the training loss and has a state
(`trainers.early_stopping.ReduceOnPlateau`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

from sap_core.api import State
from sap_core.errors import UserError, at_least, unknown
from trainers.fused import FusedSGD

Schedule = Literal["constant", "halve_every_11", "cosine", "step", "linear", "plateau"]
SCHEDULES: tuple[str, ...] = get_args(Schedule)


def constant(base: float, epoch: int) -> float:
    """The same rate in every epoch."""
    return base


def halve_every_11(base: float, epoch: int) -> float:
    """Halves the rate after epochs 12, 23, 34, ..., which is what SAP's released training script does.

    The script steps torch's ReduceLROnPlateau(mode="max", factor=0.5, patience=10) with the training loss. The loss falls, so the first
    epoch remains the best one and the rate is halved every 11 epochs. torch stops halving at 2e-8, where weights no longer move; this
    schedule does not.
    """
    # The first epoch is the best; patience 10 is exceeded by the 11th without improvement, epoch 12, and again 11 epochs later.
    return base * 0.5 ** (max(epoch - 2, 0) // 11)


def cosine(base: float, epoch: int, epochs: int) -> float:
    """Falls from `base` in the first epoch along half a cosine; it would reach 0 in the epoch after the last of `epochs`."""
    return base * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / epochs))


def step(base: float, epoch: int, decay_epochs: Sequence[int], decay_rate: float) -> float:
    """`base` times `decay_rate` for every decay epoch before `epoch` (strictly: a decay at 3 acts from epoch 4)."""
    return base * decay_rate ** sum(epoch > decay for decay in decay_epochs)


def step_every(base: float, epoch: int, every: int, decay_rate: float) -> float:
    """`base` times `decay_rate` after every `every` epochs: torch's StepLR, the released script's --step-schedule."""
    return base * decay_rate ** ((epoch - 1) // every)


def linear(base: float, epoch: int, epochs: int, after: int) -> float:
    """`base` up to and including epoch `after` + 1, then in equal steps towards 0, which would be reached after the last of `epochs`.

    Co-teaching's released schedule (Han et al., NeurIPS 2018).
    """
    return base if epoch <= after else base * (epochs + 1 - epoch) / (epochs - after)


def check_schedule(
    schedule: str,
    where: str,
    decay_epochs: Sequence[int] = (),
    decay_every: int | None = None,
    plateau_patience: int | None = None,
    decay_after: int | None = None,
) -> None:
    """Checks that a schedule is known and that exactly its own options are set.

    Raises:
        UserError: the schedule is unknown, an option that it needs is missing, or one is set that it would ignore.
    """
    if schedule not in SCHEDULES:
        raise unknown("schedule", schedule, SCHEDULES, where)
    # Each option is required by its schedule and refused with any other, which would ignore it.
    at_least(where, 0, decay_after=decay_after)
    if (schedule == "linear") != (decay_after is not None):
        raise UserError(
            f"{where}.decay_after (the last epoch at the full rate) and schedule=linear require each other, but schedule={schedule} and "
            f"decay_after={'null' if decay_after is None else decay_after}; set both or neither"
        )
    at_least(where, 1, decay_every=decay_every, plateau_patience=plateau_patience, decay_epochs=min(decay_epochs, default=None))
    if schedule == "step" and bool(decay_epochs) == (decay_every is not None):
        raise UserError(f"{where}.schedule=step needs either decay_epochs (a list of epochs) or decay_every (a number of epochs); set one")
    if schedule == "plateau" and plateau_patience is None:
        raise UserError(
            f"{where}.schedule=plateau needs plateau_patience, the epochs without improvement before the rate falls; set it to 10"
        )
    if schedule != "step" and (decay_epochs or decay_every is not None):
        raise UserError(f"{where}.decay_epochs and decay_every require schedule=step, but schedule={schedule}; leave them empty")
    if schedule != "plateau" and plateau_patience is not None:
        raise UserError(f"{where}.plateau_patience requires schedule=plateau, but schedule={schedule}; set it to null")


def rate_at(
    schedule: Schedule,
    base: float,
    epoch: int,
    epochs: int,
    decay_epochs: Sequence[int],
    decay_rate: float,
    decay_every: int | None = None,
    decay_after: int | None = None,
) -> float:
    """Returns the learning rate of `epoch` under the named schedule.

    Raises:
        ValueError: the schedule is plateau, whose rate depends on the losses.
    """
    if schedule == "plateau":
        raise ValueError("the rate of schedule 'plateau' is not a function of the epoch")
    if schedule == "linear":
        return linear(base, epoch, epochs, decay_after or 0)
    if schedule == "constant":
        return constant(base, epoch)
    if schedule == "halve_every_11":
        return halve_every_11(base, epoch)
    if schedule == "cosine":
        return cosine(base, epoch, epochs)
    # Schedule step has two forms; `check_schedule` has seen to it that one is given.
    return step(base, epoch, decay_epochs, decay_rate) if decay_every is None else step_every(base, epoch, decay_every, decay_rate)


def refuse_frozen(parameters: Iterable[Tensor]) -> None:
    """Refuses a network without parameters that ask for gradients; looks at no more of them than it needs.

    Raises:
        UserError: all are frozen.
    """
    if not any(parameter.requires_grad for parameter in parameters):
        trainable(())


def trainable(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Returns the parameters that ask for gradients; the others are frozen, and stay as they are.

    Raises:
        UserError: all are frozen.
    """
    wanted = [parameter for parameter in parameters if parameter.requires_grad]
    if not wanted:
        raise UserError(
            "nothing can be trained, because every parameter that would be is frozen (requires_grad=False); do not freeze all of them in "
            "the network's constructor, or use trainer=given and methods that do not train, such as sap"
        )
    return wanted


def sgd(
    parameters: Iterable[Tensor], rate: float, momentum: float, weight_decay: float, nesterov: bool = False, fused: bool = False
) -> SGD:
    """Stochastic gradient descent on the parameters that ask for gradients. `fused`: a step as one kernel, equal but for rounding."""
    wanted = trainable(parameters)
    kind = FusedSGD if fused else SGD
    # None leaves the form of the step to torch; with False it would also give up its batched form.
    return kind(wanted, lr=rate, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, fused=fused or None)


def adam(parameters: Iterable[Tensor], rate: float, momentum: float, weight_decay: float, fused: bool = False) -> Adam:
    """Adam (Kingma and Ba, ICLR 2015) with beta1 = `momentum` and beta2 = 0.999; weight decay is part of the gradient."""
    wanted = trainable(parameters)
    return Adam(wanted, lr=rate, betas=(momentum, 0.999), weight_decay=weight_decay, fused=fused or None)


def set_momentum(optimiser: Optimizer, momentum: float) -> None:
    """Sets the momentum, or Adam's beta1, of all parameter groups."""
    for group in optimiser.param_groups:
        if "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        else:
            group["momentum"] = momentum


def set_rate(optimiser: Optimizer, rate: float) -> None:
    """Sets the learning rate of all parameter groups."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def descend(loss: Tensor, optimiser: Optimizer) -> None:
    """Makes one gradient step on `loss`."""
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def state_of(optimiser: Optimizer) -> State:
    """Returns a copy of the optimiser's state by parameter index: {"0": {"momentum_buffer": tensor}, ...}.

    Learning rates and other options are omitted: they follow from the configuration and the epoch.
    """
    # Keys are text and values tensors or numbers, because checkpoints are files without pickles; None, where there is no momentum, is left
    # out.
    memory = optimiser.state_dict()["state"]
    return {
        str(index): {name: value.clone() if isinstance(value, Tensor) else value for name, value in entry.items() if value is not None}
        for index, entry in memory.items()
    }


def load_state(optimiser: Optimizer, state: State) -> None:
    """Loads into `optimiser` the state that `state_of` copied from one with the same parameters."""
    # torch numbers an optimiser's state by the position of the parameter, over all groups.
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]

    def in_layout_of(value: object, parameter: Tensor) -> object:
        if not isinstance(value, Tensor):
            return value
        # Files hold contiguous tensors, but fused kernels pair numbers by their location in memory: restore the parameter's layout.
        return torch.empty_like(parameter, dtype=value.dtype).copy_(value) if value.shape == parameter.shape else value.clone()

    memory = {
        int(index): {name: in_layout_of(value, parameters[int(index)]) for name, value in entry.items()} for index, entry in state.items()
    }
    # Only the memory comes from the checkpoint: options are the configuration's, the rate is the epoch's.
    optimiser.load_state_dict({"state": memory, "param_groups": optimiser.state_dict()["param_groups"]})

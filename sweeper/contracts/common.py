"""Contract checks, and the comparisons that they share.

A check tests one requirement on a case: a component together with the data and networks that it is tried on. Cases run the component once
and share the result among checks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

import torch
from torch import Tensor

from sap_core.api import Need, SampleCount, Sizes, State, Stopped, Task
from sweeper.contracts import toys

Weights = dict[str, Tensor]
C = TypeVar("C")


class CheckFailed(Exception):
    """A component violates a contract; the message says how."""


@dataclass(frozen=True)
class Check(Generic[C]):
    """One requirement of a contract.

    Attributes:
        description: the requirement, as a sentence.
        run: raises `CheckFailed` if a case violates it; may return a remark, such as "it diverged".
    """

    description: str
    run: Callable[[C], str | None]

    def __str__(self) -> str:
        return self.description


def check_component(component: object, protocol: type) -> None:
    """Checks that a component is a frozen, hashable dataclass with a version and the members of its protocol.

    Raises:
        CheckFailed: it is not.
    """
    name = type(component).__name__
    # A protocol is checked by names of members only; the other checks show whether they do what they should.
    if not isinstance(component, protocol):
        missing = [member for member in _members(protocol) if not hasattr(component, member)]
        raise CheckFailed(f"{name} lacks {', '.join(missing) or 'members of ' + protocol.__name__}")
    parameters = getattr(component, "__dataclass_params__", None)
    if parameters is None or not parameters.frozen:
        raise CheckFailed(f"{name} is not a frozen dataclass; write @dataclass(frozen=True) above it")
    # Read from the class: a field of instances would be a setting, and ids need the version without one.
    version = type(component).version  # type: ignore[attr-defined]
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise CheckFailed(f"{name}.version is {version!r}; it must be an integer of at least 1")
    try:
        # The planner uses settings as keys of families and computations.
        hash(component)
    except TypeError as error:
        raise CheckFailed(f"{name} cannot be hashed ({error}); convert its lists to tuples in __post_init__") from error


def _members(protocol: type) -> list[str]:
    return sorted(name for name in {**vars(protocol), **protocol.__annotations__} if not name.startswith("_"))


def same_bits(one: Mapping[str, Tensor], other: Mapping[str, Tensor], text: str) -> None:
    """Checks that two sets of tensors are bitwise equal; NaN equals NaN.

    Raises:
        CheckFailed: they differ; `text` opens the message.
    """
    # The union, so that a missing name counts as a difference.
    for name in one.keys() | other.keys():
        if name not in one or name not in other or not torch.equal(_bits(one[name]), _bits(other[name])):
            raise CheckFailed(f"{text} (in '{name}')")


def _bits(values: Tensor) -> Tensor:
    # Diverged trainings contain NaN, which is unequal to itself.
    return values.double().nan_to_num(nan=1e308) if values.is_floating_point() else values


def same_shapes(expected: Weights, found: Weights, owner: str) -> None:
    """Checks that two state dicts have equal names, shapes and dtypes.

    Raises:
        CheckFailed: they differ; `owner` opens the message.
    """
    for name in sorted(expected.keys() | found.keys()):
        # Types count, too: float64 weights would double the size of checkpoints and change scores.
        layouts = [(tuple(weights[name].shape), weights[name].dtype) if name in weights else None for weights in (expected, found)]
        if layouts[0] != layouts[1]:
            raise CheckFailed(f"{owner}: '{name}' is {layouts[1] or 'missing'} instead of {layouts[0] or 'absent'}")


def same_samples(given: Task, used: Task) -> None:
    """Checks that a task that a component has used still has the samples of the given one.

    Raises:
        CheckFailed: indices, given labels or images of the training or validation set differ.
    """
    for part, one, other in (("training", given.train, used.train), ("validation", given.val, used.val)):
        if not torch.equal(one.labels, other.labels) or not torch.equal(one.index, other.index):
            raise CheckFailed(f"the given labels or indices of the {part} set were modified in place")
        # In one batch, as they are few; without a random stream the images come in order and without augmentation.
        if not torch.equal(*(next(iter(samples.batches(len(samples)))).inputs for samples in (one, other))):
            raise CheckFailed(f"the given images of the {part} set were modified in place")


def finite(weights: Mapping[str, Tensor]) -> bool:
    """Returns whether every value is finite."""
    return all(bool(value.isfinite().all()) for value in weights.values())


@contextmanager
def global_randomness(name: str) -> Iterator[None]:
    """Context manager that checks that the block does not draw from torch's global generator."""
    # The state is compared, not restored: a draw that puts the state back is harmless, because the next job sees the same generator.
    state = torch.random.get_rng_state()
    yield
    if not torch.equal(state, torch.random.get_rng_state()):
        raise CheckFailed(f"{name} draws from torch's global generator; use sap_core.seeding.stream")


def state_when_stopped(start: Callable[[toys.StoringRun], object], run: toys.StoringRun) -> State | None:
    """The state that a run stored when it was stopped; None if it ran to its end."""
    try:
        start(run)
    except Stopped:
        return run.stored
    return None


def refuse(need: Need, n: SampleCount) -> NoReturn:
    """A source of verified samples for components that must not read any."""
    raise CheckFailed(f"it reads verified samples ('{need}'), which trainers and pruners must not")


def sizes_of(task: Task) -> Sizes:
    """The sizes of a task, as `forecast` receives them."""
    return Sizes(len(task.train), len(task.val), task.num_outputs)


def forecast_text(name: str, forecast: tuple[int, int], recorded: tuple[int, int]) -> str:
    """The message for a forecast that differs from the recorded passes, both (forwards, backwards)."""
    passes = "{} forwards and {} backwards"
    return f"{name} forecasts {passes.format(*forecast)}, but {passes.format(*recorded)} were recorded"


def describe(setting: Any) -> str:
    """The class name of a setting and its fields that differ from their defaults."""
    # Defaults are left out, because a message with all fields of a setting would hide the one that matters.
    differing = [
        f"{item.name}={getattr(setting, item.name)!r}"
        for item in (dataclasses.fields(setting) if dataclasses.is_dataclass(setting) else ())
        if item.default != getattr(setting, item.name) and not dataclasses.is_dataclass(getattr(setting, item.name))
    ]
    return f"{type(setting).__name__}({', '.join(differing)})"

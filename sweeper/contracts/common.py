"""Promises and comparisons: what the contracts of trainers, pruners and correctors are written with.

A promise is a sentence and a function that raises `CheckFailed`, saying how, where it does not hold; a remark that it returns is printed. It
looks at a case: a part with what it is tried on. Cases run the part once and share the outcome.
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
    """A promise does not hold; the text says how."""


@dataclass(frozen=True)
class Promise(Generic[C]):
    """One sentence, and what finds out whether it is so."""

    text: str
    check: Callable[[C], str | None]

    def __str__(self) -> str:
        return self.text


def check_component(part: object, offers: type) -> None:
    """Is it a frozen dataclass with a version and the members of the protocol `offers`?"""
    name = type(part).__name__
    if not isinstance(part, offers):
        lacking = [word for word in _members(offers) if not hasattr(part, word)]
        raise CheckFailed(f"{name} does not offer {', '.join(lacking) or 'what a ' + offers.__name__ + ' must'}")
    parameters = getattr(part, "__dataclass_params__", None)
    if parameters is None or not parameters.frozen:
        raise CheckFailed(f"{name} is no frozen dataclass; write @dataclass(frozen=True) above it")
    version = type(part).version  # type: ignore[attr-defined]
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise CheckFailed(f"{name}.version is {version!r}; it must be a whole number from 1")
    try:
        hash(part)
    except TypeError as error:
        raise CheckFailed(f"{name} cannot be hashed ({error}); make tuples of its lists in __post_init__") from error


def _members(offers: type) -> list[str]:
    return sorted(name for name in {**vars(offers), **offers.__annotations__} if not name.startswith("_"))


def same_bits(one: Mapping[str, Tensor], other: Mapping[str, Tensor], text: str) -> None:
    """NaN equals NaN."""
    for name in one.keys() | other.keys():
        if name not in one or name not in other or not torch.equal(_bits(one[name]), _bits(other[name])):
            raise CheckFailed(f"{text} (in '{name}')")


def _bits(values: Tensor) -> Tensor:
    return values.double().nan_to_num(nan=1e308) if values.is_floating_point() else values


def same_shapes(wanted: Weights, found: Weights, whose: str) -> None:
    """Equal names, shapes and dtypes."""
    for name in sorted(wanted.keys() | found.keys()):
        kinds = [(tuple(weights[name].shape), weights[name].dtype) if name in weights else None for weights in (wanted, found)]
        if kinds[0] != kinds[1]:
            raise CheckFailed(f"{whose}: '{name}' is {kinds[1] or 'not there'} instead of {kinds[0] or 'nothing'}")


def finite(weights: Mapping[str, Tensor]) -> bool:
    """Is every value a finite number?"""
    return all(bool(value.isfinite().all()) for value in weights.values())


@contextmanager
def global_randomness(what: str) -> Iterator[None]:
    """Watches torch's global generator, which nothing may draw from."""
    state = torch.random.get_rng_state()
    yield
    if not torch.equal(state, torch.random.get_rng_state()):
        raise CheckFailed(f"{what} draws from torch's global generator; use sap_core.seeding.stream")


def stopped(start: Callable[[toys.StoringRun], object], run: toys.StoringRun) -> State | None:
    """The state that a run stored when it was stopped; None when it came to its end."""
    try:
        start(run)
    except Stopped:
        return run.stored
    return None


def refuse(need: Need, n: SampleCount) -> NoReturn:
    """The source of verified samples for a part that must not ask for any."""
    raise CheckFailed(f"it reads verified samples ('{need}'), which it was not told")


def sizes_of(task: Task) -> Sizes:
    """What a forecast is told of a task."""
    return Sizes(len(task.train), len(task.val), task.num_outputs)


def forecast_text(what: str, forecast: tuple[int, int], booked: tuple[int, int]) -> str:
    """How a forecast and the books, each (forwards, backwards), differ."""
    words = "{} forwards and {} backwards"
    return f"{what} forecasts {words.format(*forecast)}, but books {words.format(*booked)}"


def named(setting: Any) -> str:
    """A setting by the fields that differ from their defaults."""
    differing = [
        f"{item.name}={getattr(setting, item.name)!r}"
        for item in (dataclasses.fields(setting) if dataclasses.is_dataclass(setting) else ())
        if item.default != getattr(setting, item.name) and not dataclasses.is_dataclass(getattr(setting, item.name))
    ]
    return f"{type(setting).__name__}({', '.join(differing)})"

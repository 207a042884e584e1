"""Optional protocols of trainers, pruners, correctors and networks, and metadata of their fields.

A component implements the protocols that apply to it and inherits from none of them. The platform checks each one with `isinstance`, so
nothing is inferred from the name of a field. Data sets and kinds of noise have theirs in `sap_core.data.source`; `sap_core.api` re-exports
what is defined here, and `docs/adding.md` lists all optional protocols in one table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import nn

Counted = Literal["trusted", "retain", "forget"]
"""Which training samples a field counts: a trusted set, verified or chosen correct samples, verified or chosen wrong samples."""


@runtime_checkable
class SelectsSamples(Protocol):
    """A corrector that selects training samples, or doubts their labels, without verified information.

    The planner asks for the column `information`: a setting whose `needs()` is empty is recorded as `scored` where this is true, otherwise
    as `none`. A setting that declares nothing and calls `Run.report_trusted` or `Run.report_forgotten` is recorded as `scored` nevertheless, and
    `sap-sweep check` reports it.
    """

    def selects_samples(self) -> bool:
        """Does this setting select samples by a network's scores or at random? Ignored where `needs()` is not empty."""


@runtime_checkable
class RefusesTasks(Protocol):
    """A trainer or corrector that does not support every task or network.

    The planner calls it for each setting before any job runs, and for the recipe of a trainer.
    """

    def refuse(self, kind: Literal["classification", "regression"], network: nn.Module) -> None:
        """Checks the cell's task and its network, which is on torch's meta device (shapes without values).

        Raises:
            UserError: the task or the network is not supported; the sentence says which ones are.
        """


@runtime_checkable
class RefusesTrainers(Protocol):
    """A pruner that needs information which not every trainer of the warm-up network provides. The planner calls it before any job runs."""

    def refuse_trainer(self, trainer: Any) -> None:
        """Checks the trainer of the warm-up network.

        Raises:
            UserError: it does not provide what the pruner reads.
        """


@runtime_checkable
class ForecastsUpperBound(Protocol):
    """A corrector whose number of passes depends on the data. `sap-sweep check` accepts fewer passes than its `forecast()`."""

    forecast_is_bound: ClassVar[bool]


@runtime_checkable
class RecordsForgetting(Protocol):
    """A trainer that counts forgetting events per sample. The pruner `forgetting` accepts the trainers that declare true."""

    records_forgetting: ClassVar[bool]


@runtime_checkable
class ReadsWeights(Protocol):
    """A network or trainer with fields that name files of weights.

    Ids contain the SHA-256 of each file in place of its path, and `sap-sweep prepare` checks that the files exist and fit the network.
    """

    file_fields: ClassVar[tuple[str, ...]]


@runtime_checkable
class Versioned(Protocol):
    """A component with a version, which is part of its ids. Optional for networks of other packages only: they count as version 1."""

    version: ClassVar[int]


TRUSTED_COUNT: Mapping[str, Any] = MappingProxyType({"samples": "trusted"})
RETAIN_COUNT: Mapping[str, Any] = MappingProxyType({"samples": "retain"})
FORGET_COUNT: Mapping[str, Any] = MappingProxyType({"samples": "forget"})
"""Metadata of a corrector's field that counts training samples: `count: int = field(default=200, metadata=TRUSTED_COUNT)`.

Smoke runs scale whole numbers in these fields with the size of the data set, `sap-sweep check` fits them to its 80 images, and the planner
refuses more samples than the training split has.
"""

BASELINE_TRAINER: Mapping[str, Any] = MappingProxyType({"baseline_trainer": True})
"""Metadata of a corrector's field that the planner fills with the trainer of the cell (retraining uses the recipe of the baseline)."""


def sample_counts(cls: type) -> dict[str, Counted]:
    """Names of the fields of `cls` that count training samples, in their order, and which samples each of them counts."""
    return {item.name: item.metadata["samples"] for item in _fields(cls) if "samples" in item.metadata}


def trainer_fields(cls: type) -> list[str]:
    """Names of the fields of `cls` that the planner fills with the trainer of the cell."""
    return [item.name for item in _fields(cls) if item.metadata.get("baseline_trainer")]


def _fields(cls: type) -> tuple[Any, ...]:
    return fields(cls) if is_dataclass(cls) else ()


def flattened_fields(cls: type) -> dict[str, Any]:
    """The dataclasses that `cls` holds and whose fields are written beside its own: name of the field -> its default."""
    return {item.name: item.default for item in fields(cls) if item.metadata.get("flat")} if is_dataclass(cls) else {}


def with_flattened(instance: Any) -> list[Any]:
    """The object, then the dataclasses that it contains and whose fields are written beside its own (the recipe of a trainer)."""
    return [instance, *(getattr(instance, name) for name in flattened_fields(type(instance)))]

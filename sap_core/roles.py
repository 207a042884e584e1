"""Optional protocols of trainers, pruners, correctors and networks, and metadata of their fields.

A component implements the protocols that apply to it and inherits from none of them. The platform checks each one with `isinstance`, so
that nothing is inferred from the name of a field. The optional protocols of data sets and label noise are in `sap_core.data.source`;
`sap_core.api` re-exports the names defined here, and `docs/adding.md` lists all optional protocols in one table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

# Only for annotations, so that the module imports nothing but the standard library.
if TYPE_CHECKING:
    from torch import Tensor, nn

Counted = Literal["trusted", "retain", "forget"]
"""Training samples that a field counts: trusted samples, retain samples (labelled correctly) or forget samples (mislabelled)."""


@runtime_checkable
class SelectsSamples(Protocol):
    """A corrector that selects or relabels training samples without verified information.

    The planner derives the column `information` from it: a setting with empty `needs()` is recorded as `scored` if `selects_samples()` is
    true, otherwise as `none`. A setting that declares nothing and calls `Run.report_trusted` or
    `Run.report_forgotten` is still recorded as `scored`, and `sap-sweep check` reports it.
    """

    def selects_samples(self) -> bool:
        """Return whether this setting selects samples by a network's scores or at random. Ignored if `needs()` is not empty."""


@runtime_checkable
class RefusesTasks(Protocol):
    """A trainer or corrector that does not support every task or network.

    The planner calls `refuse` before any job runs: for the trainer, for its recipe, and for each setting of a corrector.
    """

    def refuse(self, kind: Literal["classification", "regression"], network: nn.Module) -> None:
        """Check the task and the network of a cell.

        Args:
            kind: type of the task.
            network: the network, if possible on torch's meta device (shapes without values), else on the CPU; it must not be changed.

        Raises:
            UserError: the task or the network is not supported; the message names the supported ones.
        """


@runtime_checkable
class RefusesNetworks(Protocol):
    """A corrector that needs a forward pass to see whether it supports a network. The planner calls `refuse_network` before any job."""

    @classmethod
    def refuse_network(cls, settings: Sequence[Any], network: nn.Module, inputs: Tensor) -> None:
        """Check the network of a cell.

        Args:
            settings: the settings of this class in the cell.
            network: the network, on torch's meta device (shapes without values) unless it only runs on a real one.
            inputs: (2, ...) inputs of the data set's shape, on the device of the network.

        Raises:
            UserError: the network is not supported; the message says what can be done.
        """


@runtime_checkable
class RefusesTrainers(Protocol):
    """A pruner that reads information which not every trainer records. The planner calls `refuse_trainer` before any job runs."""

    def refuse_trainer(self, trainer: Any) -> None:
        """Check the trainer of the warm-up network.

        Raises:
            UserError: the trainer does not record the information that the pruner reads.
        """


@runtime_checkable
class ForecastsUpperBound(Protocol):
    """A corrector whose number of passes depends on the data. `sap-sweep check` accepts fewer passes than its `forecast()`."""

    forecast_is_bound: ClassVar[bool]


@runtime_checkable
class RecordsForgetting(Protocol):
    """A trainer that counts forgetting events per sample. The pruner `forgetting` accepts only trainers that declare it true."""

    records_forgetting: ClassVar[bool]


@runtime_checkable
class ReadsWeights(Protocol):
    """A network or trainer with fields that are paths of weight files.

    Ids contain the SHA-256 of each file instead of its path, and `sap-sweep prepare` checks that the files exist and fit the network.
    """

    file_fields: ClassVar[tuple[str, ...]]


@runtime_checkable
class HasUsualSize(Protocol):
    """A network whose class knows the size of the images that such networks are usually trained on."""

    @staticmethod
    def usual_size(**settings: Any) -> int | None:
        """Return the side in pixels for these settings of the network; None: unknown."""


@runtime_checkable
class Versioned(Protocol):
    """A component with a version, which is part of its ids. Only networks of other packages may omit it; they count as version 1."""

    version: ClassVar[int]


# Metadata instead of names of fields, so that the platform scales and checks counts without guessing from a name. Read-only,
# because the mapping is shared by all classes.
TRUSTED_COUNT: Mapping[str, Any] = MappingProxyType({"samples": "trusted"})
RETAIN_COUNT: Mapping[str, Any] = MappingProxyType({"samples": "retain"})
FORGET_COUNT: Mapping[str, Any] = MappingProxyType({"samples": "forget"})
"""Metadata for a corrector's field that counts training samples: `count: int = field(default=200, metadata=TRUSTED_COUNT)`.

Smoke runs scale integers in these fields with the size of the data set, `sap-sweep check` fits them to its 80 images, and the planner
refuses more samples than the training split has.
"""

BASELINE_TRAINER: Mapping[str, Any] = MappingProxyType({"baseline_trainer": True})
"""Metadata for a corrector's field that the planner fills with the trainer of the cell, so that retraining uses the baseline's recipe."""


def sample_counts(cls: type) -> dict[str, Counted]:
    """Return the fields of `cls` that count training samples, in declaration order: field name -> the samples it counts."""
    return {item.name: item.metadata["samples"] for item in _fields(cls) if "samples" in item.metadata}


def trainer_fields(cls: type) -> list[str]:
    """Return the names of the fields of `cls` that the planner fills with the trainer of the cell."""
    return [item.name for item in _fields(cls) if item.metadata.get("baseline_trainer")]


def _fields(cls: type) -> tuple[Any, ...]:
    # A component of another package need not be a dataclass; it then declares nothing.
    return fields(cls) if is_dataclass(cls) else ()


def flattened_fields(cls: type) -> dict[str, Any]:
    """Return the dataclass fields of `cls` whose own fields YAML lists next to those of `cls`: field name -> default instance."""
    return {item.name: item.default for item in fields(cls) if item.metadata.get("flat")} if is_dataclass(cls) else {}


def with_flattened(instance: Any) -> list[Any]:
    """Return `instance` and the dataclasses in its flattened fields, such as the recipe of a trainer."""
    # The recipe's own protocols count, too: it may refuse tasks or read weights.
    return [instance, *(getattr(instance, name) for name in flattened_fields(type(instance)))]

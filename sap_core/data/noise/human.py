"""Human noise: the errors of human annotators of CIFAR's training images, CIFAR-N (Wei et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sap_core.data.cifar10 import CIFAR10
from sap_core.data.cifar100 import CIFAR100
from sap_core.data.noise.human_files import COLUMNS, read_column
from sap_core.data.samples import SampleView
from sap_core.data.source import Classes, DataSet
from sap_core.errors import UserError
from sap_core.seeding import Stream


@dataclass(frozen=True)
class Human:
    """Labels of human annotators (Wei et al., "Learning with noisy labels revisited", ICLR 2022; CC BY-NC 4.0).

    CIFAR-10: `random1` to `random3` are the three annotators of each image (17.2, 18.1 and 17.6 % wrong), `aggregate` is their majority
    (9.0 %), `worst` a wrong label among the three wherever there is one (40.2 %). CIFAR-100: `cifar100` (40.2 %, fine classes). Nothing is
    random, so all seeds have the same labels, and the rate cannot be set. The true labels in the release must equal those of the data set,
    image by image. The folders of the files are in `human_files.FOLDERS`.
    """

    name: ClassVar[str] = "human"
    version: ClassVar[int] = 1
    labels: Literal["aggregate", "random1", "random2", "random3", "worst", "cifar100"]
    rate: float | None = None

    def __post_init__(self) -> None:
        if self.labels not in COLUMNS:
            raise UserError(f"unknown noise.labels={self.labels!r}; allowed: {', '.join(COLUMNS)}")
        # Accepted as a field, so that all kinds have a `rate`, but fixed by the annotators.
        if self.rate is not None:
            raise UserError(
                f"noise.rate={self.rate!r} cannot be set for noise=human, whose rate is fixed "
                f"({COLUMNS[self.labels].rate * 100:.1f} % for {self.labels}); omit noise.rate"
            )

    def expected_rate(self, classes: Classes) -> float:
        """Return the published fraction of wrong labels."""
        return COLUMNS[self.labels].rate

    def check(self, dataset: DataSet) -> None:
        known: type = CIFAR100 if self.labels == "cifar100" else CIFAR10
        if not isinstance(dataset, known):
            others = "cifar100" if isinstance(dataset, CIFAR100) else ", ".join(name for name in COLUMNS if name != "cifar100")
            remedy = f"use noise.labels={others}" if isinstance(dataset, CIFAR10 | CIFAR100) else f"choose dataset={known.__name__.lower()}"
            raise UserError(f"noise=human with labels={self.labels} exists for {known.__name__} only; {remedy}")

    def inspect(self, dataset: DataSet, root: Path) -> None:
        """See `DataNoise.inspect`.

        Raises:
            UserError: the file is missing, damaged or not the published one.
        """
        # Reading is the check; labels are compared with the data set's when they are used.
        read_column(root, COLUMNS[self.labels])

    def corrupt_data(self, samples: SampleView, dataset: DataSet, root: Path, rng: Stream) -> Tensor:
        true, given = read_column(root, COLUMNS[self.labels])
        # The release's labels are by position, so a data set in another order would get labels of other images.
        if not torch.equal(true, samples.labels):
            count = int((true != samples.labels).sum()) if len(true) == len(samples) else len(samples)
            raise UserError(
                f"noise=human: {count} of {len(samples)} training labels of this copy of {type(dataset).__name__} are not those "
                f"of CIFAR-N, so its labels would be assigned to wrong images; use the published data set (dataset.verify=true)"
            )
        return given

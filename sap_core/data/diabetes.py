"""Diabetes: regression of disease progression after one year on ten measurements of 442 patients (Efron et al. 2004).

The files are part of scikit-learn and read without importing it (`sklearn_files`); a test compares with `load_diabetes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from sap_core.api import TaskType
from sap_core.data import sklearn_files
from sap_core.data.regression import regression_source
from sap_core.data.source import Classes, Fingerprint, Source
from sap_core.data.splits import validation_count
from sap_core.errors import UserError

NUM, NUM_TEST, FEATURES = 442, 92, 10
FILES = ("diabetes_data_raw.csv.gz", "diabetes_target.csv.gz")
PUBLISHED = "5445f854eeaa6db415a8b02c33e87c81e41ed1d57e2de61641e6e7bf43af4b15"
"""SHA-256 of the two decompressed files, concatenated."""


def _folder() -> Path:
    return sklearn_files.folder("diabetes")


@dataclass(frozen=True)
class Diabetes:
    """Diabetes; see the module. Inputs and targets are standardised: R2 does not depend on it, but good learning rates do."""

    name: ClassVar[str] = "diabetes"
    version: ClassVar[int] = 1
    kind: ClassVar[TaskType] = "regression"
    shape: ClassVar[tuple[int, ...]] = (FEATURES,)
    mean: ClassVar[tuple[float, ...]] = ()
    std: ClassVar[tuple[float, ...]] = ()
    num_train: ClassVar[int] = NUM - NUM_TEST
    num_test: ClassVar[int] = NUM_TEST
    classes: ClassVar[Classes] = Classes(1)
    truth_known: ClassVar[bool] = True

    verify: bool = True
    validation: float | int = 50
    split_seed: int | None = 0

    def __post_init__(self) -> None:
        validation_count(self.num_train, self.validation)

    def inspect(self, root: Path) -> Fingerprint:
        """See `DataSet.inspect`; `root` is not used."""
        return self._content()[1]

    def load(self, root: Path) -> Source:
        """Return inputs (N, 10) float32 and targets (N,) float32; `root` is not used."""
        contents, _ = self._content()
        try:
            # float64 until both are standardised.
            inputs, targets = (torch.from_numpy(np.loadtxt(content.decode("ascii").splitlines(), ndmin=2)) for content in contents)
        except ValueError as error:
            raise UserError(f"diabetes: the files in '{_folder()}' are damaged ({error}); install scikit-learn again") from error
        if inputs.shape != (NUM, FEATURES) or targets.shape != (NUM, 1):
            raise UserError(f"diabetes: the files in '{_folder()}' do not contain {NUM} patients; install scikit-learn again")
        # The number of patients is the seed of the test set; it must never change.
        return regression_source(inputs, targets[:, 0], NUM_TEST, NUM, "diabetes")

    def _content(self) -> tuple[tuple[bytes, ...], Fingerprint]:
        paths = [_folder() / name for name in FILES]
        extracted = sklearn_files.contents("diabetes", paths)
        return extracted, sklearn_files.fingerprint("diabetes", paths, extracted, PUBLISHED, self.verify)

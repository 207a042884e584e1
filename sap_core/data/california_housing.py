"""California housing: regression of the median house value of 20,640 districts on eight features (Pace and Barry 1997, census of 1990).

The archive and its checksum are those of scikit-learn's `fetch_california_housing`, and the features are computed from its columns in the
same way. Targets are capped at the top, so that many districts share the largest value.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from sap_core.api import TaskType
from sap_core.data.regression import regression_source
from sap_core.data.source import Classes, Fingerprint, Source
from sap_core.data.splits import validation_count
from sap_core.errors import UserError

NUM, NUM_TEST, COLUMNS = 20_640, 4_128, 9
FILE, MEMBER = Path("california_housing") / "cal_housing.tgz", "CaliforniaHousing/cal_housing.data"
PUBLISHED = "aaa5c9a6afe2225cc2aed2723682ae403280c4a3695a2ddda4ffb5d8215ea681"
"""SHA-256 of the archive."""
URL = "https://ndownloader.figshare.com/files/5976036"
TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class CaliforniaHousing:
    """California housing; see the module. Inputs and targets are standardised."""

    name: ClassVar[str] = "california_housing"
    version: ClassVar[int] = 1
    kind: ClassVar[TaskType] = "regression"
    shape: ClassVar[tuple[int, ...]] = (COLUMNS - 1,)
    mean: ClassVar[tuple[float, ...]] = ()
    std: ClassVar[tuple[float, ...]] = ()
    num_train: ClassVar[int] = NUM - NUM_TEST
    num_test: ClassVar[int] = NUM_TEST
    classes: ClassVar[Classes] = Classes(1)
    truth_known: ClassVar[bool] = True

    verify: bool = True
    download: bool = False
    validation: float | int = 0.1
    split_seed: int | None = None

    def __post_init__(self) -> None:
        validation_count(self.num_train, self.validation)

    def downloading(self, allowed: bool) -> Self:
        return replace(self, download=allowed)

    def inspect(self, root: Path) -> Fingerprint:
        """See `DataSet.inspect`. With `download=true` a missing archive is downloaded first."""
        # Downloads are made at inspection, before any job runs; `load` makes none.
        if self.download and not (root / FILE).exists():
            _fetch(root / FILE)
        return self._content(root)[1]

    def load(self, root: Path) -> Source:
        """Inputs (N, 8) float32, targets (N,) float32."""
        # The archive is read in memory, so that nothing is extracted from it into the file system.
        content, _ = self._content(root)
        try:
            with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                # One named member is read; other content of the archive is ignored.
                member = archive.extractfile(MEMBER)
                assert member is not None
                table = torch.from_numpy(np.loadtxt(io.TextIOWrapper(member, "ascii"), delimiter=",", ndmin=2))
        except (tarfile.TarError, KeyError, ValueError, EOFError, OSError) as error:
            raise UserError(
                f"california_housing: '{root / FILE}' is damaged ({error}); delete it and fetch it again with dataset.download=true"
            ) from error
        # With `verify=false` another archive is possible, whose table may have another size.
        if table.shape != (NUM, COLUMNS):
            raise UserError(
                f"california_housing: '{root / FILE}' does not contain {NUM} districts; fetch it again with dataset.download=true"
            )
        return regression_source(features(table), table[:, 8], NUM_TEST, NUM, "california_housing")

    def _content(self, root: Path) -> tuple[bytes, Fingerprint]:
        path = root / FILE
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(
                f"california_housing: there is no readable file '{path}' ({error.strerror}); point paths.data (now '{root}') at the folder "
                f"that contains '{FILE}', or set dataset.download=true to fetch it"
            ) from error
        digest = hashlib.sha256(content).hexdigest()
        # Compared before the archive is opened.
        if self.verify and digest != PUBLISHED:
            raise UserError(
                f"california_housing: file '{path}' differs from the published one; fetch it again with dataset.download=true after "
                f"deleting it, or accept this copy with dataset.verify=false, which is recorded in every row"
            )
        return content, Fingerprint(digest == PUBLISHED, digest)


def features(table: Tensor) -> Tensor:
    """Return (N, 8): income, age, rooms and bedrooms per household, population, people per household, latitude, longitude."""
    longitude, latitude, age, rooms, bedrooms, population, households, income, _ = table.T
    # The columns of the census are totals of a district; scikit-learn divides them by households.
    return torch.stack(
        [income, age, rooms / households, bedrooms / households, population, population / households, latitude, longitude], 1
    )


def _fetch(path: Path) -> None:
    try:
        with urllib.request.urlopen(URL, timeout=TIMEOUT_SECONDS) as response:
            content = response.read()
        # After the transfer, so that a broken connection leaves no partial archive.
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise UserError(
            f"california_housing: the download to '{path}' failed ({error}); copy the file there from a machine with network, or point "
            f"paths.data at a folder that contains '{FILE}'"
        ) from error

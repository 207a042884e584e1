"""Cuts a training set into a training and a validation part."""

from __future__ import annotations

import torch
from torch import Tensor

from sap_core.errors import UserError
from sap_core.seeding import Stream


def validation_count(num: int, validation: float | int) -> int:
    """How many of `num` samples are set aside: int(share * num), as the reference does, or the number itself.

    Raises:
        UserError: a share outside (0, 1), a number outside 1..num-1, or one that leaves a part empty.
    """
    is_share = isinstance(validation, float)
    if isinstance(validation, bool) or not isinstance(validation, int | float) or (is_share and not 0 < validation < 1):
        raise UserError(f"dataset.validation={validation!r} is neither a share between 0 and 1 (0.1) nor a whole number of samples (300)")
    count = int(validation * num) if is_share else int(validation)
    if not 1 <= count < num:
        raise UserError(
            f"dataset.validation={validation!r} sets {count} of {num} training samples aside; "
            f"allowed are 1 to {num - 1}, as a share or a number"
        )
    return count


def sizes(num_train: int, num_test: int, validation: float | int, limit: int | None) -> tuple[int, int, int]:
    """(training, validation, test) samples that are used. `limit` caps training and validation together, cut in proportion, and testing.

    Raises:
        UserError: as `validation_count`.
    """
    val = validation_count(num_train, validation)
    if limit is None:
        return num_train - val, val, num_test
    short = max(2, round(limit * val / num_train))
    return min(limit - short, num_train - val), min(short, val), min(limit, num_test)


def split(num: int, validation: float | int, rng: Stream) -> tuple[Tensor, Tensor]:
    """(train_index, val_index): sorted int64 positions that together are 0..num-1, drawn from `rng` alone.

    Raises:
        UserError: as `validation_count`.
    """
    count = validation_count(num, validation)
    order = rng.permutation(num)
    return torch.sort(order[count:]).values, torch.sort(order[:count]).values

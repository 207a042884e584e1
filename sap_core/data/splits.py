"""Splits of the universe into training and validation samples."""

from __future__ import annotations

import torch
from torch import Tensor

from sap_core.errors import UserError
from sap_core.seeding import Stream


def validation_count(num: int, validation: float | int) -> int:
    """Return the number of validation samples among `num`: int(fraction * num), as in SAP's released code, or the number itself.

    Raises:
        UserError: a fraction outside (0, 1), a number outside 2..num-1, or an empty split.
    """
    # bool is a subclass of int in Python, and `true` in YAML is no number of samples.
    is_fraction = isinstance(validation, float)
    if isinstance(validation, bool) or not isinstance(validation, int | float) or (is_fraction and not 0 < validation < 1):
        raise UserError(f"dataset.validation={validation!r} is neither a fraction between 0 and 1 (0.1) nor a number of samples (300)")
    # 1 is meant as a share of everything, or as a single sample; neither is a validation set.
    if validation == 1:
        raise UserError(
            "dataset.validation=1 is one sample, which decides nothing; give a fraction below 1 (0.1) or a number of samples from 2 (300)"
        )
    # Truncated and not rounded, as in the released code.
    count = int(validation * num) if is_fraction else int(validation)
    if not 1 <= count < num:
        allowed = f"allowed are 2 to {num - 1}, as a fraction or a number" if num > 2 else "at least 3 training samples are needed"
        raise UserError(f"dataset.validation={validation!r} makes {count} of {num} training samples validation samples; {allowed}")
    return count


def sizes(num_train: int, num_test: int, validation: float | int, limit: int | None) -> tuple[int, int, int]:
    """Return the numbers of (training, validation, test) samples that are used.

    Args:
        num_train: size of the universe.
        num_test: size of the test set.
        validation: fraction or number of validation samples.
        limit: maximum number of training and validation samples together, in proportion, and of test samples; None: no limit.

    Raises:
        UserError: as `validation_count`.
    """
    val = validation_count(num_train, validation)
    if limit is None:
        return num_train - val, val, num_test
    # In proportion, so that a smoke run keeps the shape of the split.
    short = max(2, round(limit * val / num_train))
    return min(limit - short, num_train - val), min(short, val), min(limit, num_test)


def split(num: int, validation: float | int, rng: Stream) -> tuple[Tensor, Tensor]:
    """Return (training positions, validation positions), sorted int64, which together are 0..num-1; drawn from `rng` only.

    Raises:
        UserError: as `validation_count`.
    """
    count = validation_count(num, validation)
    # Validation samples are the first of one permutation, so that a smaller validation split is nested in a larger one.
    order = rng.permutation(num)
    return torch.sort(order[count:]).values, torch.sort(order[:count]).values

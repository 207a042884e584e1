"""The number of samples that SAP trusts and its batch size, where the configuration leaves them as `auto`."""

from __future__ import annotations

_SHARE = 0.02
"""The paper's 1000 trusted samples of 50000."""

_AT_LEAST, _PER_CLASS = 200, 10
_AT_MOST_SHARE = 0.2
_BATCH = 50


def num_trusted(train: int, classes: int) -> int:
    """Return 2 % of the training samples, but at least 200 and ten per class, and at most a fifth of them.

    Numbers above 50 are rounded down to a multiple of 50, so that all batches are of one size.
    """
    wanted = max(round(_SHARE * train), _PER_CLASS * classes, _AT_LEAST)
    chosen = max(1, min(wanted, int(_AT_MOST_SHARE * train)))
    return chosen if chosen < _BATCH else chosen - chosen % _BATCH


def batch_size(trusted: int) -> int:
    """Return the largest divisor of the number of trusted samples up to 50; 50 if that would be less than 10."""
    divisor = max(size for size in range(1, _BATCH + 1) if trusted % size == 0)
    return divisor if divisor >= min(10, trusted) else min(_BATCH, trusted)

"""A long tail of given targets, cut off before a regression is trained.

PRL's authors advise it where supervision values have an extremely long tail (readme of github.com/illidanlab/PRL). How much, and how far
from what, is not said there: here it is a share of the training samples, farthest from the median of the given targets.

Shapes: N training samples.
"""

from __future__ import annotations

from sap_core.api import Samples


def num_trimmed(count: int, share: float) -> int:
    """How many of `count` samples are left out."""
    return int(share * count + 1e-9)


def trimmed(samples: Samples, share: float) -> Samples:
    """The samples, in their order, without those whose given targets lie farthest from the median; of equal ones the later go first."""
    gone = num_trimmed(len(samples), share)
    if gone == 0:
        return samples
    targets_N = samples.labels.double().reshape(len(samples), -1)
    far_N = (targets_N - targets_N.median(0).values).square().sum(1)
    return samples.subset(far_N.argsort(stable=True)[: len(samples) - gone].sort().values)

"""Trimming of extreme targets before a regression is trained.

PRL's authors advise it where supervision values have an extremely long tail (readme of github.com/illidanlab/PRL), without naming a
measure or an amount. Here the given fraction of training samples whose targets lie farthest from the median is left out.

Shapes: N training samples.
"""

from __future__ import annotations

from sap_core.api import Samples


def num_trimmed(count: int, share: float) -> int:
    """Returns how many of `count` samples are left out."""
    # 0.29 * 100 is 28.999999999999996 in floating point.
    return int(share * count + 1e-9)


def trimmed(samples: Samples, share: float) -> Samples:
    """Returns the samples in their order, without those whose given targets lie farthest from the median. Of ties the later go first."""
    gone = num_trimmed(len(samples), share)
    if gone == 0:
        return samples
    targets_N = samples.labels.double().reshape(len(samples), -1)
    far_N = (targets_N - targets_N.median(0).values).square().sum(1)
    # Sorted again after the selection, so that the samples left keep their order.
    return samples.subset(far_N.argsort(stable=True)[: len(samples) - gone].sort().values)

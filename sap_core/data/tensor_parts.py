"""The parts of a file of tensors, and the images in it that occur more than once.

Shapes: N images.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sap_core.data.duplicates import Duplicates, Policy, describe, find_copies, pixel_digest

TRAIN, TEST, VAL = 0, 1, 2
"""Values of `split`; without it all images are used both for training and for testing."""

Parts = tuple[Tensor, Tensor, Tensor]
"""Positions of the training, validation and test images."""


def parts_of(split: Tensor | None, count: int) -> Parts:
    """Return the parts that `split` (N,) describes."""
    # Without `split` every image is in both parts, so the test scores contain training images.
    if split is None:
        return torch.arange(count), torch.arange(0), torch.arange(count)
    train, val, test = (torch.nonzero(split == value).flatten() for value in (TRAIN, VAL, TEST))
    return train, val, test


def copies_among(policy: Policy, images: Tensor, labels: Tensor, parts: Parts, tested: bool) -> tuple[Duplicates, frozenset[int]]:
    """Return what occurs more than once, and the positions that the policy drops.

    Args:
        policy: what is done with copies.
        images: (N, ...) images.
        labels: (N,) labels.
        parts: positions of the parts.
        tested: whether there is a test part; without one all images are both, which is no finding.
    """
    places = torch.cat(parts if tested else parts[:2]).tolist()
    given: list[int] = labels.tolist()
    # One array and no tensor per image, which would take ten times as long.
    array = images.contiguous().numpy()
    contents = [pixel_digest(array.shape[1:], array[place].tobytes()) for place in places]
    train, val, test = map(len, parts)
    found = find_copies(contents, [given[place] for place in places], train + val)
    report = describe(policy, found, (train, val, test), lambda at: (f"images[{places[at]}]", str(given[places[at]])))
    if not tested:
        # The test part is the same images, and so are those that remain.
        report = replace(report, remaining=(*report.remaining[:2], report.remaining[0]))
    return report, frozenset(places[at] for at in found.dropped) if policy == "drop" else frozenset()


def without(parts: Parts, dropped: frozenset[int]) -> Parts:
    """Return the parts without these positions."""
    if not dropped:
        return parts
    train, val, test = (torch.tensor([place for place in part.tolist() if place not in dropped], dtype=torch.int64) for part in parts)
    return train, val, test

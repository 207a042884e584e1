"""Tests whether a network has memorised its validation images, by its accuracy on training, validation and test images.

A network that was trained elsewhere has seen the images of its training folder. Validation images drawn from them measure how well it
remembers their given labels, wrong ones included, so that every correction that makes it forget wrong labels scores lower on them. The
rule: the images are memorised if the network classifies them (given labels) significantly better than the test images, by Fisher's exact
one-sided test at `LEVEL`. If it has seen neither, it classifies validation images at most as well as test images in expectation, since
given labels are at least as often wrong as those of the test set, so the rule is wrong with probability LEVEL at most (if both come from
one distribution). Few images may hide memorisation; a test set that is more difficult looks like it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sap_core.mcnemar import McNemarTest

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.05

GAIN_RIGHT, GAIN_WRONG = 75, 25
"""Of 1000 images: those newly right and newly wrong after the correction that `images_for` supposes, a gain of five points."""


@dataclass(frozen=True)
class Part:
    """The unmodified network's result on one set of images."""

    right: int
    count: int

    @property
    def accuracy(self) -> float:
        return self.right / self.count


@dataclass(frozen=True)
class Memorisation:
    """The unmodified network's results on its training, validation and test images."""

    train: Part | None  # None: not recorded
    val: Part
    test: Part

    @property
    def p_value(self) -> float:
        """Probability of a validation accuracy this far above the test accuracy if both sets were equally unseen; an upper bound."""
        return better(self.val, self.test)

    @property
    def memorised(self) -> bool:
        """Whether the network classifies validation images significantly better than test images."""
        return self.p_value <= LEVEL

    @property
    def as_training(self) -> bool:
        """Whether its accuracy on validation images is not significantly below that on training images."""
        return self.train is not None and better(self.train, self.val) > LEVEL


def better(first: Part, second: Part) -> float:
    """The p-value of Fisher's exact one-sided test that the accuracy on `first` is not higher than that on `second`."""
    # It takes longer to load than all the rest.
    from scipy.stats import hypergeom

    # Given the total number of right answers, those of the first set are hypergeometric if both accuracies are equal.
    right, count = first.right + second.right, first.count + second.count
    return min(1.0, float(hypergeom.sf(first.right - 1, count, right, first.count)))


def memorisation(vanilla: pd.Series | None) -> Memorisation | None:
    """The results in the row of the unmodified network; None if it has no validation or test accuracy."""
    if vanilla is None:
        return None
    parts = {name: _part(vanilla, column, f"num_{name}") for name, column in _COLUMNS.items()}
    val, test = parts["val"], parts["test"]
    return None if val is None or test is None else Memorisation(parts["train"], val, test)


_COLUMNS = {"train": "train_acc", "val": "val_noisy_acc", "test": "test_acc"}


def _part(vanilla: pd.Series, accuracy: str, count: str) -> Part | None:
    share, number = vanilla.get(accuracy), vanilla.get(count)
    if share is None or number is None or math.isnan(share) or math.isnan(number) or number < 1:
        return None
    return Part(round(float(share) * int(number)), int(number))


def images_for(num_settings: int) -> int | None:
    """The number of unseen validation images at which a gain of five points would be significant: 7.5 % newly right, 2.5 % newly wrong."""
    return McNemarTest(GAIN_WRONG, GAIN_RIGHT, 1000, num_settings).samples_needed

"""Is a corrected model better than the unmodified one? Exact paired tests on the validation samples, corrected for the settings tried.

Only discordant samples count: those that one model has right and the other wrong (McNemar 1947). If both models were equally good, each
discordant sample would fall to either with probability one half; the p-value is the exact binomial probability of at least so many
falling to the corrected model. The chosen setting is the best of many, so its p-value is multiplied by their number (Bonferroni): whichever
of them had been chosen, a model no better than before is recommended with probability LEVEL at most.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

LEVEL = 0.05
_MOST = 2**20
"""More discordant samples than this are not counted out."""


@dataclass(frozen=True)
class McNemarTest:
    """What the validation samples say about one chosen setting."""

    newly_wrong: int  # right before, wrong now
    newly_right: int  # wrong before, right now
    samples: int  # validation samples
    num_settings: int  # settings among which it was chosen

    @property
    def p_value(self) -> float:
        """Of no gain, one-sided, times the settings tried; at most 1."""
        return min(1.0, self.num_settings * float(_tail(self.newly_right, self.newly_right + self.newly_wrong)))

    @property
    def significant(self) -> bool:
        return self.p_value <= LEVEL

    @property
    def samples_needed(self) -> int | None:
        """Validation samples with which these rates of won and lost would decide; None when nothing was gained, or beyond counting."""
        discordant = self.newly_right + self.newly_wrong
        if self.newly_right <= self.newly_wrong:
            return None
        counts = np.arange(1, _MOST)
        deciding = counts[self.num_settings * _tail(np.floor(counts * self.newly_right / discordant), counts) <= LEVEL]
        return math.ceil(deciding[0] * self.samples / discordant) if len(deciding) else None


def _tail(newly_right: np.ndarray | float, discordant: np.ndarray | float) -> np.ndarray | float:
    """P(at least `newly_right` of `discordant` fair coins)."""
    return binom.sf(np.asarray(newly_right) - 1, discordant, 0.5)

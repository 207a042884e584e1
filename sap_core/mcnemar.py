"""Exact McNemar test of a corrected model against the unmodified one on the validation samples, corrected for the settings tried.

The test looks at the discordant samples only: those that one model classifies correctly and the other does not (McNemar 1947). Under the
null hypothesis each of them favours either model with probability one half, so the one-sided p-value is a binomial tail (a sign test). The
selected setting is the best of many, so its p-value is multiplied by their number (Bonferroni): a model that is no better than before is
recommended with probability LEVEL at most, whichever setting was selected.

Imports no torch, because tables use it, too; scipy is loaded when the first p-value is computed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

LEVEL = 0.05
_MAX_DISCORDANT = 2**20
"""Largest number of discordant samples that `samples_needed` searches."""


@dataclass(frozen=True)
class McNemarTest:
    """The paired counts of one selected setting, and the test on them."""

    newly_wrong: int  # validation samples that are correct before correction and wrong after
    newly_right: int  # the reverse
    samples: int  # all validation samples
    num_settings: int  # settings among which this one was selected

    @property
    def p_value(self) -> float:
        """The one-sided p-value of "no gain", multiplied by the number of settings; at most 1."""
        return min(1.0, self.num_settings * float(_tail(self.newly_right, self.newly_right + self.newly_wrong)))

    @property
    def significant(self) -> bool:
        """Whether the corrected p-value is at most LEVEL."""
        return self.p_value <= LEVEL

    @property
    def samples_needed(self) -> int | None:
        """The validation samples at which the same rates would be significant; None without a gain or if too large to search."""
        discordant = self.newly_right + self.newly_wrong
        # No number of samples makes a loss significant.
        if self.newly_right <= self.newly_wrong:
            return None
        # Searched over counts of discordant samples at the observed proportion; the tail is not monotone in the count, because floor makes
        # it jump. In blocks of doubling size, since most answers are small.
        start = 1
        while start < _MAX_DISCORDANT:
            counts = np.arange(start, 2 * start)
            deciding = counts[self.num_settings * _tail(np.floor(counts * self.newly_right / discordant), counts) <= LEVEL]
            if len(deciding):
                return math.ceil(deciding[0] * self.samples / discordant)
            start *= 2
        return None


def _tail(newly_right: np.ndarray | float, discordant: np.ndarray | float) -> np.ndarray | float:
    """P(X >= newly_right) for X ~ Binomial(discordant, 1/2)."""
    # Imported here, because the library must not need scipy when it is imported.
    # From `special`, since `stats` takes two seconds to import.
    from scipy.special import bdtrc

    # bdtrc(k, n, p) is P(X > k) for X ~ Binomial(n, p).
    tail: np.ndarray | float = bdtrc(np.asarray(newly_right) - 1, discordant, 0.5)
    return tail

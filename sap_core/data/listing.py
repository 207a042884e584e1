"""The files of a data set by part, each with its class, and the copies among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sap_core.data.duplicates import Duplicates, Policy, describe, find_copies
from sap_core.data.names import relative
from sap_core.data.tree_listing import NotRead

NOT_COMPARED = "images that occur more than once were not looked for, because dataset.check=size reads no pixels"


@dataclass(frozen=True)
class Listing:
    """The files of a data set, each with its class, in order."""

    names: list[str]  # of the classes
    train: list[tuple[Path, int]]
    val: list[tuple[Path, int]]
    test: list[tuple[Path, int]]
    not_read: NotRead = field(default_factory=NotRead)

    @property
    def universe(self) -> list[tuple[Path, int]]:
        """The training and validation images; the latter at the end, where `Source.own_validation` expects them."""
        return self.train + self.val

    @property
    def files(self) -> list[Path]:
        """All files: training, validation, test."""
        return [path for path, _ in self.universe + self.test]

    def without(self, dropped: frozenset[int]) -> Listing:
        """Return the listing without the files at these positions of `files`."""
        places = iter(range(len(self.files)))
        train, val, test = ([item for item in part if next(places) not in dropped] for part in (self.train, self.val, self.test))
        return replace(self, train=train, val=val, test=test)

    def copies(self, policy: Policy, base: Path, contents: Sequence[bytes]) -> tuple[Duplicates, frozenset[int]]:
        """Find files of equal content.

        Args:
            policy: what is done with them.
            base: folder that reported paths are relative to.
            contents: content of each file of `files`.

        Returns:
            What was found, and the positions of `files` that the policy removes.
        """
        samples = self.universe + self.test
        found = find_copies(contents, [label for _, label in samples], len(self.universe))

        def sample(place: int) -> tuple[str, str]:
            path, label = samples[place]
            return relative(path, base), self.names[label]

        report = describe(policy, found, (len(self.train), len(self.val), len(self.test)), sample)
        return report, found.dropped if policy == "drop" else frozenset()

"""Images that occur more than once in a data set of the user: in training and test, with two labels, or again with the same label.

Contents are compared as decoded pixels, so a picture stored as PNG and as BMP is one content. Only the modules that read a data set see
both parts; a task contains neither the test set nor these findings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from sap_core.data.names import SHOWN, printable
from sap_core.errors import UserError

Policy = Literal["warn", "refuse", "drop"]
"""What is done with images that occur more than once: keep and list them, refuse the data set, or drop copies (see `find_copies`)."""

COLUMNS = ("data_set", "group", "kind", "part", "path", "label", "dropped")
"""Columns of the file of all copies. `group` numbers the contents, `kind` is one of `Kind`, `dropped` is yes or no."""

_FEW = 6
"""Number of copies of one content that a line lists."""

Kind = Literal["leak", "contradiction", "leak and contradiction", "copy"]
"""Training or validation and test; different labels; both; the same label."""


def check_policy(policy: Policy, check: str) -> None:
    """Check the options of a data set that compares contents.

    Raises:
        UserError: copies are to be refused or dropped, but the check of files reads no pixels.
    """
    if policy != "warn" and check != "content":
        raise UserError(
            f"dataset.duplicates={policy} compares pixels, which dataset.check={check} does not read; set dataset.check=content, or "
            f"dataset.duplicates=warn"
        )


@dataclass(frozen=True)
class Copies:
    """Positions of equal contents. Training and validation samples are numbered from 0, and the test samples after them.

    Attributes:
        groups: positions of each content that occurs more than once, in order.
        dropped: positions that the policy `drop` removes.
    """

    groups: tuple[tuple[int, ...], ...]
    dropped: frozenset[int]


def pixel_digest(shape: Sequence[object], pixels: bytes) -> bytes:
    """Return 16 bytes that are equal for equal pixels of equal shape."""
    digest = hashlib.blake2b(repr(tuple(shape)).encode(), digest_size=16)
    digest.update(pixels)
    return digest.digest()


def find_copies(contents: Sequence[bytes], labels: Sequence[int], universe: int) -> Copies:
    """Find equal contents, and decide which copies `drop` removes.

    Of the training and validation samples it removes those that are also in the test set; of copies with different labels all; of copies
    with one label all but the first, in the order training, validation. The test set is compared with itself alone: of copies with
    different labels all are removed, of copies with one label all but the first.

    Args:
        contents: content of every sample, first those of the universe.
        labels: class of every sample.
        universe: number of training and validation samples.
    """
    places: dict[bytes, list[int]] = {}
    for place, content in enumerate(contents):
        places.setdefault(content, []).append(place)
    groups = tuple(tuple(group) for group in places.values() if len(group) > 1)
    dropped: set[int] = set()
    for group in groups:
        inside, outside = [place for place in group if place < universe], [place for place in group if place >= universe]
        dropped.update(_surplus(outside, labels))
        # Also where the test copies are removed themselves: a method must not train on what may be scored.
        dropped.update(inside if outside else _surplus(inside, labels))
    return Copies(groups, frozenset(dropped))


def _surplus(group: Sequence[int], labels: Sequence[int]) -> Sequence[int]:
    return group if len({labels[place] for place in group}) > 1 else group[1:]


@dataclass(frozen=True)
class Sample:
    """One copy: its part (train, val or test), its path below the data set's folder (or position), and the name of its label."""

    part: str
    path: str
    label: str
    dropped: bool

    def __str__(self) -> str:
        return f"{printable(self.path)} ({self.part}, label {printable(self.label)})"


@dataclass(frozen=True)
class Duplicates:
    """The images of a data set that occur more than once.

    Attributes:
        policy: what is done with them.
        groups: the copies of each content.
        remaining: numbers of training (with validation), validation and test images that `drop` leaves.
    """

    policy: Policy
    groups: tuple[tuple[Sample, ...], ...]
    remaining: tuple[int, int, int]

    @property
    def summary(self) -> str:
        """What was found, without a verb: `3 training or validation images that are also in the test set, ...`; "" for nothing."""
        kinds = [kind_of(group) for group in self.groups]
        leaks = sum(sample.part != "test" for group, kind in zip(self.groups, kinds, strict=True) if "leak" in kind for sample in group)
        contradictions, copies = (
            sum(len(group) for group, kind in zip(self.groups, kinds, strict=True) if wanted in kind) for wanted in ("contra", "copy")
        )
        # A leak may be a contradiction, too, and is counted as both.
        found = [
            f"{_images(leaks)} of training or validation also in the test set" if leaks else "",
            f"{_images(contradictions)} with equal pixels and different labels" if contradictions else "",
            f"{_images(copies)} with equal pixels and the same label" if copies else "",
        ]
        return ", ".join(part for part in found if part)

    @property
    def dropped(self) -> int:
        """Number of images that `drop` removes."""
        return sum(sample.dropped for group in self.groups for sample in group)

    def lines(self, name: str, file: object) -> list[str]:
        """Return the report: one sentence, the first ten groups, and the file with all of them; [] if there are none.

        Args:
            name: name of the data set.
            file: the file with all groups.
        """
        if not self.groups:
            return []
        if self.policy == "drop":
            done = f"dataset.duplicates=drop removes {self.dropped} of them, which leaves {self._counts}"
        else:
            done = f"dataset.duplicates={self.policy} keeps them; dataset.duplicates=drop would leave {self._counts}"
        shown = [f"  {kind_of(group)}: {_members(group)}" for group in self.groups[:SHOWN]]
        more = len(self.groups) - SHOWN
        end = f"  ... and {more} more; all" if more > 0 else "  all"
        return [
            f"data set {printable(name)}: {self.summary}; {done}",
            *shown,
            f"{end} {len(self.groups)} contents with their copies: {file}",
        ]

    def refusal(self, name: str, file: object = "") -> UserError:
        """Return the error of the policy `refuse`."""
        listed = f"; {file} lists them" if file else ""
        first = _members(self.groups[0])
        return UserError(
            f"data set {printable(name)} contains {self.summary} (dataset.duplicates=refuse), the first: {first}{listed}; delete copies, "
            f"or set dataset.duplicates=drop {self._counts}"
        )

    def rows(self, name: str) -> Iterator[tuple[str, ...]]:
        """Yield the rows of the file of all copies (`COLUMNS`)."""
        for number, group in enumerate(self.groups, start=1):
            for sample in group:
                dropped = "yes" if sample.dropped and self.policy == "drop" else "no"
                yield name, str(number), kind_of(group), sample.part, sample.path, sample.label, dropped

    @property
    def _counts(self) -> str:
        train, val, test = self.remaining
        return f"dataset.num_train={train} dataset.num_test={test}" + (f" dataset.validation={val}" if val else "")


def describe(
    policy: Policy, copies: Copies, parts: tuple[int, int, int], sample: Callable[[int], tuple[str, str]]
) -> Duplicates:  # fmt: skip
    """Return the report of copies.

    Args:
        policy: what is done with them.
        copies: what `find_copies` found.
        parts: numbers of training, validation and test samples before any is dropped.
        sample: position -> (path, name of the label).
    """
    train, val, test = parts

    def part(place: int) -> str:
        return "train" if place < train else "val" if place < train + val else "test"

    groups = tuple(
        tuple(Sample(part(place), *sample(place), place in copies.dropped) for place in group) for group in copies.groups
    )  # fmt: skip
    lost = [sum(part(place) == name for place in copies.dropped) for name in ("train", "val", "test")]
    return Duplicates(policy, groups, (train + val - lost[0] - lost[1], val - lost[1], test - lost[2]))


def kind_of(group: Sequence[Sample]) -> Kind:
    """Return what is wrong with copies of one content."""
    parts, labels = {sample.part == "test" for sample in group}, {sample.label for sample in group}
    if len(parts) == 2:
        return "leak and contradiction" if len(labels) > 1 else "leak"
    return "contradiction" if len(labels) > 1 else "copy"


def _members(group: Sequence[Sample]) -> str:
    # A blank image may have thousands of copies.
    more = len(group) - _FEW
    return " = ".join(map(str, group[:_FEW])) + (f" = ... and {more} more" if more > 0 else "")


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"

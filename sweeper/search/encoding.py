"""The settings of a space as a sampler sees them: one number per field, and back. Knows no Optuna."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from sap_core.identity import canonical_json
from sweeper.config.search_space import LISTS, Domain

Point = dict[str, Any]
"""The value of each searched field."""


def key_of(point: Mapping[str, Any]) -> str:
    """Equal for equal settings."""
    return canonical_json(point)


@dataclass(frozen=True)
class Points:
    """A product of domains whose values are canonical (of their fields' types).

    A sampler knows a list by the places of its values, a range by its numbers.
    """

    domains: tuple[Domain, ...]

    @property
    def listed(self) -> bool:
        """Are all fields lists? Then the settings have places in the order of the grid."""
        return all(domain.word in LISTS for domain in self.domains)

    @property
    def size(self) -> int | None:
        """How many settings there are; None for more than can be counted."""
        counts = [_count(domain) for domain in self.domains]
        return None if None in counts else math.prod(count for count in counts if count is not None)

    def at(self, place: int) -> Point:
        """The setting at a place of the grid, whose first field varies slowest."""
        found = {}
        for domain in reversed(self.domains):
            place, rest = divmod(place, len(domain.values))
            found[domain.field] = domain.values[rest]
        return {domain.field: found[domain.field] for domain in self.domains}

    def place(self, point: Mapping[str, Any]) -> int | None:
        """The place of a setting in the grid; None where some field is a range."""
        if not self.listed:
            return None
        place = 0
        for domain in self.domains:
            place = place * len(domain.values) + domain.values.index(point[domain.field])
        return place

    def decode(self, parameters: Mapping[str, Any]) -> Point:
        """From a sampler's numbers to a setting."""
        return {
            domain.field: domain.values[int(parameters[domain.field])]
            if domain.word in LISTS
            else type(domain.values[0])(parameters[domain.field])
            for domain in self.domains
        }

    def encode(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """From a setting to a sampler's numbers."""
        return {
            domain.field: domain.values.index(point[domain.field]) if domain.word in LISTS else point[domain.field]
            for domain in self.domains
        }

    def draw(self, generator: torch.Generator) -> Point:
        """A setting at random, every field by itself."""
        return self.decode({domain.field: _drawn(domain, generator) for domain in self.domains})

    def without(self, field: str) -> Points:
        """The product of the other fields."""
        return Points(tuple(domain for domain in self.domains if domain.field != field))


def _count(domain: Domain) -> int | None:
    if domain.word in LISTS:
        return len(domain.values)
    return int(domain.values[1]) - int(domain.values[0]) + 1 if domain.word == "randint" else None


def _drawn(domain: Domain, generator: torch.Generator) -> float:
    """Both ends of a whole-number range can be drawn."""
    if domain.word in LISTS or domain.word == "randint":
        low, count = (0, len(domain.values)) if domain.word in LISTS else (int(domain.values[0]), _count(domain) or 1)
        return low + int(torch.randint(count, (), generator=generator))
    low_end, high_end = (math.log(value) if domain.word == "loguniform" else float(value) for value in domain.values)
    value = low_end + (high_end - low_end) * float(torch.rand((), generator=generator, dtype=torch.float64))
    return math.exp(value) if domain.word == "loguniform" else value

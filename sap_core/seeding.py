"""Named random streams: every draw in the project says what it is for.

A stream is a key, not a state: `stream(12484, "train", 3)` gives the same numbers whatever was drawn before, on whatever machine, so a
run that resumes at epoch 3 sees the epoch 3 of the uninterrupted run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

Purpose = Literal["noise", "split", "verified", "init", "train", "select", "correct", "augment", "search"]


@dataclass(frozen=True)
class Stream:
    """A named source of randomness; `path` starts with its purpose."""

    seed: int
    path: tuple[str | int, ...]

    def child(self, *keys: str | int) -> Stream:
        """A stream below this one, independent of it and of its siblings."""
        return Stream(self.seed, (*self.path, *keys))

    def number(self) -> int:
        """The 63-bit seed that this key stands for (SHA-256, so that near keys give unrelated seeds)."""
        text = "\x1f".join([str(self.seed), *(f"{type(key).__name__}:{key}" for key in self.path)])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def generator(self) -> torch.Generator:
        """A fresh CPU generator; draws are made on the CPU so that every device sees the same ones."""
        return torch.Generator().manual_seed(self.number())

    def permutation(self, n: int) -> torch.Tensor:
        """(n,) a random order of 0..n-1."""
        return torch.randperm(n, generator=self.generator())

    @contextmanager
    def scope(self, device: torch.device | str = "cpu") -> Iterator[None]:
        """Seeds torch's global generator for layers that know no other (dropout, initialisers) and restores it afterwards."""
        device = torch.device(device)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.default_generator.manual_seed(self.number())  # torch.manual_seed would also seed GPUs that are not restored
            if device.type == "cuda":
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(self.number())
            yield


def stream(seed: int, purpose: Purpose, *keys: str | int) -> Stream:
    """The stream for `purpose`, keyed further by whatever must not share its numbers (data set, noise kind, epoch, phase)."""
    return Stream(seed, (purpose, *keys))

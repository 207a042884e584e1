"""Named random streams: every draw is keyed by its purpose.

A stream is a key and has no state: `stream(12484, "train", 3)` gives the same numbers on every machine, whatever was drawn before. So a
run that resumes at epoch 3 repeats epoch 3 of the uninterrupted run exactly. Noise, splits and verified samples are keyed by seed, data set
and kind, and neither by network nor by method, so methods are compared on the same samples.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy
import torch

Purpose = Literal["noise", "split", "verified", "init", "train", "select", "correct", "augment", "search"]


@dataclass(frozen=True)
class Stream:
    """A key for random numbers.

    Attributes:
        seed: seed of the run.
        path: keys below the seed; the first one is the purpose.
    """

    seed: int
    path: tuple[str | int, ...]

    def child(self, *keys: str | int) -> Stream:
        """Return the stream with further keys; it is independent of this one and of its siblings."""
        return Stream(self.seed, (*self.path, *keys))

    def number(self) -> int:
        """Return a 63-bit seed for this key, by SHA-256, so that similar keys give unrelated seeds."""
        # A separator that names do not contain, and the type of each key: ("a", "b") differs from ("ab",), and 1 from "1".
        text = "\x1f".join([str(self.seed), *(f"{type(key).__name__}:{key}" for key in self.path)])
        # Shifted to 63 bits, so that the seed is non-negative as a signed 64-bit integer.
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def generator(self) -> torch.Generator:
        """Return a new CPU generator. Numbers are drawn on the CPU so that all devices use the same ones."""
        return torch.Generator().manual_seed(self.number())

    def permutation(self, n: int) -> torch.Tensor:
        """Return a random permutation (n,) of 0 to n-1."""
        # A whole permutation, even where a prefix is used: prefixes of one permutation are nested.
        return torch.randperm(n, generator=self.generator())

    @contextmanager
    def scope(self, device: torch.device | str = "cpu") -> Iterator[None]:
        """Seed torch's global generator within a block, for layers that accept no generator (dropout, initialisers), then restore it."""
        # Masks of dropout on a GPU come from the GPU's own generator, so it is seeded and restored as well.
        device = torch.device(device)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), _mps_state_kept(device):
            # Not `torch.manual_seed`, which would also seed GPUs that are not restored.
            torch.default_generator.manual_seed(self.number())
            if device.type == "mps":
                torch.mps.manual_seed(self.number())
            if device.type == "cuda":
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(self.number())
            yield


@contextmanager
def _mps_state_kept(device: torch.device) -> Iterator[None]:
    """Restore the random state of an Apple GPU, which `fork_rng` does not know, after a block."""
    if device.type != "mps":
        yield
        return
    state = torch.mps.get_rng_state()
    try:
        yield
    finally:
        torch.mps.set_rng_state(state)


@contextmanager
def random_states_kept(device: torch.device | str = "cpu") -> Iterator[None]:
    """Restore the global random states of Python, numpy and torch after a block, as if it had drawn nothing."""
    device = torch.device(device)
    of_python, of_numpy = random.getstate(), numpy.random.get_state()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), _mps_state_kept(device):
            yield
    finally:
        random.setstate(of_python)
        numpy.random.set_state(of_numpy)


def stream(seed: int, purpose: Purpose, *keys: str | int) -> Stream:
    """Return the stream for a purpose.

    Args:
        seed: seed of the run.
        purpose: use of the numbers.
        *keys: everything that must not share its numbers with others, such as the data set, the noise kind or the epoch.
    """
    return Stream(seed, (purpose, *keys))

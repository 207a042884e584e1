"""Prune4ReL's greedy selection on made-up features: the product against a step over all samples after every pick; how time grows with N.

`python -m benchmarks.pruning [--samples 50000] [--features 512] [--keep 0.2] [--picks N] [--threads 1] [--plain] [--quick]`.
`--picks` stops after so many picks (the time per pick stays the same, until classes run out); `--plain` runs the slow way, too.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from trainers.pruning.greedy import cosine, greedy, log_gain

CLASSES = 10
TAU = 0.975


def made_up(samples: int, features: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of length 1 around ten directions (most of a class's cosines lie between 0.9 and 1), confidences, classes with a tenth wrong."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (samples,), generator=draw)
    centres = functional.normalize(torch.rand(CLASSES, features, generator=draw), dim=1)
    rows = torch.randn(samples, features, generator=draw)
    rows *= (0.1 + 0.25 * torch.rand(samples, 1, generator=draw)) / features**0.5
    for label in range(CLASSES):
        rows[labels == label] += centres[label]
    rows /= rows.norm(dim=1, keepdim=True)
    confidence = 0.3 + 0.7 * torch.rand(samples, generator=draw, dtype=torch.float64)
    given = torch.where(torch.rand(samples, generator=draw) < 0.1, (labels + 1) % CLASSES, labels)
    return rows, confidence, given


def plain(rows: Tensor, confidence: Tensor, given: Tensor, count: int) -> Tensor:
    """Moves every neighbourhood after every pick. No class may run out."""
    u, taken, picks = torch.zeros(len(rows), dtype=torch.float64), torch.zeros(len(rows), dtype=torch.bool), []
    for turn in range(count):
        gain = log_gain(u, confidence).masked_fill(taken | (given != turn % CLASSES), -torch.inf)
        chosen = int(gain.argmax())
        sim = ((rows @ rows[chosen]) + 1) / 2
        u += torch.where(sim > TAU, sim, 0).double() * confidence[chosen].float()
        taken[chosen] = True
        picks.append(chosen)
    return torch.tensor(picks)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--keep", type=float, default=0.2)
    parser.add_argument("--picks", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: only shows that it runs")
    options = parser.parse_args(words)
    samples, features = (600, 16) if options.quick else (options.samples, options.features)
    torch.set_num_threads(options.threads)
    rows, confidence, given = made_up(samples, features)
    count = options.picks or round(options.keep * samples)
    before = peak()
    wall, start = time.perf_counter(), time.process_time()
    found = greedy(rows, confidence, count, cosine, TAU, 1.0, given)
    taken, wall = time.process_time() - start, time.perf_counter() - wall
    print(
        f"{samples:,} x {features}, {count:,} of them kept, {options.threads} threads: {taken:.1f} CPU s, {wall:.1f} s of wall time, "
        f"{1e3 * taken / count:.2f} CPU ms each; features {rows.nbytes / 2**20:.0f} MiB, "
        f"highest memory {peak():.0f} MiB, {before:.0f} before the selection"
    )
    if options.plain or options.quick:
        start = time.process_time()
        slow = plain(rows, confidence, given, count)
        plainly = time.process_time() - start
        same = "the same samples in the same order" if torch.equal(found, slow) else f"{int((found != slow).sum())} picks are DIFFERENT"
        print(f"    a step over all samples after every pick: {plainly:.1f} CPU s (x{plainly / taken:.2f}), {same}")


def peak() -> float:
    """MiB that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()

"""Prune4ReL's greedy selection on synthetic features: time by N, and against updating all samples after every pick.

`python -m benchmarks.pruning [--samples 50000] [--features 512] [--keep 0.2] [--picks N] [--threads 1] [--plain] [--quick]`.
`--picks` stops after N picks (the time per pick is constant until classes are exhausted); `--plain` also runs the slow way.
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


def synthetic(samples: int, features: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns unit rows around ten directions (cosines in a class are mostly 0.9 to 1), confidences, labels with a tenth wrong."""
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
    """Updates every neighbourhood after every pick. No class may be exhausted."""
    u, picked, picks = torch.zeros(len(rows), dtype=torch.float64), torch.zeros(len(rows), dtype=torch.bool), []
    for turn in range(count):
        gain = log_gain(u, confidence).masked_fill(picked | (given != turn % CLASSES), -torch.inf)
        chosen = int(gain.argmax())
        sim = ((rows @ rows[chosen]) + 1) / 2
        u += torch.where(sim > TAU, sim, 0).double() * confidence[chosen].float()
        picked[chosen] = True
        picks.append(chosen)
    return torch.tensor(picks)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--keep", type=float, default=0.2)
    parser.add_argument("--picks", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to check that it runs")
    options = parser.parse_args(arguments)
    samples, features = (600, 16) if options.quick else (options.samples, options.features)
    torch.set_num_threads(options.threads)
    rows, confidence, given = synthetic(samples, features)
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
        print(f"    an update of all samples after every pick: {plainly:.1f} CPU s (x{plainly / taken:.2f}), {same}")


def peak() -> float:
    """Returns the peak memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()

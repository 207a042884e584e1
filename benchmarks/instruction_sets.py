"""Which operations have other bits under another instruction set, and whether the demo's finding depends on them.

Each row of the table is a process with environment variables that make torch, oneDNN and MKL compute as on another processor
(docs/reproducibility.md). `--demo FOLDER` runs `experiment=demo` under three of them into FOLDER, which takes some minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from analysis.store.load import load
from analysis.store.results import cells
from sap_core.instruction_sets import REPRODUCIBLE, cpu_capability
from sap_core.models.small_cnn import SmallCNN

PRETENDED = {
    "AVX-512 (as it is)": {},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "SSE4": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
}
"""Processors that a processor with AVX-512 can pretend to be."""

SINGLE = {
    **{f"ATEN_CPU_CAPABILITY={value}": {"ATEN_CPU_CAPABILITY": value} for value in ("avx2", "default")},
    **{f"ONEDNN_MAX_CPU_ISA={value}": {"ONEDNN_MAX_CPU_ISA": value} for value in ("AVX512_CORE", "AVX2", "SSE41")},
    **{f"MKL_CBWR={value}": {"MKL_CBWR": value} for value in ("AVX2", "AVX2,STRICT", "COMPATIBLE")},
    "MKL_ENABLE_INSTRUCTIONS=SSE4_2": {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    "2 threads": {"OMP_NUM_THREADS": "2"},
}
"""One variable at a time."""


def operations() -> dict[str, str]:
    """Name of an operation -> hash of its result's bits."""
    generator = torch.Generator().manual_seed(0)
    # Eighths, so that the inputs have the same bits everywhere: the normal distribution of torch does not.
    random: Callable[..., Tensor] = lambda *shape: torch.randint(-16, 17, shape, generator=generator) / 8  # noqa: E731
    images, kernel, left = random(64, 16, 8, 8), random(32, 16, 3, 3).requires_grad_(), random(300, 300)
    convolved = functional.conv2d(images, kernel, padding=1)
    (gradient,) = torch.autograd.grad(convolved, kernel, random(*convolved.shape))
    square = left[:145].double() @ left[:145].double().T
    return {
        name: hashlib.sha256(result.detach().contiguous().numpy().tobytes()).hexdigest()
        for name, result in {
            "convolution": convolved / 7 + functional.conv2d(images / 7, kernel / 3, padding=1),
            "its gradient": gradient / 7 + torch.autograd.grad(functional.conv2d(images / 7, kernel, padding=1).square().sum(), kernel)[0],
            "matrix product": (left[:64] / 7) @ (left / 3),
            "batch norm": nn.BatchNorm2d(16)(images / 7),
            "softmax": torch.softmax(left / 7, 1),
            "exp": (left / 7).exp(),
            "sum": (left / 7).sum(),
            "float64 product": (left.double() / 7) @ (left.double() / 3),
            "eigh (float64)": torch.linalg.eigh(square / 7)[1],
            "normal distribution": torch.randn(1000, generator=generator),
        }.items()
    }


def trained(steps: int) -> tuple[str, float]:
    """(hash of a small network's weights after 20 steps of SGD, CPU milliseconds per step over `steps` further steps)"""
    torch.manual_seed(0)
    network = SmallCNN(10, (1, 8, 8))
    optimiser = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9)
    images, labels = torch.randint(0, 17, (64, 1, 8, 8)) / 16, torch.randint(10, (64,))

    def train(count: int) -> None:
        for _ in range(count):
            optimiser.zero_grad()
            functional.cross_entropy(network(images), labels).backward()
            optimiser.step()

    train(20)
    weights = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    start = time.process_time()
    train(steps)
    return hashlib.sha256(weights.numpy().tobytes()).hexdigest(), (time.process_time() - start) / steps * 1e3


def measured(variables: dict[str, str], steps: int) -> dict[str, object]:
    """The hashes and the time of a new process with these environment variables."""
    environment = {"OMP_NUM_THREADS": "1", **os.environ, **variables}
    command = [sys.executable, "-m", "benchmarks.instruction_sets", "--measure", str(steps)]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def show_operations(quick: bool) -> None:
    """Prints, for each environment, the operations whose bits are not those of the plain environment, and the time of a step."""
    steps = 2 if quick else 300
    plain = measured({}, steps)
    others = {"AVX2": PRETENDED["AVX2"]} if quick else {**SINGLE, **{name: PRETENDED[name] for name in ("AVX2", "SSE4")}}
    for name, variables in others.items():
        _show(name, measured(variables, steps), plain)
    reproducible = measured(dict(REPRODUCIBLE), steps)
    _show("reproducible", reproducible, plain)
    # Variables of torch and oneDNN are overridden, MKL's instructions are not.
    for name in ("AVX2",) if quick else ("AVX2", "SSE4"):
        _show(f"reproducible on {name}, against reproducible", measured({**PRETENDED[name], **REPRODUCIBLE}, steps), reproducible)


def _show(name: str, found: dict[str, object], against: dict[str, object]) -> None:
    names = [key for key, value in found.items() if key not in ("ms", "capability") and value != against[key]]
    print(f"{name} ({found['capability']}): other bits in {', '.join(names) or 'none'}; {found['ms']:.2f} ms a step", flush=True)


def show_demo(folder: Path, methods: str | None) -> None:
    """Runs the demo under each pretended instruction set and prints its finding: gains by 95 % intervals of a t distribution, and costs."""
    for name, variables in PRETENDED.items():
        key = name.split()[0].replace("-", "").lower()
        command = [sys.executable, "-m", "sweeper", "experiment=demo", "backend=local", f"paths.results={folder / key}"]
        command += [f"paths.artifacts={folder / f'artifacts-{key}'}", *([f"methods={methods}"] if methods else [])]
        subprocess.run(command, env={**os.environ, **variables}, check=True)
        print(f"| {name} | {' | '.join(finding(folder / key))} |", flush=True)


def finding(store: Path) -> list[str]:
    """Vanilla's accuracy, and each method's gain with its interval and its sample passes, as texts."""
    from scipy.stats import t as student

    (cell,) = cells(load([store]))
    vanilla = pd.Series({baseline.seed: baseline.row["test_acc"] for baseline in cell.baselines if baseline.row is not None}) * 100
    found = [f"vanilla {vanilla.mean():.1f} ± {vanilla.std():.1f}"]
    for (method, space, *_), searches in cell.methods.items():
        chosen = {search.seed: search.choose("val_noisy").row for search in searches}
        gains = [float(row["test_acc"]) * 100 - vanilla[seed] for seed, row in chosen.items() if row is not None]
        passes = sum(search.rows["sample_forwards"].sum() + search.rows["sample_backwards"].sum() for search in searches) / len(searches)
        mean, half = statistics.mean(gains), student.ppf(0.975, len(gains) - 1) * statistics.stdev(gains) / len(gains) ** 0.5
        found.append(f"{method} ({space}) {mean:+.1f} [{mean - half:.1f}, {mean + half:.1f}], {passes:,.0f} passes")
    return found


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two instruction sets, few steps")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--demo", type=Path, metavar="FOLDER", help="run the demo under three instruction sets")
    parser.add_argument("--methods", help="with --demo: only these, as in [sap,finetune]")
    options = parser.parse_args()
    if options.measure:
        hashes, (weights, milliseconds) = operations(), trained(options.measure)
        print(json.dumps({**hashes, "20 steps of SGD": weights, "ms": milliseconds, "capability": cpu_capability()}))
    elif options.demo:
        show_demo(options.demo, options.methods)
    else:
        show_operations(options.quick)


if __name__ == "__main__":
    main()

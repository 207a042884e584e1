"""CPU and wall seconds of the commands, each in a fresh process: the median, and the ratio to `python -c "import torch"`.

The ratio compares machines. CPU seconds are user and system time; other processes change them less than wall seconds.
"""

from __future__ import annotations

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMPORT = '-c "import torch"'
COMMANDS = (
    "-m sweeper --help",
    "-m sweeper list",
    "-m sweeper experiment=dmo",
    "-m sweeper experiment=demo 'methods=[sapp]'",
    "-m sweeper experiment=demo dry_run=true",
    "-m sweeper experiment=table1 dry_run=true",
    "-m sweeper experiment=demo 'methods=[sap@alpha61]'",
    "-m analysis examples/demo",
    "-m analysis examples/demo status",
    "-m analysis examples/demo headline",
    "-m analysis examples/demo html",
    "-m analysis examples/demo all --force",
    "-m analysis examples/demo all",
)
"""Arguments of the interpreter. Exit code 2 is right for the two mistakes."""


def measure(arguments: str, rounds: int) -> tuple[float, float]:
    """(CPU seconds, wall seconds) of a command: medians over the rounds, after one that fills the caches of files and of byte code."""
    found = []
    for _ in range(rounds + 1):
        before, start = os.times(), time.perf_counter()
        words = [sys.executable, *shlex.split(arguments)]
        done = subprocess.run(
            words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8", errors="replace", check=False
        )
        wall, after = time.perf_counter() - start, os.times()
        if done.returncode not in (0, 2):
            raise RuntimeError(f"{arguments} ended with code {done.returncode}: {done.stderr[-500:]}")
        found.append((after.children_user - before.children_user + after.children_system - before.children_system, wall))
    cpu, wall_seconds = zip(*found[1:], strict=True)
    return statistics.median(cpu), statistics.median(wall_seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two commands, one round each")
    options = parser.parse_args()
    commands, rounds = (COMMANDS[:2], 1) if options.quick else (COMMANDS, options.rounds)
    reference, wall = measure(IMPORT, rounds)
    print("| command | CPU s | wall s | CPU against `import torch` |\n| --- | --- | --- | --- |")
    print(f"| `import torch` | {reference:.2f} | {wall:.2f} | 1 |")
    for command in commands:
        cpu, wall = measure(command, rounds)
        print(f"| `{command}` | {cpu:.2f} | {wall:.2f} | {cpu / reference:.2f} |", flush=True)


if __name__ == "__main__":
    main()

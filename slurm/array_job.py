"""A job array of independent tasks: each runs the worker program on its part of the jobs, then takes over what is left of the others'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slurm.batch import AGAIN, Sweep, closed, header, opening, quoted
from slurm.cluster import Cluster


@dataclass(frozen=True)
class Part:
    """One submission: `count` tasks, the first of which is task `first` (from 0) of `total`."""

    first: int
    count: int
    total: int


def parts(cluster: Cluster, max_array: int | None = None) -> list[Part]:
    """The submissions that hold the tasks: none longer than the array limit (`cluster.max_array`, else the cluster's own MaxArraySize)."""
    total = min(cluster.tasks, cluster.max_submit or cluster.tasks)
    longest = min(total, cluster.max_array or max_array or total)
    return [Part(first, min(longest, total - first), total) for first in range(0, total, longest)]


def text(cluster: Cluster, sweep: Sweep, part: Part) -> str:
    """The batch script of one submission."""
    limit = min(cluster.concurrent or part.count, part.count)
    array = f"0-{part.count - 1}" + (f"%{limit}" if limit < part.count else "")
    lines = header(cluster, sweep, "slurm-%A_%a.log", {"nodes": 1, "array": array})
    processes = cluster.processes
    worker: Sequence[object] = [
        "-m", "sweeper.execute", sweep.plan, "--data", sweep.data, "--store", sweep.store, "--artifacts", sweep.artifacts,
        "--order", sweep.order, "--device-jobs", -(-processes // max(1, cluster.gpus)), "--idle-timeout", cluster.idle_seconds,
    ]  # fmt: skip
    device = f'"cuda:$(((k - 1) % {cluster.gpus}))"' if cluster.gpus > 1 else sweep.device
    attempt = [sweep.plan, "--store", sweep.store, "--artifacts", sweep.artifacts]
    return "\n".join(
        [
            "#!/usr/bin/env bash",
            *map(closed, lines),
            "",
            *opening(cluster, sweep),
            "",
            AGAIN,
            f"cancelled={quoted([sweep.store / 'slurm' / 'cancelled'])}",
            f'attempt() {{ "${{run[@]}}" -m slurm.attempt "$1" {quoted(attempt)} "${{@:2}}"; }}',
            "",
            'while [ -z "$asked" ]; do',
            f"    attempt begin --limit {cluster.max_restarts} --gpus {cluster.gpus} --cpus {cluster.cpus}",
            "    code=$?",
            '    [ "$code" -eq 0 ] || exit "$code"',
            '    [ -z "$asked" ] || break',
            "    workers=()",
            f"    for ((k = 1; k <= {processes}; k++)); do",
            f'        "${{run[@]}}" {quoted(worker)} --device {device} \\',
            f'            --shard "$((({part.first} + SLURM_ARRAY_TASK_ID) * {processes} + k))/{part.total * processes}" &',
            "        workers+=($!)",
            "    done",
            '    [ -z "$asked" ] || forward "$asked"',
            "    await",
            '    attempt end --code "$code" && exit $((code == 1))  # nothing is left',
            '    [ "$code" -le 2 ] && [ -z "$asked" ] && exit "$code"',
            '    [ -n "$asked" ] || say "a program ended with exit code $code; starting it once more"',
            "done",
            "again",
            "exit 1",
            "",
        ]
    )

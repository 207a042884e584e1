"""Batch scripts of job arrays.

Each array task runs worker processes on its own shard of the sweep's jobs, then takes over unfinished jobs of other shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slurm.batch import BACK_OFF, FAILED_STARTS, REQUEUE_FUNCTIONS, Sweep, bookkeeping, close_quote, header, planning, prologue, quoted
from slurm.cluster import Cluster

_JOB = "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"

_LEAVE_NODE = rf"""
# Called when a start failed at once: pauses, then requests a requeue on another node than those on which starts of this submission failed.
# The task gives up after three such starts, and where there is no other node. The folder may be missing on a broken node.
leave_node() {{
    local node="${{SLURMD_NODENAME:-$HOSTNAME}}" known nodes own others excluded
    trap - TERM USR1
    {{ mkdir -p "$failed_starts" && printf '%s %s\n' "$node" "$SLURM_ARRAY_TASK_ID" >> "$failed_starts/$failed_tag"; }} 2> /dev/null
    known=$(cut -d' ' -f1 "$failed_starts/$failed_tag" 2> /dev/null | sort -u)
    known=${{known:-$node}}
    nodes=$(paste -sd, <<< "$known")
    own=$(grep -c " $SLURM_ARRAY_TASK_ID\$" "$failed_starts/$failed_tag" 2> /dev/null)
    own=${{own:-$((${{SLURM_RESTART_COUNT:-0}} + 1))}}
    others=$(sinfo --noheader --Node --states=idle,alloc,mixed --partition="${{SLURM_JOB_PARTITION:-}}" --format=%N 2> /dev/null |
        sort -u | grep -cvxF "$known")
    echo "$(date -u +%FT%TZ) sap-slurm: the start failed at once on node $node (exit code $1)"
    sleep "${{{BACK_OFF}}}"
    if [ "$own" -lt 3 ] && [ "${{others:-0}}" -gt 0 ]; then
        excluded=$(scontrol show job "$SLURM_JOB_ID" 2> /dev/null | sed -n 's/.*ExcNodeList=\([^ ]*\).*/\1/p' | grep -v null)
        echo "$(date -u +%FT%TZ) sap-slurm: requesting a requeue on another node than ${{excluded:+$excluded,}}$nodes"
        # Only a job that waits can be changed, so this shell has to outlive the requeue by a moment.
        trap '' TERM
        scontrol requeue "$SLURM_JOB_ID" &&
            scontrol update JobId="$SLURM_JOB_ID" ExcNodeList="${{excluded:+$excluded,}}$nodes"
    fi
    exit "$1"
}}"""


@dataclass(frozen=True)
class ArrayChunk:
    """One submitted array: tasks `first` to `first + count - 1`, counted from 0, of `total` tasks."""

    first: int
    count: int
    total: int


def array_chunks(cluster: Cluster, max_array: int | None = None) -> list[ArrayChunk]:
    """Divide the sweep's tasks among arrays that respect the cluster's limits.

    Args:
        cluster: supplies `tasks`, `max_submit` and `max_array`.
        max_array: tasks allowed per array by the cluster (MaxArraySize); None if unknown.
    """
    # Fewer tasks than asked for run the same sweep, because each takes over the unfinished jobs of other shards.
    total = min(cluster.tasks, cluster.max_submit or cluster.tasks)
    # The limit in the file may be older than that of the cluster.
    longest = min(total, cluster.max_array or total, max_array or total)
    # Shards are counted over all arrays, so a sweep divided by MaxArraySize is still divided evenly.
    return [ArrayChunk(first, min(longest, total - first), total) for first in range(0, total, longest)]


def text(cluster: Cluster, sweep: Sweep, chunk: ArrayChunk) -> str:
    """Return the batch script of one array."""
    limit = min(cluster.concurrent or chunk.count, chunk.count)
    # Indices from 0 in every array: Slurm limits the largest index (MaxArraySize - 1), not the number of tasks alone.
    array = f"0-{chunk.count - 1}" + (f"%{limit}" if limit < chunk.count else "")
    # One node per task, so that tasks start one by one as nodes become free and need no network between them.
    lines = header(cluster, sweep, "slurm-%A_%a", {"nodes": 1, "array": array})
    processes = cluster.processes
    worker: Sequence[object] = [
        "-m", "sweeper.execute", sweep.plan, "--data", sweep.paths.data, "--store", sweep.paths.store, "--artifacts", sweep.paths.artifacts,
        "--order", sweep.order, "--device-jobs", -(-processes // max(1, cluster.gpus)), "--idle-timeout", cluster.idle_seconds,
        *(["--plugins", ",".join(sweep.plugins)] if sweep.plugins else []),
    ]  # fmt: skip
    # Each worker has one GPU; with more workers than GPUs they share them in turn.
    device = f'"cuda:$(((k - 1) % {cluster.gpus}))"' if cluster.gpus > 1 else sweep.device
    return "\n".join(
        [
            # bash, not sh: arrays, process numbers and `wait` are used as bash defines them.
            "#!/usr/bin/env bash",
            *map(close_quote, lines),
            "",
            # Variables of its own, because `setup` may use a name like tag.
            *prologue(
                cluster,
                sweep,
                [f"failed_starts={quoted([sweep.paths.store / FAILED_STARTS])} failed_tag={quoted([sweep.tag])}", _LEAVE_NODE.strip()],
            ),
            "",
            REQUEUE_FUNCTIONS,
            # The number of an array task, not SLURM_JOB_ID, which differs between its tasks and is not what squeue prints.
            *bookkeeping(sweep, _JOB),
            *planning(cluster, sweep, "$SLURM_ARRAY_JOB_ID", _JOB, chunk.count),
            "",
            # When a worker is killed (out of memory, for example) the task goes on; `attempt begin` limits the repetitions.
            'while [ -z "$stop_signal" ]; do',
            f"    attempt begin --limit {cluster.max_restarts} --gpus {cluster.gpus} --cpus {cluster.cpu_count}",
            "    code=$?",
            # Code 3 is the limit of starts; with any other one Python or its environment does not work here.
            '    [ "$code" -ne 3 ] || exit 3',
            '    [ "$code" -eq 0 ] || leave_node "$code"',
            # A signal may have arrived while `attempt begin` ran; workers started now would be killed without having stored anything.
            '    [ -z "$stop_signal" ] || break',
            "    workers=()",
            f"    for ((k = 1; k <= {processes}; k++)); do",
            f'        "${{run[@]}}" {quoted(worker)} --device {device} \\',
            f'            --shard "$((({chunk.first} + SLURM_ARRAY_TASK_ID) * {processes} + k))/{chunk.total * processes}" &',
            "        workers+=($!)",
            "    done",
            # A signal during the loop met an incomplete list of workers, so it is forwarded once more.
            '    [ -z "$stop_signal" ] || forward "$stop_signal"',
            "    await_workers",
            # Code 1 says that a job failed, which is a result: the task has nothing left to do.
            '    attempt end --code "$code"',
            "    case $? in",
            "        0) exit $((code == 1)) ;;  # all jobs are done",
            '        4) leave_node "$code" ;;   # the workers ended at once and stored nothing',
            "    esac",
            # Codes up to 2 are decisions of the workers (done, failed, usage error); a higher one means that a worker was killed.
            '    [ "$code" -le 2 ] && [ -z "$stop_signal" ] && exit "$code"',
            '    [ -n "$stop_signal" ] || log "a worker exited with code $code; restarting the workers"',
            "done",
            # Reached only after a signal: the time limit or a preemption, with work remaining.
            "requeue",
            "exit 1",
            "",
        ]
    )

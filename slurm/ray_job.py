"""Batch scripts of mode ray: one allocation with a Ray cluster of its own, and one driver on its first node.

The script starts the job steps from bash, because a container has no srun. One srun per node runs `slurm.ray_node`. `ray symmetric-run` and
`ray stop` are not used: they refuse or end other Ray clusters of the same user on a node.
"""

from __future__ import annotations

from slurm.batch import REQUEUE_FUNCTIONS, Sweep, bookkeeping, close_quote, header, planning, prologue, quoted
from slurm.cluster import Cluster

WAIT_SECONDS = 180
"""Time limit for the start of the head node; 12 to 20 s were measured on two cores."""

RESERVE_SECONDS = 20
"""Seconds of the warning reserved for shutting down after the jobs have stored their state."""

_RAY = """\
# This job's own Ray cluster: free ports, node addresses from Slurm, and a random token that exists in the environment alone.
unset RAY_ADDRESS RAY_AUTH_TOKEN_PATH
# Options that srun would take from the environment: of the job's own request, or left behind by an outer job.
unset SLURM_CPUS_PER_GPU SLURM_CPU_BIND SLURM_DISTRIBUTION SLURM_EXACT SLURM_EXCLUSIVE SLURM_EXPORT_ENV SLURM_GPU_BIND SLURM_GPUS \\
    SLURM_GPUS_PER_NODE SLURM_GPUS_PER_TASK SLURM_GRES SLURM_HINT SLURM_KILL_BAD_EXIT SLURM_LABELIO SLURM_MEM_BIND SLURM_MEM_PER_CPU \\
    SLURM_MEM_PER_GPU SLURM_MEM_PER_NODE SLURM_NTASKS_PER_CORE SLURM_NTASKS_PER_GPU SLURM_NTASKS_PER_NODE SLURM_NTASKS_PER_SOCKET \\
    SLURM_OPEN_MODE SLURM_STDERRMODE SLURM_STDOUTMODE SLURM_TEST_EXEC SLURM_THREADS_PER_CORE SLURM_TIMELIMIT SLURM_TRES_PER_TASK \\
    SLURM_WAIT SLURM_WORKING_DIR ${!SRUN_*}
hosts=($(scontrol show hostnames "$SLURM_JOB_NODELIST"))
address_of() { scontrol show node --oneliner "$1" | sed -n 's/.* NodeAddr=\\([^ ]*\\).*/\\1/p'; }

# Runs Ray on one node until a signal arrives or Ray exits. srun forwards USR1 to the step, but kills the step at once on TERM.
step=
node() {
    local host=$1
    shift
    trap '[ -z "$step" ] || kill -USR1 "$step" 2> /dev/null' TERM
    trap '' USR1
    srun --overlap --export=ALL --nodes=1 --ntasks=1 --nodelist="$host" "${step_options[@]}" "${run[@]}" -m slurm.ray_node run "$head" \\
        --address "$(address_of "$host")" --cpus "$cpus" --gpus "$gpus" "$@" < /dev/null &
    step=$!
    while kill -0 "$step" 2> /dev/null; do wait "$step"; done
    step=
}

# Runs the head node. When the head exits, its driver cannot go on: it is terminated, and killed after 30 s.
run_head() {
    local driver=$1
    node "${hosts[0]}" --head
    kill -TERM "$driver" 2> /dev/null && log "the head node of the Ray cluster has exited"
    for ((k = 0; k < 30; k++)); do
        kill -0 "$driver" 2> /dev/null || return
        sleep 1
    done
    kill -KILL "$driver" 2> /dev/null
}

end_nodes() {
    kill -TERM "$@" 2> /dev/null
    for pid in "$@"; do
        while kill -0 "$pid" 2> /dev/null; do wait "$pid"; done
    done
}
"""


def text(cluster: Cluster, sweep: Sweep) -> str:
    """Return the batch script. Signals, requeues and starts without progress are handled as in array tasks (`slurm.array_job`)."""
    # All nodes in one allocation: the jobs of the sweep move freely between them.
    lines = header(cluster, sweep, "slurm-%j", {"nodes": cluster.nodes, "ntasks": cluster.nodes})
    # The driver has to end before the limit does, together with Ray on all nodes, hence the reserve.
    grace = max(10, cluster.warning_seconds - RESERVE_SECONDS)
    driver = [
        "-m", "sweeper.backends.ray_cluster", sweep.plan, "--data", sweep.paths.data, "--store", sweep.paths.store,
        "--artifacts", sweep.paths.artifacts, "--device", sweep.device, "--order", sweep.order, "--wait", WAIT_SECONDS, "--grace", grace,
        *(["--plugins", ",".join(sweep.plugins)] if sweep.plugins else []),
    ]  # fmt: skip
    # Since Slurm 22.05 srun no longer takes --cpus-per-task from the job. --mem=0 grants a step all memory of the allocation.
    options = [f"--cpus-per-task={cluster.cpu_count}", "--mem=0", *([f"--gres={cluster.gres}"] if cluster.gres else [])]
    # Of all nodes, for the hours that `sap-slurm status` adds up.
    gpus, cpus = cluster.gpus * cluster.nodes, cluster.cpu_count * cluster.nodes
    return "\n".join(
        [
            "#!/usr/bin/env bash",
            *map(close_quote, lines),
            "",
            *prologue(cluster, sweep),
            f"cpus={cluster.cpu_count} gpus={cluster.gpus} step_options=({quoted(options)})",
            "",
            REQUEUE_FUNCTIONS,
            _RAY,
            *bookkeeping(sweep, "$SLURM_JOB_ID"),
            *planning(cluster, sweep, "$SLURM_JOB_ID", "$SLURM_JOB_ID", 1),
            "",
            'while [ -z "$stop_signal" ]; do',
            f"    attempt begin --limit {cluster.max_restarts} --gpus {gpus} --cpus {cpus}",
            "    code=$?",
            '    [ "$code" -eq 0 ] || exit "$code"',
            '    [ -z "$stop_signal" ] || break',
            # A new token for each start, made by the kernel and kept in the environment: command lines are visible to other users.
            "    export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=$(od -An -v -N32 -tx1 /dev/urandom | tr -d ' \\n')",
            # Without a token Ray would let everybody in who reaches its port.
            '    [ "${#RAY_AUTH_TOKEN}" -eq 64 ] || { log "no random token could be made, and Ray does not start without one"; exit 2; }',
            # Chosen before Ray starts, because the workers and the driver need the address at the same time as the head.
            '    head=$("${run[@]}" -m slurm.ray_node pick "$(address_of "${hosts[0]}")") || exit 2',
            # The driver starts at once and waits for the head itself, so the import of torch overlaps with the start of Ray.
            f'    "${{run[@]}}" {quoted(driver)} --address "$head" &',
            "    workers=($!)",
            '    run_head "${workers[0]}" &',
            "    nodes=($!)",
            '    for host in "${hosts[@]:1}"; do node "$host" & nodes+=($!); done',
            '    [ -z "$stop_signal" ] || forward "$stop_signal"',
            "    await_workers",
            '    end_nodes "${nodes[@]}"',
            '    attempt end --code "$code" && exit $((code == 1))  # all jobs are done',
            # A usage error would be the same at every start.
            '    [ "$code" -eq 2 ] && [ -z "$stop_signal" ] && exit "$code"',
            # The driver found nothing more to start, so another start would find nothing, either.
            '    [ "$code" -eq 0 ] && [ -z "$stop_signal" ] && exit 0',
            '    [ -n "$stop_signal" ] || log "the driver exited with code $code; restarting Ray and the driver"',
            "done",
            "requeue",
            "exit 1",
            "",
        ]
    )

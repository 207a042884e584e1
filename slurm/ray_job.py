"""One allocation of several nodes: a Ray cluster of the job's own inside it, and one driver on its first node."""

from __future__ import annotations

from slurm.batch import AGAIN, Sweep, closed, header, opening, quoted
from slurm.cluster import Cluster

WAIT_SECONDS = 180
"""The head may take so long to come up; twelve to twenty on two quiet cores."""

RESERVE_SECONDS = 20
"""What the end takes after the jobs have stored their state, out of the warning."""

_RAY = """\
# A Ray cluster of this job's own: any free port, the nodes' own addresses, a random token that is in the environment alone.
unset RAY_ADDRESS RAY_AUTH_TOKEN_PATH
hosts=($(scontrol show hostnames "$SLURM_JOB_NODELIST"))
own() { scontrol show node --oneliner "$1" | sed -n 's/.* NodeAddr=\\([^ ]*\\).*/\\1/p'; }

# Keeps Ray on one node until it is told to end, or Ray ends. srun hands USR1 on to the node; at TERM it would kill it at once.
step=
node() {
    local host=$1
    shift
    trap '[ -z "$step" ] || kill -USR1 "$step" 2> /dev/null' TERM
    trap '' USR1
    srun --overlap --nodes=1 --ntasks=1 --nodelist="$host" "${step_options[@]}" "${run[@]}" -m slurm.ray_node keep "$head" \\
        --own "$(own "$host")" --cpus "$cpus" --gpus "$gpus" "$@" < /dev/null &
    step=$!
    while kill -0 "$step" 2> /dev/null; do wait "$step"; done
    step=
}

# The head's end is the driver's: it is told to end, and made to.
head_of() {
    local driver=$1
    node "${hosts[0]}" --head
    kill -TERM "$driver" 2> /dev/null && say "the head of the Ray cluster is gone"
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
    """The batch script. The end, the requeue and the limit on starts without progress are those of an array's task (`slurm.array_job`)."""
    lines = header(cluster, sweep, "slurm-%j.log", {"nodes": cluster.nodes, "ntasks": cluster.nodes})
    grace = max(10, cluster.warning_seconds - RESERVE_SECONDS)
    driver = [
        "-m", "sweeper.backends.ray_cluster", sweep.plan, "--data", sweep.data, "--store", sweep.store, "--artifacts", sweep.artifacts,
        "--device", sweep.device, "--order", sweep.order, "--wait", WAIT_SECONDS, "--grace", grace,
    ]  # fmt: skip
    attempt = [sweep.plan, "--store", sweep.store, "--artifacts", sweep.artifacts]
    options = [f"--cpus-per-task={cluster.cpus}", "--mem=0", *([f"--gres={cluster.gres}"] if cluster.gres else [])]
    gpus, cpus = cluster.gpus * cluster.nodes, cluster.cpus * cluster.nodes
    return "\n".join(
        [
            "#!/usr/bin/env bash",
            *map(closed, lines),
            "",
            *opening(cluster, sweep),
            f"cpus={cluster.cpus} gpus={cluster.gpus} step_options=({quoted(options)})",
            "",
            AGAIN,
            _RAY,
            f"cancelled={quoted([sweep.store / 'slurm' / 'cancelled'])}",
            f'attempt() {{ "${{run[@]}}" -m slurm.attempt "$1" {quoted(attempt)} "${{@:2}}"; }}',
            "",
            'while [ -z "$asked" ]; do',
            f"    attempt begin --limit {cluster.max_restarts} --gpus {gpus} --cpus {cpus}",
            "    code=$?",
            '    [ "$code" -eq 0 ] || exit "$code"',
            '    [ -z "$asked" ] || break',
            "    export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=$(od -An -v -N32 -tx1 /dev/urandom | tr -d ' \\n')",
            '    head=$("${run[@]}" -m slurm.ray_node pick "$(own "${hosts[0]}")") || exit 2',
            f'    "${{run[@]}}" {quoted(driver)} --address "$head" &',
            "    workers=($!)",
            '    head_of "${workers[0]}" &',
            "    nodes=($!)",
            '    for host in "${hosts[@]:1}"; do node "$host" & nodes+=($!); done',
            '    [ -z "$asked" ] || forward "$asked"',
            "    await",
            '    end_nodes "${nodes[@]}"',
            '    attempt end --code "$code" && exit $((code == 1))  # nothing is left',
            '    [ "$code" -eq 2 ] && [ -z "$asked" ] && exit "$code"',
            '    [ "$code" -eq 0 ] && [ -z "$asked" ] && exit 0',
            '    [ -n "$asked" ] || say "the driver ended with exit code $code; starting it once more"',
            "done",
            "again",
            "exit 1",
            "",
        ]
    )

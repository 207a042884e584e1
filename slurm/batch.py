"""Text shared by all batch scripts: #SBATCH lines, the environment, signal handling and requeue. Pure functions."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sap_core.errors import UserError
from slurm.cluster import Cluster
from slurm.submission import comment
from slurm.values import shell_word, shell_words
from sweeper.jobs.job import SweepPaths


@dataclass(frozen=True)
class Sweep:
    """A planned sweep on the cluster's shared file system. All paths are absolute."""

    name: str
    paths: SweepPaths
    home: Path  # relative paths refer to it
    python: str  # the interpreter that ran sap-slurm
    plan: Path  # job file, one JSON line per job; never changed after submission
    arguments: tuple[str, ...] = ()  # of the command line that planned the sweep
    order: str = "cells"
    device: str = "cpu"
    tag: str = ""  # of this submission (slurm.submission)
    printed: bool = False  # the script is printed for sbatch: the job itself plans and records the submission
    plugins: tuple[str, ...] = ()  # packages that the jobs may name, as on the command line
    planning: tuple[str, ...] = ()  # command line from which a printed script plans; empty: the plan exists
    packages: tuple[str, ...] = ()  # folders that PYTHONPATH needs (sap_core.location.package_path)


BACK_OFF = "SAP_SWEEP_BACK_OFF_SECONDS:-60"
"""Pause of a task whose start failed at once, in seconds, as a shell expansion. Without it a broken node would be free again, and take the
next task, within seconds."""

FAILED_STARTS = "slurm/failed_starts"
"""Folder in the store with a file TAG per submission: a line `NODE TASK` for each start that failed at once."""

CANCELLED = "slurm/cancelled"
"""Folder in the store where `sap-slurm cancel` leaves a file per cancelled submission (TAG) or array task (TAG_N)."""


def header(cluster: Cluster, sweep: Sweep, log: str, more: Mapping[str, object]) -> list[str]:
    """Return the #SBATCH lines.

    The job may be requeued and appends to its log. Slurm sends USR1 to the batch shell alone (`B:`), `warning_seconds` before the time
    limit; the shell forwards it to the workers.

    Args:
        cluster: the resources.
        sweep: supplies the job name and the log folder.
        log: file name in STORE/logs, with Slurm's patterns %A, %a and %j, without its suffix.
        more: options of the mode, such as `array`.
    """
    # The tag in both name and comment, because a site may rewrite one of them; and in the log's name, because clusters that share the store
    # count their jobs alike. A comment of the user's own stays as it is.
    suffix = f"-{sweep.tag}" if sweep.tag else ""
    own_comment = any(line.startswith("--comment") for line in cluster.sbatch)
    # The folder of logs may not exist yet when a printed script is submitted, and Slurm would not start the job.
    output = f"{log}.out" if sweep.printed else f"{log_folder(sweep.paths.store)}/{log}{suffix}.log"
    options = {
        "job-name": f"sap-{sweep.name}{suffix}", "comment": None if own_comment or not sweep.tag else comment(sweep.tag),
        "partition": cluster.partition, "account": cluster.account, "qos": cluster.qos,
        "constraint": cluster.constraint, "ntasks-per-node": 1, **cluster.resources, "time": cluster.time, **more,
        "requeue": True, "open-mode": "append", "export": "ALL",
        "output": output, "signal": f"B:USR1@{cluster.warning_seconds}",
    }  # fmt: skip
    lines = [f"#SBATCH --{key}" + ("" if value is True else f"={value}") for key, value in options.items() if value is not None]
    return [*lines, *(f"#SBATCH {option_line(line)}" for line in cluster.sbatch)]


def option_line(option: str) -> str:
    """Return an option of the cluster file as written in an #SBATCH line: a value with spaces in double quotes."""
    name, sign, value = option.partition("=")
    return f'{name}="{value}"' if sign and " " in value else option


def log_folder(store: Path) -> str:
    """Return STORE/logs as written in an #SBATCH line; the opening quote of a path with spaces is closed by `close_quote`.

    Raises:
        UserError: the path has characters that sbatch cannot read.
    """
    # sbatch replaces %j and other patterns in file names; a doubled % is one %.
    text = str(store / "logs").replace("%", "%%")
    # sbatch does not read these lines as a shell does, so quoting cannot protect such characters.
    if not text.isprintable() or set(text) & set("\"'\\"):
        raise UserError(
            f"the results folder {str(store)!r} contains quotes, backslashes or control characters, "
            "which sbatch misreads; set another paths.results"
        )
    return f'"{text}' if " " in text else text


def close_quote(line: str) -> str:
    """Close the quote that an #SBATCH line has opened."""
    # The pattern of the file name is appended to the quoted folder, so the quote is closed at the end of the line.
    return f'{line}"' if line.count('"') % 2 else line


def prologue(cluster: Cluster, sweep: Sweep, leave: Sequence[str] = ()) -> list[str]:
    """Return the lines that prepare the environment: the folder, the cluster's `setup` lines, temporary files, and the array `run`, the
    command that starts Python (in a container, if the cluster file names one).

    The script is bash because it must work before any Python does, forward signals, and outlive the processes that it starts.

    Args:
        cluster: supplies `setup`, `scratch`, `container` and `python`.
        sweep: the sweep.
        leave: lines that define the function `leave_node CODE`, which is called where the node or `setup` fails; none: the job ends.
    """
    folder = shlex.quote(str(sweep.home))
    failed = "leave_node 2" if leave else f'sleep "${{{BACK_OFF}}}"; exit 2'
    home = f'cd {folder} || {{ echo "error: node $HOSTNAME does not see this folder"; {failed}; }}'
    # What an outer job left in the environment of sbatch: Slurm sets these only in array tasks.
    leftovers = [] if cluster.mode == "array" else ["unset ${!SLURM_ARRAY_*}"]
    # The user's lines run before `set -u`, because the scripts of module systems may use variables that are not set. Their options and
    # traps end with them: with -e the first worker that is stopped would end this script before its requeue.
    reset = ["set +eEx +o pipefail +o noclobber +f", "trap - ERR DEBUG RETURN USR1 TERM INT HUP", "IFS=$' \\t\\n'", "set -u", home]
    if leave:
        reset = ["[[ $(trap -p EXIT) != *setup_failed* ]] || trap - EXIT", *reset]
    watched = [*_SETUP_FAILED, *cluster.setup] if leave and cluster.setup else cluster.setup
    lines = [*leave, home, *leftovers, *watched, *(reset if cluster.setup else ["set -u"])]
    # Temporary files on the node's own disk, in a folder of this job that is removed at its end.
    if cluster.scratch:
        scratch = f"$HOME{cluster.scratch[1:]}" if cluster.scratch.startswith("~") else cluster.scratch
        lines += [
            f'export TMPDIR="{scratch}/sap-$SLURM_JOB_ID"',
            # Others must not read Ray's sockets and logs; chmod fails on a folder that somebody else made.
            f'mkdir -p "$TMPDIR" && chmod 0700 "$TMPDIR" || {{ {failed}; }}',
            "trap 'rm -rf \"$TMPDIR\"' EXIT",
        ]
    # An array in bash, not a string: each argument keeps its boundaries, whatever characters it contains.
    python = shell_word(cluster.python) if cluster.python else shlex.quote(sweep.python)
    command = " ".join(filter(None, [shell_words(cluster.container or ""), python]))
    lines += [
        # Unbuffered, so that the log shows the last lines of a job that is killed.
        'export PYTHONUNBUFFERED=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"',
        *same_code(sweep.home, sweep.packages),
        f"run=({command})",
    ]
    return lines


# `setup` may end the script (set -e, exit). A signal is no fault of the node.
_SETUP_FAILED = (
    "setup_failed() {",
    "    local code=$?",
    "    set +eEux +o pipefail",
    "    trap - EXIT ERR",
    '    [ "$code" -le 128 ] || exit "$code"',
    '    echo "error: the lines of setup ended with exit code $code on node $HOSTNAME"',
    '    leave_node "${code/#0/2}"',
    "}",
    "trap setup_failed EXIT",
    "trap 'exit 143' TERM",
    "trap 'exit 138' USR1",
)


def same_code(home: Path, packages: Sequence[str]) -> list[str]:
    """Return the lines by which Python uses this copy of the packages, and `home` for relative paths, whatever the shell's environment."""
    lines = [f"export SAP_SWEEP_HOME={shlex.quote(str(home))}"]
    # The checkout first on the path: an installed copy of another version must not run.
    if packages:
        lines.append(f'export PYTHONPATH={shlex.quote(os.pathsep.join(packages))}"${{PYTHONPATH:+:$PYTHONPATH}}"')
    # The working directory is not on the path: a module in the user's folder must not hide one of the environment or of Python.
    return [*lines, "export PYTHONSAFEPATH=1"]


def quoted(arguments: Iterable[object]) -> str:
    """Quote arguments for bash and join them with spaces."""
    return " ".join(shlex.quote(str(argument)) for argument in arguments)


REQUEUE_FUNCTIONS = """\
# Signals: USR1 comes before the time limit; TERM comes at preemption, requeue, scancel or the limit. Workers store a checkpoint and exit.
stop_signal=
workers=()
forward() {
    stop_signal=$1
    log "received $1; asking the workers to store their state and exit"
    for pid in "${workers[@]}"; do kill -TERM "$pid" 2> /dev/null; done
}
trap 'forward USR1' USR1
trap 'forward TERM' TERM
log() { printf '%s sap-slurm: %s\\n' "$(date -u +%FT%TZ)" "$*"; }

# Waits for all workers and sets `code` to their highest exit code. A signal interrupts `wait`, hence the inner loop.
await_workers() {
    code=0
    local pid status
    for pid in "${workers[@]}"; do
        wait "$pid"
        status=$?
        while kill -0 "$pid" 2> /dev/null; do
            wait "$pid"
            status=$?
        done
        [ "$status" -le "$code" ] || code=$status
    done
}

# Requeues this job unless it was cancelled. If the requeue succeeds, Slurm ends this script. The state COMPLETING does not tell a cancelled
# job from one that Slurm requeues itself; the job requests a requeue only if the reason is TimeLimit or the log reports a preemption.
requeue() {
    local state
    if [ -e "$cancelled/$tag" ] || [ -e "$cancelled/${tag}_${SLURM_ARRAY_TASK_ID:-}" ]; then
        log "cancelled; finished jobs are stored"
        exit 0
    fi
    state=$(scontrol show job "$SLURM_JOB_ID" 2> /dev/null)
    case $state in
        *Reason=TimeLimit*) ;;
        *JobState=CANCELLED* | *JobState=COMPLETING*)
            if ! tail -n 9 "$(sed -n 's/^ *StdOut=//p' <<< "$state")" 2> /dev/null | grep -q 'DUE TO PREEMPTION'; then
                log "Slurm is cancelling or requeueing this job; finished jobs are stored"
                exit 0
            fi
            ;;
    esac
    log "requesting a requeue to continue from the stored state"
    if scontrol requeue "$SLURM_JOB_ID"; then
        trap - TERM
        sleep 300 &
        wait
    fi
}
"""
"""Bash functions for signals and requeue. A script that uses them sets `workers` (process ids), `tag` (of its submission) and `cancelled`
(the folder in which `sap-slurm cancel` leaves the tags of cancelled jobs)."""


def planning(cluster: Cluster, sweep: Sweep, base: str, job: str, tasks: int) -> list[str]:
    """Return the lines by which a job of a printed script plans the sweep and records itself; none for a submitted script.

    Args:
        cluster: the cluster.
        sweep: the sweep.
        base: shell expression of the id of the job or array.
        job: shell expression of the id of the job or array task, as printed by squeue.
        tasks: number of tasks.
    """
    if not sweep.printed:
        return []
    plan = str(sweep.plan.relative_to(sweep.paths.store))
    record = {
        "cluster_file": cluster.name, "mode": cluster.mode, "tasks": tasks, "gpus": cluster.gpus,
        "nodes": cluster.nodes if cluster.mode == "ray" else 1, "partition": cluster.partition, "time": cluster.time, "plan": plan,
        "arguments": list(sweep.arguments), "flops_before": 0.0, "tag": sweep.tag,
    }  # fmt: skip
    words = quoted([sweep.plan, "--store", sweep.paths.store, "--record", json.dumps(record)])
    logs = quoted([sweep.paths.store / "logs"])
    return [
        f'"${{run[@]}}" -m slurm.plan_job {words} --job "{base}" -- {quoted(sweep.planning)} || exit 2',
        f'mkdir -p {logs} && exec >> {logs}/"slurm-{job}-{sweep.tag}.log" 2>&1',
    ]


def bookkeeping(sweep: Sweep, job: str) -> list[str]:
    """Return the lines that define `tag`, `cancelled` and `attempt`, for a job whose id is the shell expression `job`."""
    attempt = [sweep.plan, "--store", sweep.paths.store, "--artifacts", sweep.paths.artifacts, "--tag", sweep.tag]
    return [
        f"tag={shlex.quote(sweep.tag)}",
        f"cancelled={quoted([sweep.paths.store / CANCELLED])}",
        f'attempt() {{ "${{run[@]}}" -m slurm.attempt "$1" {quoted(attempt)} --job "{job}" "${{@:2}}"; }}',
    ]

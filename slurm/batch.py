"""What the batch scripts of both shapes have in common: their #SBATCH lines, and the way to the first command. Pure text."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sap_core.errors import UserError
from slurm.cluster import Cluster


@dataclass(frozen=True)
class Sweep:
    """A frozen sweep: where it lies on the cluster's shared disk. All folders are absolute."""

    name: str
    store: Path
    data: Path
    artifacts: Path
    home: Path  # the checkout
    python: str  # the interpreter that ran sap-slurm
    plan: Path  # one JSON line per job
    words: tuple[str, ...] = ()  # of the command line that froze it
    order: str = "cells"
    device: str = "cpu"


def header(cluster: Cluster, sweep: Sweep, log: str, more: Mapping[str, object]) -> list[str]:
    """The #SBATCH lines. `log` is the name of the log file in STORE/logs, with Slurm's own %A, %a, %j; `more` are the shape's options.

    A job may be requeued, appends to its log, and is sent USR1 `warning_seconds` before its time limit: to the batch shell alone, which
    knows what to do.
    """
    options = {
        "job-name": f"sap-{sweep.name}", "partition": cluster.partition, "account": cluster.account, "qos": cluster.qos,
        "constraint": cluster.constraint, "ntasks-per-node": 1, "cpus-per-task": cluster.cpus, "mem": cluster.memory,
        "gres": cluster.gres, "time": cluster.time, **more, "requeue": True, "open-mode": "append",
        "output": f"{path_of_log(sweep.store)}/{log}", "signal": f"B:USR1@{cluster.warning_seconds}",
    }  # fmt: skip
    lines = [f"#SBATCH --{key}" + ("" if value is True else f"={value}") for key, value in options.items() if value is not None]
    return [*lines, *(f"#SBATCH {line}" for line in cluster.sbatch)]


def path_of_log(store: Path) -> str:
    """STORE/logs as an #SBATCH line writes it.

    Raises:
        UserError: a name that no such line can hold.
    """
    text = str(store / "logs").replace("%", "%%")
    if not text.isprintable() or set(text) & set("\"'\\"):
        raise UserError(f"the results folder {str(store)!r} has quotes or backslashes in its name, which sbatch misreads; choose another")
    return f'"{text}' if " " in text else text


def closed(line: str) -> str:
    """An #SBATCH line whose value was opened with a quote, closed."""
    return f'{line}"' if line.count('"') % 2 else line


def opening(cluster: Cluster, sweep: Sweep) -> list[str]:
    """From the compute node's shell to the program: the checkout, the user's set-up lines, temporary files, `run=(...)`."""
    lines = [f"cd {shlex.quote(str(sweep.home))} || exit 2", *cluster.setup, "set -u"]
    if cluster.scratch:
        lines += [
            f'export TMPDIR="{cluster.scratch}/sap-$SLURM_JOB_ID"',
            'mkdir -p "$TMPDIR" || exit 2',
            "trap 'rm -rf \"$TMPDIR\"' EXIT",
        ]
    words = [*shlex.split(cluster.container or ""), cluster.python or sweep.python]
    lines += [
        'export PYTHONUNBUFFERED=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"',
        f'export PYTHONPATH={shlex.quote(str(sweep.home))}"${{PYTHONPATH:+:$PYTHONPATH}}"',
        f"run=({quoted(words)})",
    ]
    return lines


def quoted(words: Iterable[object]) -> str:
    """Words as bash reads them back, whatever is in them."""
    return " ".join(shlex.quote(str(word)) for word in words)


AGAIN = """\
# Asked to end: by USR1 before the time limit, or by TERM (preemption, requeue, scancel, the limit itself). Each program stores its state.
asked=
workers=()
forward() {
    asked=$1
    say "$1: the programs are told to store their state and end"
    for pid in "${workers[@]}"; do kill -TERM "$pid" 2> /dev/null; done
}
trap 'forward USR1' USR1
trap 'forward TERM' TERM
say() { printf '%s sap-slurm: %s\\n' "$(date -u +%FT%TZ)" "$*"; }

# Waits for all workers; `code` is the highest exit code of theirs. A signal to this shell ends a `wait` early, so it waits again.
await() {
    code=0
    local pid got
    for pid in "${workers[@]}"; do
        wait "$pid"
        got=$?
        while kill -0 "$pid" 2> /dev/null; do
            wait "$pid"
            got=$?
        done
        [ "$got" -le "$code" ] || code=$got
    done
}

# Into the queue again, unless somebody cancelled the job. When that works Slurm ends this script. A job that Slurm is ending (COMPLETING)
# was cancelled, or is requeued by Slurm itself, unless the time limit or a preemption that cancels ended it: of that the log tells.
again() {
    local name state
    for name in "$SLURM_JOB_ID" "${SLURM_ARRAY_JOB_ID:-}" "${SLURM_ARRAY_JOB_ID:-}_${SLURM_ARRAY_TASK_ID:-}"; do
        if [ -n "$name" ] && [ -e "$cancelled/$name" ]; then
            say "cancelled: what was finished is stored"
            exit 0
        fi
    done
    state=$(scontrol show job "$SLURM_JOB_ID" 2> /dev/null)
    case $state in
        *Reason=TimeLimit*) ;;
        *JobState=CANCELLED* | *JobState=COMPLETING*)
            if ! tail -n 9 "$(sed -n 's/^ *StdOut=//p' <<< "$state")" 2> /dev/null | grep -q 'DUE TO PREEMPTION'; then
                say "Slurm ends this job, or starts it again, by itself: what was finished is stored"
                exit 0
            fi
            ;;
    esac
    say "asks for a requeue, to go on where it was"
    if scontrol requeue "$SLURM_JOB_ID"; then
        trap - TERM
        sleep 300 &
        wait
    fi
}
"""
"""Bash functions for scripts that end when they are told to, and go on after a requeue. `workers` holds process ids, `cancelled` the folder
in which `sap-slurm cancel` notes jobs (STORE/slurm/cancelled)."""

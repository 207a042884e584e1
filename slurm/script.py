"""Generate batch scripts. Pure functions, so that scripts can be printed and tested without a cluster.

`submission_plan` and `script_text` generate the scripts of a cluster's `mode`. `Request` and `script` generate the plain script of one
node, which needs no cluster file.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from sap_core.errors import UserError, unknown
from slurm import array_job, ray_job
from slurm.array_job import ArrayChunk
from slurm.batch import Sweep, quoted, same_code
from slurm.cluster import Cluster
from slurm.values import CONSTRAINT, MEMORY, PLAIN, TIME

_FORMS = {
    "constraint": (CONSTRAINT, "letters, digits and _.,:@%+=/-&|*[]()!"),
    "memory": (MEMORY, "a number with K, M, G or T, as in 64G"),
    "time": (TIME, "minutes, H:MM:SS, D-HH:MM:SS or UNLIMITED, as in 1-00:00:00"),
}


def submission_plan(cluster: Cluster, max_array: int | None = None) -> Sequence[ArrayChunk | None]:
    """Return the submissions that run a sweep: job arrays, or None for the single job of mode ray.

    Args:
        cluster: the cluster.
        max_array: tasks allowed per array by the cluster; None if unknown.
    """
    return array_job.array_chunks(cluster, max_array) if cluster.mode == "array" else [None]


def script_text(cluster: Cluster, sweep: Sweep, chunk: ArrayChunk | None) -> str:
    """Return the batch script of one submission."""
    # The mode decided whether there are chunks (`submission_plan`), so it is not asked a second time.
    if chunk is not None:
        return array_job.text(cluster, sweep, chunk)
    return ray_job.text(cluster, sweep)


@dataclass(frozen=True)
class Request:
    """Resources of a one-node job: one field per sbatch option, with values in sbatch's notation."""

    job_name: str = "sap-sweep"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gpus: int = 0
    cpus: int = 4
    memory: str = "16G"
    time: str = "04:00:00"

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            pattern, allowed = _FORMS.get(item.name, (PLAIN, "letters, digits and _.,:@%+=/-"))
            if isinstance(value, str) and not pattern.fullmatch(value):
                raise UserError(f"{item.name}={value!r} is not allowed in a batch script; allowed: {allowed}")


def parse_request(arguments: Sequence[str]) -> tuple[Request, list[str]]:
    """Separate `slurm.KEY=VALUE` arguments from those of the sweep.

    Raises:
        UserError: a key is unknown or a value is invalid.
    """
    kinds = {item.name: item.type for item in fields(Request)}
    values: dict[str, str | int] = {}
    rest: list[str] = []
    for argument in arguments:
        key, sign, value = argument.partition("=")
        # All other arguments belong to the sweep and are passed on in their order.
        if not key.startswith("slurm."):
            rest.append(argument)
            continue
        name = key.removeprefix("slurm.")
        if name not in kinds:
            raise unknown("key", name, kinds, "slurm")
        if not sign or not value:
            raise UserError(f"'{argument}' has no value; write {key}=VALUE")
        if name in values:
            raise UserError(f"{key} is given twice; remove one of them")
        # isdigit alone accepts superscripts, which int refuses.
        if kinds[name] == "int" and not (value.isascii() and value.isdigit()):
            raise UserError(f"{key}={value!r} must be a whole number")
        values[name] = int(value) if kinds[name] == "int" else value
    return Request(**values), rest  # type: ignore[arg-type]


def script(request: Request, command: Sequence[str], folder: Path, python: str, packages: Sequence[str] = ()) -> str:
    """Return the batch script that runs `sap-sweep COMMAND` on one node, with the local backend unless another is named.

    Args:
        request: the resources.
        command: overrides of the sweep; each is quoted, so the shell executes nothing in them.
        folder: relative paths refer to it.
        python: absolute path of the environment's interpreter.
        packages: folders that PYTHONPATH needs (`sap_core.location.package_path`).
    """
    options = {
        "job-name": request.job_name, "partition": request.partition, "account": request.account, "qos": request.qos,
        "constraint": request.constraint, "nodes": 1, "ntasks": 1, "cpus-per-task": request.cpus, "mem": request.memory,
        "time": request.time, "gpus": request.gpus or None, "export": "ALL", "output": f"{request.job_name}-%j.log", "signal": "B:TERM@120",
    }  # fmt: skip
    header = [f"#SBATCH --{name}={value}" for name, value in options.items() if value is not None]
    # Defaults before the command's own overrides, so that the latter win.
    program = [python, "-m", "sweeper", "backend=local", *(["backend.device=cuda"] if request.gpus else []), *command]
    return "\n".join(
        [
            "#!/usr/bin/env bash",
            *header,
            "",
            "set -euo pipefail",
            f"cd {shlex.quote(str(folder))}",
            *same_code(folder, packages),
            "# Slurm sends TERM two minutes before the time limit: the sweep stores its state and exits; submit again to continue.",
            # In the background: bash runs a trap only when the foreground command has ended.
            quoted(program) + " &",
            "sweep=$!",
            # `wait` in the trap, because a signal ends the other `wait` while the sweep is still storing its state.
            'trap \'kill -TERM "$sweep"; wait "$sweep"\' TERM',
            'wait "$sweep"',
            "",
        ]
    )

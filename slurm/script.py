"""The texts of batch scripts: pure, so that they can be read, tested and compared before anything is queued.

`scripts` and `text_of` choose the shape that a cluster's `mode` names; `Request` and `script` are the plain script of one node, without a
cluster file.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields

from sap_core.errors import UserError, unknown
from slurm import array_job, ray_job
from slurm.array_job import Part
from slurm.batch import Sweep
from slurm.cluster import Cluster

_PLAIN = re.compile(r"[A-Za-z0-9_.,:@%+=/\-]+")


def scripts(cluster: Cluster, sweep: Sweep, max_array: int | None = None) -> Sequence[Part | None]:
    """The submissions that a sweep takes: parts of an array; None is one job that does all (mode ray).

    Args:
        cluster: where and how.
        sweep: what.
        max_array: the most tasks that the cluster allows in one array, where its file does not say.
    """
    return array_job.parts(cluster, max_array) if cluster.mode == "array" else [None]


def text_of(cluster: Cluster, sweep: Sweep, part: Part | None) -> str:
    """The batch script of one submission."""
    if part is not None:
        return array_job.text(cluster, sweep, part)
    return ray_job.text(cluster, sweep)


@dataclass(frozen=True)
class Request:
    """What is asked of the scheduler for one node; one field per sbatch option, values as sbatch writes them."""

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
            if isinstance(value, str) and not _PLAIN.fullmatch(value):
                raise UserError(
                    f"{item.name}={value!r} has characters that a batch script could misread; use letters, digits and _.,:@%+=/- only"
                )


def parse_request(words: Sequence[str]) -> tuple[Request, list[str]]:
    """Splits `slurm.KEY=VALUE` words from the sweep's own.

    Raises:
        UserError: an unknown key or a number that is none.
    """
    kinds = {item.name: item.type for item in fields(Request)}
    given: dict[str, str | int] = {}
    rest: list[str] = []
    for word in words:
        key, sign, value = word.partition("=")
        if not key.startswith("slurm."):
            rest.append(word)
            continue
        name = key.removeprefix("slurm.")
        if name not in kinds:
            raise unknown("key", name, kinds, "slurm")
        if not sign or not value:
            raise UserError(f"'{word}' gives no value; write {key}=VALUE")
        if kinds[name] == "int" and not (value.isascii() and value.isdigit()):
            raise UserError(f"{key}={value!r} must be a whole number")
        given[name] = int(value) if kinds[name] == "int" else value
    return Request(**given), rest  # type: ignore[arg-type]


def script(request: Request, command: Sequence[str], folder: str, python: str) -> str:
    """The batch script that runs `sap-sweep COMMAND` on one node; a second submission does what is left. The backend is local unless named.

    Args:
        request: the resources.
        command: overrides of the sweep; each is quoted, so nothing in them can be run by the shell.
        folder: the checkout.
        python: the interpreter of the environment, absolute.
    """
    options = {
        "job-name": request.job_name, "partition": request.partition, "account": request.account, "qos": request.qos,
        "constraint": request.constraint, "nodes": 1, "ntasks": 1, "cpus-per-task": request.cpus, "mem": request.memory,
        "time": request.time, "gpus": request.gpus or None, "output": f"{request.job_name}-%j.log", "signal": "B:TERM@120",
    }  # fmt: skip
    header = [f"#SBATCH --{name}={value}" for name, value in options.items() if value is not None]
    words = [python, "-m", "sweeper", "backend=local", *(["backend.device=cuda"] if request.gpus else []), *command]
    return "\n".join(
        [
            "#!/usr/bin/env bash",
            *header,
            "",
            "set -euo pipefail",
            f"cd {shlex.quote(folder)}",
            "# Two minutes before the end Slurm sends TERM to this shell: the sweep stores its state and ends; submit again to go on.",
            " ".join(shlex.quote(word) for word in words) + " &",
            "sweep=$!",
            'trap \'kill -TERM "$sweep"; wait "$sweep"\' TERM',
            'wait "$sweep"',
            "",
        ]
    )

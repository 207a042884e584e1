"""Find the store and the log that the arguments of a command refer to. Standard library only."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from sap_core.command_line import home_expanded
from sap_core.completion import similar_store
from sap_core.errors import UserError
from slurm.submission import FOLDER

_SLURM_JOB = re.compile(r"\d+(_\d+)?")


# A results folder contains one of these from its first plan, import or submission on.
_CONTENTS = ("plan.parquet", "jobs.jsonl", "slurm", "rows", "logs")


def split_store(arguments: Sequence[str], home: Path, names: bool = False) -> tuple[Path, list[str]]:
    """Return (store, other arguments). The store is the first argument if that is a folder, else the last submitted one in `home`/results.

    Args:
        arguments: of the command.
        home: the folder that contains `results`.
        names: whether the other arguments may be names, of jobs or runs of the sweep, and not ids of batch jobs alone.

    Raises:
        UserError: the folder is no store, or does not exist; or no store is named and none was submitted.
    """
    # A folder first: an existing path is never meant as the id of a job.
    if arguments and home_expanded(arguments[0]).is_dir():
        store = home_expanded(arguments[0]).resolve()
        # Of a mistyped folder "nothing is queued" would be true, and misleading.
        if not any((store / name).exists() for name in _CONTENTS):
            raise UserError(f"{store} is not a store: it has no plan.parquet; give the results folder of a sweep, such as results/demo")
        return store, list(arguments[1:])
    if arguments and not _SLURM_JOB.fullmatch(arguments[0]) and ("/" in arguments[0] or not names):
        similar = similar_store(home_expanded(arguments[0]))
        raise UserError(f"there is no folder {arguments[0]}{similar}; sap-slurm submit experiment=NAME cluster=CLUSTER makes results/NAME")
    # The folder of submissions changes with each of them, so its time is that of the last one.
    stores = {path.parent.parent: path.stat().st_mtime for path in home.glob(f"results/*/{FOLDER}")}
    if not stores:
        raise UserError(f"no sweep in {home / 'results'} was submitted; name a results folder, as in sap-slurm status results/table1")
    return max(stores, key=lambda store: stores[store]), list(arguments)


def is_slurm_job(name: str) -> bool:
    """Whether a name is the id of a batch job (12) or of an array task (12_3)."""
    return _SLURM_JOB.fullmatch(name) is not None


def find_log(store: Path, name: str | None, job_of_run: dict[str, str]) -> Path:
    """Return the path of a log.

    Args:
        store: the results folder.
        name: id of a batch job or array task (12, 12_3), of a job of the sweep or of a run; None means the last written log of a batch job.
        job_of_run: maps run ids to job ids.

    Raises:
        UserError: there is no such log.
    """
    logs = store / "logs"
    if name is None:
        # By the time of the last write, because the numbers of tasks say nothing about which of them runs.
        found = sorted((path for path in logs.glob("slurm-*.log") if path.is_file()), key=lambda path: path.stat().st_mtime)
        if not found:
            raise UserError(f"{logs} contains no log of a batch job yet; sap-slurm status {shlex.quote(str(store))} shows what is queued")
        return found[-1]
    # `12` may be a job, a check or an array, whose first task is shown.
    kinds = (f"slurm-{name}", f"check-{name}", f"slurm-{name}_0") if is_slurm_job(name) else ()
    for kind in kinds:
        # The tag of the submission follows the id: clusters that share the store count alike, and the log that was written last is meant.
        same = [path for path in (logs / f"{kind}.log", *logs.glob(f"{kind}-*.log")) if path.is_file()]
        if same:
            return max(same, key=lambda path: path.stat().st_mtime)
    # Logs are named after jobs; a run is looked up in the plan.
    for candidate in (f"{name}.log", f"{job_of_run.get(name, name)}.log"):
        if (logs / candidate).is_file():
            return logs / candidate
    tasks = sorted({path.name.removeprefix("slurm-").removesuffix(".log").split("-")[0] for path in logs.glob("slurm-*.log")})
    hint = f"; batch jobs with logs: {', '.join(tasks[:12])}{' ...' if len(tasks) > 12 else ''}" if tasks else ""
    raise UserError(f"{logs} contains no log of '{name}': it has not started, or it is not a job or run of this sweep{hint}")

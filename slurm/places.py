"""Which store a command means, and the logs in it. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from sap_core.errors import UserError
from slurm.submit import FOLDER

_SLURM_JOB = re.compile(r"\d+(_\d+)?")


def split_store(words: Sequence[str], home: Path) -> tuple[Path, list[str]]:
    """(the store, the other words): the first word if it is a folder, else the store that was submitted last below `home`/results.

    Raises:
        UserError: no store is named and none was submitted.
    """
    if words and Path(words[0]).is_dir():
        return Path(words[0]).resolve(), list(words[1:])
    if words and not _SLURM_JOB.fullmatch(words[0]) and "/" in words[0]:
        raise UserError(f"there is no folder {words[0]}; name a results folder, as in results/table1")
    stores = {path.parent.parent: path.stat().st_mtime for path in home.glob(f"results/*/{FOLDER}")}
    if not stores:
        raise UserError("nothing was submitted from here; name a results folder, as in sap-slurm status results/table1")
    return max(stores, key=lambda store: stores[store]), list(words)


def is_slurm_job(word: str) -> bool:
    """12 or 12_3: how squeue names a job, or a task of an array."""
    return _SLURM_JOB.fullmatch(word) is not None


def log_of(store: Path, word: str | None, job_of_run: dict[str, str]) -> Path:
    """The log that a word means: none, the batch log written last; 12 or 12_3, that batch job's; else a job's or a run's of the sweep.

    Raises:
        UserError: there is none.
    """
    logs = store / "logs"
    if word is None:
        found = sorted(logs.glob("slurm-*.log"), key=lambda path: path.stat().st_mtime)
        if not found:
            raise UserError(f"{logs} holds no log of a batch job yet; sap-slurm status {store.name} says why it waits")
        return found[-1]
    names = [f"slurm-{word}.log", f"check-{word}.log", f"slurm-{word}_0.log"] if is_slurm_job(word) else []
    names += [f"{word}.log", f"{job_of_run.get(word, word)}.log"]
    for name in names:
        if (logs / name).is_file():
            return logs / name
    tasks = sorted(path.name.removeprefix("slurm-").removesuffix(".log") for path in logs.glob("slurm-*.log"))
    hint = f"; batch jobs with logs: {', '.join(tasks[:12])}{' ...' if len(tasks) > 12 else ''}" if tasks else ""
    raise UserError(f"{logs} holds no log of '{word}': it has not begun, or is no job or run of this sweep{hint}")

"""What kinds of jobs share: where they run, what they come to, their data, and the columns of costs and failures."""

from __future__ import annotations

import gc
import json
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sap_core.api import Corrector, Need, SampleCount, Samples, SelectsSamples, Task
from sap_core.cost import flops_per_sample
from sap_core.data.assemble import Prepared, prepare
from sap_core.data.source import DataSet, audit_file
from sap_core.errors import UserError
from sap_core.evaluation.evaluator import Evaluator
from sap_core.records import Point
from sweeper.jobs.run_context import JobRun

if TYPE_CHECKING:
    from sweeper.search.trials import AskTell

Columns = dict[str, Any]

AskerOf = Callable[[dict[str, Any], Any], "AskTell"]
"""(Optuna's distributions by field, an Optuna sampler) -> what is asked for settings."""


@dataclass(frozen=True)
class JobContext:
    """Where a job runs."""

    data: Path
    artifacts: Path
    device: torch.device
    stop: Callable[[], bool]  # raises Stopped where the job has become another process's
    jobs_on_device: int = 1  # jobs that run at a time on the device
    asker: AskerOf | None = None  # what searches ask; None: an Optuna study


@dataclass(frozen=True)
class Failure:
    """Why a method ended early."""

    kind: str
    error: str
    traceback: str


@dataclass
class JobOutcome:
    """What running a job came to: columns per planned run, and those that all share."""

    columns: list[Columns]
    scored: list[bool]
    facts: Columns = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    failure: Failure | None = None
    started_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


@lru_cache(maxsize=2)
def prepared_for(text: str, root: Path, device: torch.device) -> tuple[Prepared, Evaluator]:
    """The data of a spec (canonical JSON of its `data_keys`) and who scores on them; kept for the next job on the same data."""
    prepared = prepare(json.loads(text), root, device)
    return prepared, Evaluator(prepared)


def data_keys(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a baseline's spec that its data and its network follow from."""
    return {key: spec[key] for key in ("dataset", "noise", "model", "preprocess", "seed", "limit")}


def facts_of(prepared: Prepared, num_train: int) -> Columns:
    """The columns that say how much data there was."""
    sizes = {"num_train": num_train, "num_val": len(prepared.val), "num_test": len(prepared.test)}
    return {"noise_rate_measured": prepared.noise_rate_measured, **sizes}


def precision_of(evaluator: Evaluator) -> Callable[[Tensor], float | None]:
    """For a run's curve: the share of right labels among kept samples."""
    return lambda index: evaluator.trusted(index).get("trusted_label_precision")


def information_of(setting: Corrector, by_file: bool, served: Iterable[Need] = (), selected: bool = False) -> str:
    """The information that a setting uses beyond the given labels: the column `information`.

    Args:
        setting: declares its needs, and by `SelectsSamples` whether it selects samples by itself.
        by_file: verified samples come from a file of the user, not from true labels.
        served: the kinds of verified samples that the job was given; counts even where the setting does not declare them.
        selected: the setting reported samples that it trusts or forgets; counts likewise.

    Returns:
        `oracle`, `verified_file`, `scored` or `none`.
    """
    needs = setting.needs() or frozenset(served)
    if needs:
        return "verified_file" if by_file and Need.TRUE_LABELS not in needs else "oracle"
    return "scored" if selected or (isinstance(setting, SelectsSamples) and setting.selects_samples()) else "none"


def counting(task: Task) -> tuple[Task, dict[Need, int]]:
    """The task, and a record of how many verified samples of each need were handed out."""
    served: dict[Need, int] = {}
    source = task.verified_source

    def serve(need: Need, n: SampleCount) -> Samples:
        if source is None:
            raise UserError(f"this data set has no verified samples, so '{need}' cannot be served")
        samples = source(need, n)
        served[need] = max(served.get(need, 0), len(samples))
        return samples

    return replace(task, verified_source=serve), served


def used_information(setting: Corrector, run: JobRun, which: int, dataset: DataSet, served: Iterable[Need]) -> Columns:
    """The column `information` after the job has run: what setting `which` really used, whatever it declares."""
    selected = which in run.trusted_sets or which in run.forgotten_sets
    return {"information": information_of(setting, bool(audit_file(dataset)), served, selected)}


def chosen_columns(run: JobRun, which: int, evaluator: Evaluator) -> Columns:
    """What a method chose for a setting by itself, without being told: samples to trust and samples to forget."""
    columns: Columns = {}
    if which in run.trusted_sets:
        index = run.trusted_sets[which]
        columns |= {"num_trusted": len(index), **evaluator.trusted(index)}
    if which in run.forgotten_sets:
        columns["num_forget"] = len(run.forgotten_sets[which])
    return columns


_FLOPS: dict[tuple[str, tuple[int, ...]], tuple[float, float]] = {}


def flops_of(model: nn.Module, prepared: Prepared) -> tuple[float, float]:
    """FLOPs of a sample's forward and backward pass, counted once per network."""
    key = (str(model), tuple(prepared.dataset.shape))
    if key not in _FLOPS:
        _FLOPS[key] = flops_per_sample(model, prepared.dataset.shape, prepared.task.device)
    return _FLOPS[key]


def free_memory(device: torch.device) -> None:
    """Gives back what this process keeps for later jobs: prepared data, and what torch's allocator holds of a GPU."""
    prepared_for.cache_clear()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


_NO_MEMORY = ("out of memory", "status_alloc_failed")
"""How torch says it, and how cuBLAS and cuDNN do."""


def failure_of(error: Exception) -> Failure:
    """The error as one line with its place. FloatingPointError is how a method says that its input or its scores are not finite."""
    text = str(error)
    memory = isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in text.lower() for words in _NO_MEMORY)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames and not isinstance(error, UserError) else ""
    name = type(error).__name__ if not isinstance(error, UserError) else ""
    line = " ".join(f"{name}: {text}".strip(": ").split())
    kind = "oom" if memory else "diverged" if isinstance(error, FloatingPointError) else "error"
    return Failure(kind, f"{line}{where}", "".join(traceback.format_exception(error)))

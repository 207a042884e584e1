"""Context and outcome of a running job, and the data and columns that all job types share."""

from __future__ import annotations

import gc
import json
import math
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
from sap_core.data.assemble import AssembledTask, assemble_task
from sap_core.data.source import DataSet, audit_file
from sap_core.errors import DamagedFile, UserError
from sap_core.evaluation.evaluator import Evaluator
from sap_core.identity import canonical_json
from sap_core.instruction_sets import cpu_capability, is_reproducible
from sap_core.records import Point
from sweeper.jobs.run_context import JobRun

if TYPE_CHECKING:
    from sweeper.search.trials import AskTell

Columns = dict[str, Any]
"""Columns of a row, by name."""

AskTellFactory = Callable[[dict[str, Any], Any], "AskTell"]
"""(Optuna distributions by field, an Optuna sampler) -> the ask-and-tell interface of a sampled search."""


@dataclass(frozen=True)
class JobContext:
    """The folders, the device and the callbacks of a running job."""

    data: Path
    artifacts: Path
    device: torch.device
    stop: Callable[[], bool]  # raises Stopped if another process has taken the job over
    jobs_on_device: int = 1  # number of jobs that run concurrently on the device
    ask_tell: AskTellFactory | None = None  # for sampled searches; None: an Optuna study


@dataclass(frozen=True)
class Failure:
    """Why a method ended early."""

    error_type: str  # diverged | error | oom
    error: str
    traceback: str


def processor_columns() -> Columns:
    """The columns that describe the arithmetic of this process."""
    return {"cpu_capability": cpu_capability(), "reproducible": is_reproducible()}


@dataclass
class JobOutcome:
    """The outcome of a job: the columns of each planned run (`columns`, `scored`), columns that all share (`facts`), and its series."""

    columns: list[Columns]
    scored: list[bool]
    facts: Columns = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    failure: Failure | None = None
    started_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    processor: Columns = field(default_factory=processor_columns)


def prepared_data(spec: Mapping[str, Any], context: JobContext) -> tuple[AssembledTask, Evaluator]:
    """The data of a baseline's spec and the evaluator on them. Cached, because consecutive jobs often need the same data."""
    # What data and initial network depend on.
    keys = ("dataset", "noise", "model", "preprocess", "seed", "limit")
    # Canonical JSON of only these keys is the cache's key: specs that differ in trainer, pruner or method share their data.
    return _prepared_data(canonical_json({key: spec[key] for key in keys}), context.data, context.device)


# Few entries, because each keeps a data set's images in memory as tensors.
@lru_cache(maxsize=2)
def _prepared_data(text: str, root: Path, device: torch.device) -> tuple[AssembledTask, Evaluator]:
    prepared = assemble_task(json.loads(text), root, device)
    return prepared, Evaluator(prepared)


def size_columns(prepared: AssembledTask, num_train: int) -> Columns:
    """The columns of sample counts, the source of the validation samples, and the measured noise rate."""
    sizes = {"num_train": num_train, "num_val": len(prepared.val), "num_test": len(prepared.test)}
    return {"noise_rate_measured": prepared.noise_rate_measured, "val_source": "own" if prepared.own_validation else "drawn", **sizes}


def label_precision(evaluator: Evaluator) -> Callable[[Tensor], float | None]:
    """A function of kept samples that returns the share with a correct given label, for training curves; None where truth is unknown."""
    # The evaluator knows the true labels and the trainer does not: a trainer reports indices and gets no answer.
    return lambda index: evaluator.score_trusted(index).get("trusted_label_precision")


def information_of(setting: Corrector, by_file: bool, served: Iterable[Need] = (), selected: bool = False) -> str:
    """The information that a setting uses beyond the given labels: the column `information`.

    Args:
        setting: declares its needs, and by `SelectsSamples` whether it selects samples itself.
        by_file: verified samples come from a file of the user, not from true labels.
        served: the kinds of verified samples that the job received; they count even if the setting does not declare them.
        selected: the setting reported samples that it trusts or forgets; counts likewise.

    Returns:
        `oracle`, `verified_file`, `scored` or `none`.
    """
    # A family is served once for all its settings, so a setting may profit from verified samples that it does not declare itself.
    needs = setting.needs() or frozenset(served)
    if needs:
        # True labels of the whole training set cannot come from a user's file, so a setting that needs them counts as an oracle in any
        # case.
        return "verified_file" if by_file and Need.TRUE_LABELS not in needs else "oracle"
    return "scored" if selected or (isinstance(setting, SelectsSamples) and setting.selects_samples()) else "none"


def counting_served(task: Task) -> tuple[Task, dict[Need, int]]:
    """The task, and a dictionary that counts the verified samples it serves for each need as the job runs."""
    # Counted here rather than declared by the method: the row reports the verified samples that were used.
    served: dict[Need, int] = {}
    source = task.verified_source

    def serve(need: Need, n: SampleCount) -> Samples:
        if source is None:
            raise UserError(f"this data set has no verified samples, so '{need}' cannot be served")
        samples = source(need, n)
        # The maximum, not the sum: a method that asks twice for the same need receives the same samples.
        served[need] = max(served.get(need, 0), len(samples))
        return samples

    return replace(task, verified_source=serve), served


def served_columns(served: Mapping[Need, int]) -> Columns:
    """The columns `num_retain` and `num_forget` of verified samples that were served."""
    # True labels are not a number of samples to label; the column `information` reports them.
    return {f"num_{need}": count for need, count in served.items() if need is not Need.TRUE_LABELS}


def used_information(setting: Corrector, run: JobRun, which: int, dataset: DataSet, served: Iterable[Need]) -> Columns:
    """The column `information` after the job has run: what setting `which` used, even if it declares less."""
    selected = which in run.trusted_sets or which in run.forgotten_sets
    return {"information": information_of(setting, bool(audit_file(dataset)), served, selected)}


def selection_columns(run: JobRun, which: int, evaluator: Evaluator) -> Columns:
    """The columns of the samples that setting `which` itself chose to trust and to forget."""
    columns: Columns = {}
    if which in run.trusted_sets:
        index = run.trusted_sets[which]
        columns |= {"num_trusted": len(index), **evaluator.score_trusted(index)}
    if which in run.forgotten_sets:
        columns["num_forget"] = len(run.forgotten_sets[which])
    return columns


# Counting passes a batch through the network, so a family of settings on one network must not repeat it.
_FLOPS: dict[tuple[str, tuple[int, ...]], tuple[float, float]] = {}


def flops_of(model: nn.Module, prepared: AssembledTask) -> tuple[float, float]:
    """FLOPs of the forward and of the backward pass of one sample, counted once per network and input shape; NaN where unknown."""
    # The printed structure of the network names all layers and their sizes; weights do not influence FLOPs.
    key = (str(model), tuple(prepared.dataset.shape))
    if key not in _FLOPS:
        try:
            # Outside of the run's random state: a network may draw numbers in evaluation mode.
            with torch.random.fork_rng(devices=[]):
                _FLOPS[key] = flops_per_sample(model, prepared.dataset.shape, prepared.task.device)
        # The counter may fail on operations that run without it; a finished job is not lost for want of a count.
        except Exception:
            _FLOPS[key] = math.nan, math.nan
    return _FLOPS[key]


def free_memory(device: torch.device) -> None:
    """Release cached data and, on a GPU, the unused memory of torch's allocator, for other jobs."""
    # The cache first: tensors that it refers to would survive the collection, and blocks in use are not returned to the device.
    _prepared_data.cache_clear()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


_OUT_OF_MEMORY = ("out of memory", "status_alloc_failed")
"""Parts of the messages of torch, and of cuBLAS and cuDNN."""


def failure_of(error: Exception) -> Failure:
    """The error as one line that ends with its source location. Methods raise `FloatingPointError` for values that are not finite."""
    # Only torch's own class is reliable. Libraries below it raise RuntimeError for the same cause, which only the message tells apart.
    text = str(error)
    out_of_memory = isinstance(error, torch.OutOfMemoryError | MemoryError) or any(known in text.lower() for known in _OUT_OF_MEMORY)
    frames = traceback.extract_tb(error.__traceback__)
    # A user's error names its remedy itself; for any other the last frame is where a reader would look first.
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames and not isinstance(error, UserError) else ""
    name = type(error).__name__ if not isinstance(error, UserError) else ""
    # One line without runs of spaces, because it becomes a column of the row; the traceback goes to the job's log.
    line = " ".join(f"{name}: {text}".strip(": ").split())
    # Divergence is a result of the setting and is final; the other types are retried at the next start (`Store.MAX_ATTEMPTS`).
    error_type = "oom" if out_of_memory else "diverged" if isinstance(error, FloatingPointError) else "error"
    # Not an attempt of this job: the next start makes the artifact again, and then runs it.
    if isinstance(error, DamagedFile):
        error_type = "parent"
    return Failure(error_type, f"{line}{where}", "".join(traceback.format_exception(error)))

"""One dataclass = one row of a store. Standard library only: the analysis reads it without torch.

Units are in the names; accuracies are fractions in [0, 1]; None means "not evaluated" or "does not apply".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import get_type_hints

SCHEMA_VERSION = 2
"""Of the store's tables. 2: ids hold the names of components instead of import paths, and plans hold their version."""

VANILLA = "vanilla"
"""The method name of rows of uncorrected baselines."""


@dataclass(frozen=True)
class Row:
    """One setting on one baseline, or (method=vanilla) the baseline itself."""

    # identity
    run_id: str
    job_id: str
    job_type: str  # train | select | tune | search
    experiment: str
    debug: str | None  # name of the debug group that shrank this run; tables refuse such rows
    # what became of it
    status: str  # ok | failed
    error: str | None
    error_type: str | None  # diverged | error | oom | killed | parent
    attempt: int
    # the baseline
    dataset: str
    dataset_verified: bool  # the files' checksums are the published ones
    noise: str
    noise_rate: float | None  # asked
    noise_rate_measured: float | None  # measured on the training split
    network: str
    trainer: str
    pruner: str | None
    keep_fraction: float | None
    baseline_id: str
    seed: int
    # the method
    method: str
    space: str | None
    space_hash: str | None
    position: int  # place of the setting in its space; number of the trial of a search
    settings: str  # canonical JSON of the hyperparameters
    # information used
    information: str  # oracle | verified_file | scored | none
    num_trusted: int | None
    num_retain: int | None
    num_forget: int | None
    num_train: int | None
    num_val: int | None
    num_test: int | None
    val_labels: str  # noisy | clean
    # scores
    val_noisy_acc: float | None = None
    val_clean_acc: float | None = None
    val_newly_wrong: int | None = None
    val_newly_right: int | None = None
    test_acc: float | None = None
    test_affected_acc: float | None = None  # on the part of the test set that the noise concerns, with its changes of inputs
    test_unaffected_acc: float | None = None
    train_acc: float | None = None
    retain_acc: float | None = None
    forget_acc: float | None = None
    mislabelled_given_acc: float | None = None
    mislabelled_true_acc: float | None = None
    trusted_label_precision: float | None = None
    trusted_class_min: int | None = None
    trusted_class_max: int | None = None
    val_noisy_r2: float | None = None
    val_clean_r2: float | None = None
    test_r2: float | None = None
    # cost
    train_seconds: float | None = None
    select_seconds: float | None = None
    prepare_seconds: float | None = None
    correct_seconds: float | None = None
    evaluate_seconds: float | None = None
    report_seconds: float | None = None
    tuning_seconds: float | None = None
    sample_forwards: float | None = None
    sample_backwards: float | None = None
    flops: float | None = None
    standalone_sample_forwards: float | None = None
    standalone_sample_backwards: float | None = None
    standalone_flops: float | None = None
    peak_memory_bytes: int | None = None
    # the search, where it is not the grid
    search: str | None = None
    search_budget: int | None = None
    search_seed: int | None = None
    grid_position: int | None = None  # the place that the setting has in its space
    # data pruning
    warmup_trainer: str | None = None  # the trainer of the network that the pruner looked at
    stage: str | None = None  # warmup | null
    kept_noise_rate: float | None = None  # measured on the samples that the pruner kept
    # circumstances
    precision: str = "float32"  # in which the baseline was trained; corrections and scores are always float32
    compile: str | None = None  # none | compile | graphs: of the baseline's training; null where nobody knows
    channels_last: bool | None = None  # of the baseline's training
    fused: bool | None = None  # of the baseline's optimiser
    threads: int = 1
    device: str = "cpu"
    device_share: float = 1.0
    jobs_on_device: int | None = None  # jobs that the backend ran at a time on this device
    cores: int | None = None  # CPU cores that the job's process might use
    started_at: str = ""  # UTC, ISO 8601
    commit: str = ""
    component_version: int = 1  # of the trainer, pruner or corrector
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class Point:
    """One value of one curve (a line of a series file)."""

    job_id: str
    run_id: str
    name: str
    step: int
    value: float


@dataclass(frozen=True)
class Timing:
    """One phase of one job that was measured again with nothing else of its sweep running (a line of a timing file)."""

    job_id: str
    job_type: str  # train | select | tune
    method: str
    space: str | None
    seed: int
    phase: str  # all (that tuning needs), or one of them, or report
    seconds: float  # as the sweep ran it; over the job's settings, common work once
    exclusive_seconds: float  # alone on the machine
    jobs_on_device: int | None  # in the sweep
    device: str
    threads: int
    started_at: str  # UTC, ISO 8601
    commit: str


@dataclass(frozen=True)
class Planned:
    """One planned row (a line of plan.parquet)."""

    run_id: str
    job_id: str
    job_type: str
    parents: str  # job ids, comma-separated
    cell: str  # "digits/symmetric-0.25/small_cnn/sgd"
    dataset: str
    noise: str
    noise_rate: float | None
    network: str
    trainer: str
    method: str
    space: str | None
    space_hash: str | None
    position: int
    settings: str
    computation_id: int  # number of the computation inside its space: settings that are provably one computation share it
    seed: int
    baseline_id: str
    forecast_flops: float | None
    search: str | None = None
    search_budget: int | None = None
    search_seed: int | None = None
    forecast_seconds: float | None = None  # the row's part of its job's, made before the job ran
    forecast_low_seconds: float | None = None  # 80 % interval of the job, likewise
    forecast_high_seconds: float | None = None
    forecast_basis: str | None = None  # what the forecast was made from
    schema_version: int = SCHEMA_VERSION


def column_types(record: type) -> Iterator[tuple[str, type, bool]]:
    """(name, type, may it be None) of each column of a record class: the one source of every store's schema."""
    hints = get_type_hints(record)
    for item in fields(record):
        options = getattr(hints[item.name], "__args__", (hints[item.name],))
        yield item.name, options[0], type(None) in options


TIMING_COLUMNS = (
    "train_seconds", "select_seconds", "prepare_seconds", "correct_seconds", "evaluate_seconds", "report_seconds", "tuning_seconds",
    "peak_memory_bytes", "jobs_on_device", "cores", "started_at",
)  # fmt: skip
"""The columns in which two runs of one job may differ."""

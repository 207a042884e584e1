"""Record classes of a store's tables: one field per column, one instance per row. docs/store.md defines every column.

Imports only the standard library, so that the analysis can read stores without torch. Units are part of the names; accuracies are fractions
in [0, 1]; None means that a value was not measured or does not apply.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import get_type_hints

SCHEMA_VERSION = 2
"""Version of the store's tables and ids. 2: ids contain names of components instead of import paths; plans contain the schema version."""

VANILLA = "vanilla"
"""Value of the column `method` in rows of uncorrected baselines."""


@dataclass(frozen=True)
class Row:
    """One setting on one baseline, or (method=vanilla) the baseline itself."""

    # identity
    run_id: str  # id of the setting on this baseline; equals baseline_id for a baseline
    job_id: str  # id of the job that wrote the row
    job_type: str  # train | select | tune | search
    experiment: str
    debug: str | None  # name of the debug group of a smoke run; tables refuse such rows
    # result of the job
    status: str  # ok | failed
    error: str | None
    error_type: str | None  # diverged | error | oom | killed | parent
    attempt: int  # number of this attempt at the job, from 1
    # the baseline
    dataset: str
    dataset_verified: bool  # the files' checksums are the published ones
    noise: str
    noise_rate: float | None  # as configured
    noise_rate_measured: float | None  # measured on the training split
    network: str
    trainer: str
    pruner: str | None  # null: trained on all samples
    keep_fraction: float | None  # fraction of training samples that the pruner kept
    baseline_id: str  # run_id of the uncorrected baseline
    seed: int
    # the method
    method: str
    space: str | None  # name of the search space
    space_hash: str | None  # hash of the domains and of the method's fixed settings
    position: int  # index of the setting in its space; number of the trial in a sampled search
    settings: str  # hyperparameters as canonical JSON
    # information that the method used
    information: str  # oracle | verified_file | scored | none
    num_trusted: int | None  # samples trusted without verification
    num_retain: int | None  # verified samples with correct labels
    num_forget: int | None  # samples with wrong labels that the method worked against
    num_train: int | None
    num_val: int | None
    num_test: int | None
    val_labels: str  # noisy | clean
    # scores
    val_noisy_acc: float | None = None  # on the given labels of the validation set
    val_clean_acc: float | None = None  # on validation samples whose given label is true
    val_newly_wrong: int | None = None  # validation samples right before the correction and wrong after it
    val_newly_right: int | None = None  # the converse
    test_acc: float | None = None
    test_affected_acc: float | None = None  # on test samples of the classes that the noise confuses, or with its trigger
    test_unaffected_acc: float | None = None  # on the other test samples, without the trigger
    train_acc: float | None = None  # on the given labels of the training set (baselines only)
    retain_acc: float | None = None  # on verified retain samples
    forget_acc: float | None = None  # on forget samples, given labels
    mislabelled_given_acc: float | None = None  # on mislabelled training samples, given labels (memorisation)
    mislabelled_true_acc: float | None = None  # on the same samples, true labels
    trusted_label_precision: float | None = None  # fraction of correct labels among the trusted samples
    trusted_class_min: int | None = None  # trusted samples of the smallest class
    trusted_class_max: int | None = None  # trusted samples of the largest class
    val_noisy_r2: float | None = None  # regression: coefficient of determination in place of accuracy
    val_clean_r2: float | None = None
    test_r2: float | None = None
    # cost
    train_seconds: float | None = None
    select_seconds: float | None = None
    prepare_seconds: float | None = None  # phases collect and factor
    correct_seconds: float | None = None
    evaluate_seconds: float | None = None
    report_seconds: float | None = None  # test set and probes; not part of tuning
    tuning_seconds: float | None = None  # share of the seconds spent on tuning; the shares of a job add up to its total
    sample_forwards: float | None = None
    sample_backwards: float | None = None
    flops: float | None = None
    standalone_sample_forwards: float | None = None  # of this setting computed on its own, shared work counted in full
    standalone_sample_backwards: float | None = None
    standalone_flops: float | None = None
    peak_memory_bytes: int | None = None
    # sampled search; null in grid searches
    search: str | None = None  # name of the search
    search_budget: int | None = None  # trials
    search_seed: int | None = None
    grid_position: int | None = None  # index of a trial's setting in its space
    # data pruning
    warmup_trainer: str | None = None  # trainer of the network from which the pruner selected
    stage: str | None = None  # warmup: this network was trained for a pruner; null: any other row
    kept_noise_rate: float | None = None  # fraction of wrong labels among the kept samples
    # the validation set
    val_source: str | None = None  # drawn: from the training samples of the files; own: the data set's own validation part; null: unknown
    # circumstances of the run
    precision: str = "float32"  # of the baseline's training; corrections and scores are always float32
    compile: str | None = None  # none | compile | graphs, of the baseline's training; null: unknown
    channels_last: bool | None = None  # of the baseline's training
    fused: bool | None = None  # of the baseline's optimiser
    threads: int = 1
    device: str = "cpu"
    device_share: float = 1.0
    jobs_on_device: int | None = None  # number of jobs that ran concurrently on this device
    cores: int | None = None  # CPU cores available to the job's process
    cpu_capability: str | None = None  # instruction sets of torch, oneDNN and MKL (sap_core/instruction_sets.py); null: unknown
    reproducible: bool | None = None  # computed under backend.reproducible=true; null: unknown
    started_at: str = ""  # UTC, ISO 8601
    commit: str = ""  # of the code
    component_version: int = 1  # of the trainer, pruner or corrector
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class Point:
    """One value of a curve: a row of a series file."""

    job_id: str
    run_id: str
    name: str
    step: int
    value: float


@dataclass(frozen=True)
class Timing:
    """One phase of a job that was measured again in isolation, with no other job of its sweep running: a row of a timing file."""

    job_id: str
    job_type: str  # train | select | tune
    method: str
    space: str | None
    seed: int
    phase: str  # all (the sum of the tuning phases), one of them, or report
    seconds: float  # in the sweep, over all settings of the job; shared work counts once
    exclusive_seconds: float  # in isolation
    jobs_on_device: int | None  # number of jobs that ran concurrently, in the sweep
    device: str
    threads: int
    started_at: str  # UTC, ISO 8601
    commit: str


@dataclass(frozen=True)
class Planned:
    """One planned row: a row of plan.parquet."""

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
    forecast_seconds: float | None = None  # the job's forecast divided by its rows, made before the job ran
    forecast_low_seconds: float | None = None  # 80 % interval of the job, divided likewise
    forecast_high_seconds: float | None = None
    forecast_basis: str | None = None  # source of the forecast: measured, calibrated, ...
    schema_version: int = SCHEMA_VERSION


def column_types(record: type) -> Iterator[tuple[str, type, bool]]:
    """Yield (name, type, nullable) of each column of a record class. Every Parquet schema is derived from this."""
    # Annotations are strings under `from __future__ import annotations`, so they are resolved first.
    hints = get_type_hints(record)
    for item in fields(record):
        # `X | None` has the arguments (X, NoneType); a plain type has none.
        options = getattr(hints[item.name], "__args__", (hints[item.name],))
        yield item.name, options[0], type(None) in options


TIMING_COLUMNS = (
    "train_seconds", "select_seconds", "prepare_seconds", "correct_seconds", "evaluate_seconds", "report_seconds", "tuning_seconds",
    "peak_memory_bytes", "jobs_on_device", "cores", "started_at",
)  # fmt: skip
"""The columns that may differ between two runs of one job."""

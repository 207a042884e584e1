"""Record classes of a store's tables: one field per column, one instance per row.

The texts below the fields define the columns; docs/reference/columns.md is generated from them (`make reference`). A field of `Timing` or
`Planned` without a text has the same meaning as in `Row`.

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
    run_id: str
    """Id of the run, 16 hex digits (docs/ids.md); equals `baseline_id` for a baseline."""
    job_id: str
    """Id of the job that wrote the row; names the file."""
    job_type: str
    """`train`, `select`, `tune` (settings of a grid) or `search` (trials of a sampled search)."""
    experiment: str
    """Name of the experiment that planned the row."""
    debug: str | None
    """Name of the debug group that shrank the run; null for regular runs. Tables refuse rows with a value."""
    # result of the job
    status: str
    """`ok` or `failed`."""
    error: str | None
    """Reason of the failure in one line; null if ok."""
    error_type: str | None
    """`diverged` (final), `error`, `oom` (out of memory), `killed`, `parent` (a parent job failed), or null."""
    attempt: int
    """Number of the attempt at this job, from 1 (0 after `retry=failed`), including those that ran out of memory on a shared GPU; not
    counted up if a parent failed."""
    # the baseline
    dataset: str
    """Name of the data set."""
    dataset_verified: bool
    """Whether the checksums of the files are the published ones."""
    noise: str
    """Name of the noise kind."""
    noise_rate: float | None
    """Requested noise rate."""
    noise_rate_measured: float | None
    """Measured noise rate: the share of wrong labels in the training split."""
    network: str
    """Name of the network."""
    trainer: str
    """Name of the trainer."""
    pruner: str | None
    """Name of the pruner that selected the baseline's training samples; null: all samples were used."""
    keep_fraction: float | None
    """Share of the training samples that the pruner kept."""
    baseline_id: str
    """`run_id` of the uncorrected baseline."""
    seed: int
    """Seed of noise, initialisation, training and correction, and of the split unless `dataset.split_seed` fixes it."""
    # the method
    method: str
    """Name of the corrector, or `vanilla`."""
    space: str | None
    """Name of the search space."""
    space_hash: str | None
    """Hash of the space and of the method's fixed hyperparameters; equal numbers are equal however they are written."""
    position: int
    """Index of the setting in its space; if `search` is not null, the number of the trial, from 0."""
    settings: str
    """Canonical JSON of all hyperparameters; a nested component (`recipe`) by its declared name."""
    # information that the method used
    information: str
    """Information beyond the given labels: `oracle` (true labels were read), `verified_file` (a file of the data set lists verified
    labels), `scored` (samples selected by a score, nothing verified; also for a method that selects samples without declaring it),
    `none`."""
    num_trusted: int | None
    """Number of samples that the method trusted: its trusted set, its retain samples by loss, those not identified as wrong, or those
    that cleaning left."""
    num_retain: int | None
    """Number of verified retain samples given to the method."""
    num_forget: int | None
    """Number of forget samples: verified ones given to the method, or those that it selected by loss (`information` is `scored`)."""
    num_train: int | None
    """Number of training samples."""
    num_val: int | None
    """Number of validation samples."""
    num_test: int | None
    """Number of test samples."""
    val_labels: str
    """Labels of the validation set: `noisy` (given) or `clean`."""
    # scores
    val_noisy_acc: float | None = None
    """Validation accuracy on the given labels."""
    val_clean_acc: float | None = None
    """Accuracy on the validation samples whose given label is true; null if the true labels are unknown."""
    val_newly_wrong: int | None = None
    """Number of validation samples (given labels) that only the unmodified model predicts correctly."""
    val_newly_right: int | None = None
    """Number of validation samples (given labels) that only the corrected model predicts correctly."""
    test_acc: float | None = None
    """Test accuracy. Recorded for every setting; no selection rule reads it except `test_oracle`."""
    test_affected_acc: float | None = None
    """Accuracy under true labels on the test samples that the noise concerns: images of the two confused classes (`interclass`), or
    images of other classes with the trigger painted on them (`patch`); null for other noise."""
    test_unaffected_acc: float | None = None
    """Accuracy on the other test samples: images of the other classes (`interclass`), or all unmodified images (`patch`); null for
    other noise."""
    train_acc: float | None = None
    """Accuracy on the given labels of the training split (baselines only)."""
    retain_acc: float | None = None
    """Accuracy on at most 1,000 of the verified retain samples given to the method."""
    forget_acc: float | None = None
    """Accuracy under given labels on the first forget samples given to the method."""
    mislabelled_given_acc: float | None = None
    """Share of (at most 1,000) wrongly labelled training samples that are predicted as their given label."""
    mislabelled_true_acc: float | None = None
    """Share of the same samples that are predicted as their true label."""
    trusted_label_precision: float | None = None
    """Share of the trusted samples whose given label is true."""
    trusted_class_min: int | None = None
    """Number of trusted samples of the rarest class, by given labels."""
    trusted_class_max: int | None = None
    """Number of trusted samples of the most frequent class, by given labels."""
    val_noisy_r2: float | None = None
    """Regression: R² on the given targets of the validation set, in place of `val_noisy_acc`."""
    val_clean_r2: float | None = None
    """Regression: R² on the validation samples whose given target is true."""
    test_r2: float | None = None
    """Regression: R² on the test set."""
    # cost
    train_seconds: float | None = None
    """Standalone seconds of phase `train`: baselines, and methods that use the epoch loop."""
    select_seconds: float | None = None
    """Standalone seconds of phase `select`: scoring samples."""
    prepare_seconds: float | None = None
    """Standalone seconds of phases `collect` and `factor`: Gram matrices, importances, teachers, factorisations."""
    correct_seconds: float | None = None
    """Standalone seconds of phases `build` and `correct`."""
    evaluate_seconds: float | None = None
    """Standalone seconds of phase `evaluate`: the validation set."""
    report_seconds: float | None = None
    """Seconds of phase `report`: test set and probes of the training set; in no tuning cost."""
    tuning_seconds: float | None = None
    """This setting's share of the seconds spent on tuning; the shares of a job add up to its total."""
    sample_forwards: float | None = None
    """This setting's share of the samples passed forwards through the network."""
    sample_backwards: float | None = None
    """This setting's share of the samples passed backwards through the network."""
    flops: float | None = None
    """This setting's share of the FLOPs (two per multiply-add) of passes, Gram matrices and factorisations; null if the network's
    operations cannot be counted."""
    standalone_sample_forwards: float | None = None
    """`sample_forwards` if the setting were computed on its own: shared work counts in full."""
    standalone_sample_backwards: float | None = None
    """`sample_backwards` if the setting were computed on its own."""
    standalone_flops: float | None = None
    """`flops` if the setting were computed on its own."""
    peak_memory_bytes: int | None = None
    """Peak memory of the job, equal for all its rows: torch's allocator on a GPU, resident memory on a CPU. The latter includes the
    interpreter, libraries and memory of earlier jobs of the worker (on systems other than Linux: the maximum since the process
    started)."""
    # sampled search; null in grid searches
    search: str | None = None
    """Name of the search; null for a grid and for baselines."""
    search_budget: int | None = None
    """Maximum number of trials of the search; at most the number of settings."""
    search_seed: int | None = None
    """Seed of the search."""
    grid_position: int | None = None
    """Index in its space of a trial's setting, which breaks ties; null for a grid and for spaces with ranges."""
    # data pruning
    warmup_trainer: str | None = None
    """Trainer of the network from which the pruner selected; null: not pruned."""
    stage: str | None = None
    """`warmup`: a network that was trained for a pruner; null: any other row."""
    kept_noise_rate: float | None = None
    """Measured share of wrong labels among the samples that the pruner kept; null if the true labels are unknown or nothing was
    pruned."""
    # the validation set
    val_source: str | None = None
    """`drawn` from the training samples in the files (which a network trained elsewhere has seen), or the data set's `own` validation
    part; null: unknown."""
    # circumstances of the run
    precision: str = "float32"
    """Precision of the baseline's training: `float32`, `tf32` or `bf16` (`trainers/speed.py`). Corrections other than retraining, and
    all scores, use float32."""
    compile: str | None = None
    """Compilation of the baseline's training: `none`, `compile` or `graphs`; null for trainers without this option."""
    channels_last: bool | None = None
    """Whether the baseline was trained in channels-last layout."""
    fused: bool | None = None
    """Whether the baseline's optimiser used a fused kernel."""
    threads: int = 1
    """Number of torch threads of the job."""
    device: str = "cpu"
    """`cpu`, or the name of the GPU."""
    device_share: float = 1.0
    """Share of the device given to the job (`backend.gpus_per_job`, or more after running out of memory; 1 on a CPU)."""
    jobs_on_device: int | None = None
    """Number of concurrent jobs on the device (on a Ray cluster: in all); null if unknown."""
    cores: int | None = None
    """Number of CPU cores available to the job's process. Seconds enter tables only if the job had its device to itself: on a CPU if
    `jobs_on_device` x `threads` <= `cores`, on a GPU if `jobs_on_device` and `device_share` are 1."""
    cpu_capability: str | None = None
    """Instruction sets of torch, oneDNN and MKL in the job's process, as `x86_64 AVX512`, or `x86_64, torch AVX2, oneDNN AVX2, MKL
    COMPATIBLE` if they differ; a baseline that another sweep trained keeps its own; null: not recorded, or the job failed without a
    result (docs/reproducibility.md)."""
    reproducible: bool | None = None
    """Whether the job's process computed under `backend.reproducible=true`; null: not recorded, or the job failed without a result."""
    started_at: str = ""
    """Start time, UTC, ISO 8601; a baseline that another sweep trained keeps its own."""
    commit: str = ""
    """Commit of the checkout; `+` if tracked files had been changed; without git or in an installed copy `version X, code Y`, where Y
    is a fingerprint of the code and configuration."""
    component_version: int = 1
    """Version of the trainer, pruner or method; raised when its numbers change."""
    schema_version: int = SCHEMA_VERSION
    """Version of this table."""


@dataclass(frozen=True)
class Point:
    """One value of a curve: a row of a series file."""

    job_id: str
    """Id of the job."""
    run_id: str
    """Id of the run, or of the baseline."""
    name: str
    """Name of the curve, as in `loss` or `cost/train/seconds` (docs/store.md)."""
    step: int
    """Epoch, or another index of the point."""
    value: float
    """Value of the curve at this step."""


@dataclass(frozen=True)
class Timing:
    """One phase of a job that was measured again in isolation, with no other job of its sweep running: a row of a timing file."""

    job_id: str
    job_type: str
    """`train`, `select` or `tune`."""
    method: str
    space: str | None
    seed: int
    phase: str
    """`all` (all tuning phases together), one tuning phase, or `report`."""
    seconds: float
    """Seconds during the sweep: of the whole job, with shared work counted once."""
    exclusive_seconds: float
    """Seconds with no other job of the sweep running."""
    jobs_on_device: int | None
    """Number of jobs that ran concurrently in the sweep."""
    device: str
    """As in rows, of the second measurement."""
    threads: int
    """As in rows, of the second measurement."""
    started_at: str
    """Start of the second measurement, UTC, ISO 8601."""
    commit: str
    """Commit of the second measurement."""


@dataclass(frozen=True)
class Planned:
    """One planned row: a row of plan.parquet."""

    run_id: str
    job_id: str
    job_type: str
    parents: str
    """Ids of the jobs whose artifacts the job reads, comma-separated."""
    cell: str
    """The cell, as in `digits/symmetric-0.25/small_cnn/sgd`."""
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
    computation_id: int
    """Number of the computation within its space: settings that are provably the same computation share it."""
    seed: int
    baseline_id: str
    forecast_flops: float | None
    """The row's share of its job's forecast FLOPs; null if the network's operations cannot be counted."""
    search: str | None = None
    search_budget: int | None = None
    search_seed: int | None = None
    forecast_seconds: float | None = None
    """The row's share of its job's forecast seconds, comparable with `tuning_seconds` plus `report_seconds`; made before the job ran
    and not changed later. Null for jobs that had ended when the plan was made, and for jobs of unknown FLOPs."""
    forecast_low_seconds: float | None = None
    """The row's share of the lower end of the job's 80 % interval."""
    forecast_high_seconds: float | None = None
    """The row's share of the upper end of the job's 80 % interval."""
    forecast_basis: str | None = None
    """Source of the forecast: `same method` or `same network` (finished jobs of this store or of neighbouring ones), `calibrated` (a
    few training steps of the network), `other jobs`, `assumed` (`backend.flops_per_second`)."""
    schema_version: int = SCHEMA_VERSION
    """Version of the store's tables; a store of another version is refused."""


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

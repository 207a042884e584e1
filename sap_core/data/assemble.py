"""Builds the task of a job: loads its data set, corrupts labels, splits, and separates the task from true labels and test set.

No trainer and no corrector may import this module (import contract in pyproject.toml). Noise and splits are keyed by seed, data set and
noise kind only, so that all networks, trainers and methods work on the same samples and labels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sap_core.api import Task
from sap_core.construct import construct
from sap_core.data.corruption import Affected, Corrupted, affected_samples, corrupt, with_changed_inputs
from sap_core.data.samples import Pixels, Preprocess, SampleView, TensorPixels
from sap_core.data.source import DataSet, Source, images_used
from sap_core.data.source_checks import checked
from sap_core.data.splits import sizes, split
from sap_core.data.stream_keys import stream_key
from sap_core.data.verified import Truth, verified_source
from sap_core.identity import canonical_json
from sap_core.models.build import build_network
from sap_core.seeding import stream


@dataclass(frozen=True, eq=False)
class AssembledTask:
    """A task, and the data that only the evaluation may see.

    Attributes:
        task: the data that methods may see.
        truth: true labels of the universe.
        test: test set under its true labels.
        train, val: the samples of the task.
        dataset: the data set.
        noise_rate_measured: fraction of wrong labels in the training split; None if true labels are unknown.
        transitions: (C, C) counts of the training split, row true class, column given class; None for regression or unknown labels.
        affected: test samples that the noise affects, if it distinguishes any.
        own_validation: the validation samples are the data set's own; otherwise they were drawn from the training samples.
    """

    task: Task
    truth: Truth
    test: SampleView
    train: SampleView
    val: SampleView
    dataset: DataSet
    noise_rate_measured: float | None
    transitions: Tensor | None
    affected: Affected | None = None
    own_validation: bool = False


def assemble_task(spec: Mapping[str, Any], root: Path, device: torch.device) -> AssembledTask:
    """Load, corrupt and split the data of one baseline. The most recent results are cached.

    Args:
        spec: mapping with the keys dataset, noise, model, preprocess, seed and limit (see `sweeper.plan.plan`).
        root: data folder.
        device: device of networks and batches.

    Raises:
        UserError: files are missing or damaged, or the noise is not defined for the data set.
    """
    # Only the keys that decide the data: jobs that differ in method or trainer share one cached task.
    keys = ("dataset", "noise", "model", "preprocess", "seed", "limit")
    return _assemble_task(canonical_json({key: spec[key] for key in keys}), root, device)


# Canonical JSON is the key, because mappings are not hashable.
@lru_cache(maxsize=2)
def _assemble_task(text: str, root: Path, device: torch.device) -> AssembledTask:
    spec = json.loads(text)
    dataset: DataSet = construct(spec["dataset"])
    # Phase 1: the files, and the given labels of the whole universe.
    source = _load(canonical_json(spec["dataset"]), root)
    seed, key = spec["seed"], stream_key("dataset", spec["dataset"]["target"])
    # Cached by data set, noise and seed alone: jobs with other networks or preprocessing reuse the labels.
    corrupted = _corrupted(canonical_json({key: spec[key] for key in ("dataset", "noise", "seed")}), root)
    # The noise object is built again for what depends on it later: painted inputs and affected test samples.
    given, noise = corrupted.labels, construct(spec["noise"])
    # The labels of the files are the truth where noise is added; on real noise they are the given labels.
    truth = Truth(source.train_labels if dataset.truth_known else source.true_labels, source.audited)
    # Phase 2: the split. Keyed by seed and data set, not by noise, so that noise rates are compared on the same validation samples.
    # Labels are corrupted before the split, so that validation labels are as noisy as training labels, as in practice.
    split_seed = seed if dataset.split_seed is None else dataset.split_seed
    # The universe of such a set ends with its own validation part.
    if source.own_validation:
        train_index, val_index = torch.arange(len(given)).split([len(given) - source.own_validation, source.own_validation])
    else:
        train_index, val_index = split(len(given), dataset.validation, stream(split_seed, "split", key))
    test_index = torch.arange(len(source.test_labels))
    # Smoke runs and subsets draw from the finished split, so that a sample keeps its label and its side of the split.
    counts = sizes(len(given), len(test_index), len(val_index), spec["limit"] or images_used(dataset))
    train_index, val_index, test_index = (
        _subsample(index, count, split_seed) for index, count in zip((train_index, val_index, test_index), counts, strict=True)
    )
    # Phase 3: the views. Pixels are shared by the training and the validation view and are moved to the device once.
    preprocess = _preprocess(spec["preprocess"], dataset)
    # The data set's own tensor is shared and unchanged; only noise that paints needs a copy.
    train_pixels = source.train if corrupted.changed is None else with_changed_inputs(source.train, corrupted.changed, noise)
    pixels, test_pixels = _on_device(train_pixels, device), _on_device(source.test, device)
    train = SampleView(pixels, train_index, given[train_index], preprocess, device)
    val = SampleView(pixels, val_index, given[val_index], preprocess, device)
    # The test set keeps its true labels; noise is never applied to it.
    test = SampleView(test_pixels, test_index, source.test_labels[test_index], preprocess, device)

    def build(which: int) -> nn.Module:
        # Initialised on the CPU's stream and then moved, keyed by the number of the network: all trainers start from equal weights.
        with stream(seed, "init", which).scope(device):
            return build_network(spec["model"], dataset.classes.num, dataset.shape).to(device)

    # The task has no test set and no truth: what a method cannot reach it cannot read.
    task = Task(
        train, val, build, dataset.kind, dataset.classes.num, seed, device,
        # The source, not the truth itself, is what a method can reach.
        verified_source=verified_source(train, truth, stream(seed, "verified", key)),
    )  # fmt: skip
    # On the training split alone: what methods see, not what was asked for.
    rate, transitions = _measure(train, truth, dataset)
    # On real noise nothing is known about which classes it confuses.
    affected = affected_samples(noise, test) if dataset.truth_known else None
    return AssembledTask(task, truth, test, train, val, dataset, rate, transitions, affected, source.own_validation > 0)


@lru_cache(maxsize=2)
def _load(text: str, root: Path) -> Source:
    dataset: DataSet = construct(json.loads(text))
    return checked(dataset.load(root), dataset)


@lru_cache(maxsize=16)
def _corrupted(text: str, root: Path) -> Corrupted:
    """Given labels of the universe, cached because some kinds of noise take up to a minute.

    Every process that needs them computes them itself, on the CPU in float64, so that processes and devices agree.
    """
    spec = json.loads(text)
    source = _load(canonical_json(spec["dataset"]), root)
    dataset: DataSet = construct(spec["dataset"])
    # Labels of real noise are left as they are; `check_noise` refuses added noise before any job runs.
    if not dataset.truth_known:
        return Corrupted(source.train_labels)
    keys = stream_key("dataset", spec["dataset"]["target"]), stream_key("noise", spec["noise"]["target"])
    # Neither network nor method is in the key, so that all of them are compared on the same wrong labels.
    rng = stream(spec["seed"], "noise", *keys)
    return corrupt(construct(spec["noise"]), dataset, source, root, rng)


def clear_caches() -> None:
    """Drops the data sets, labels and splits that are kept in memory."""
    # Needed after a data folder has changed, because files are not watched.
    for cached in (_assemble_task, _load, _corrupted):
        cached.cache_clear()


def _measure(train: SampleView, truth: Truth, dataset: DataSet) -> tuple[float | None, Tensor | None]:
    if not truth.known:
        return None, None
    rate = float((~truth.right(train.index, train.labels)).double().mean())
    # Regression has no transitions between classes; its rate counts targets that were changed.
    if dataset.kind == "regression":
        return rate, None
    classes = dataset.classes.num
    # One `bincount` over pairs (true, given) fills the whole transition matrix.
    pairs = truth.of(train.index) * classes + train.labels
    return rate, torch.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def _preprocess(given: Mapping[str, Any], dataset: DataSet) -> Preprocess:
    # Constants of the configuration come first; `normalise: false` overrides both.
    mean, std = (given.get("mean", dataset.mean), given.get("std", dataset.std)) if given["normalise"] else ((), ())
    return Preprocess(tuple(mean), tuple(std), given["augment"], given["padding"])


def _on_device(pixels: Pixels, device: torch.device) -> Pixels:
    # Images in memory go to the device as one tensor; those on disk are moved batch by batch.
    return TensorPixels(pixels.tensor.to(device)) if isinstance(pixels, TensorPixels) else pixels


def _subsample(index: Tensor, count: int, seed: int) -> Tensor:
    """Return `count` random positions of `index` in sorted order, or all of them."""
    if count >= len(index):
        return index
    # A prefix of one permutation, so that smaller subsets are nested in larger ones; sorted, so that order carries no information.
    return index[stream(seed, "split", "limit").permutation(len(index))[:count]].sort().values

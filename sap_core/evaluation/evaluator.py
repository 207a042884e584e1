"""Scores of networks: the only module that reads the test set and, through `sap_core.data.verified`, true labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sap_core.api import Batch, Need, Samples
from sap_core.cost import CostMeter
from sap_core.data.assemble import AssembledTask
from sap_core.evaluation.fused_inference import fused_copy
from sap_core.float64 import to_float64
from sap_core.models.modes import batch_statistics

PROBE_SIZE = 1000
"""Maximum number of training samples in the probes that describe a correction; no selection rule reads their scores."""

CACHED_VALUES = 2**26
"""Preprocessed inputs of a set are cached if they have at most this many values (256 MiB of float32)."""

_MAX_REFERENCES = 16
"""Number of unmodified networks whose validation outputs a process caches."""

MIN_BATCH = 16
"""Smaller batches are padded: for one to three images CPU libraries use other kernels, so an image would get other bits."""

Scores = dict[str, float | None]
"""Columns of a row by name; None is stored as null."""


class Evaluator:
    """Scores the networks of one prepared task, each as its fused inference copy.

    Validation, including the fused copy, is recorded as phase `evaluate`, because tuning needs it; test set and probes of the training set
    are recorded as phase `report`, because no selection rule reads them.

    Args:
        prepared: the task, its test set and its true labels.
        batch_size: samples per forward pass.
    """

    def __init__(self, prepared: AssembledTask, batch_size: int = 512) -> None:
        self.prepared = prepared
        self.batch_size = batch_size
        self._cached: dict[str, list[Batch]] = {}
        self._sample: Tensor | None = None
        # The evaluation may read every kind of verified sample; the method's own task stays as restricted as it declared.
        task = prepared.task.allow(frozenset(Need))
        self._verified = task.verified
        self.regression = task.kind == "regression"
        truth = prepared.truth
        # Once per task: which validation labels are true does not depend on the network.
        self._val_right = truth.right(prepared.val.index, prepared.val.labels) if truth.known else None
        self._references: dict[str, Tensor] = {}
        self._reference: Tensor | None = None

    def score_corrected(
        self, model: nn.Module, meter: CostMeter, which: int, num_retain: int | None = None, num_forget: int | None = None
    ) -> Scores:
        """Return the scores of one corrected network: accuracies in [0, 1], or R2 for regression.

        Args:
            model: the network; it is not changed.
            meter: records the cost for the setting at position `which`.
            which: position of the setting in its family.
            num_retain: number of verified retain samples that the method used; `retain_acc` is their accuracy.
            num_forget: number of verified forget samples that the method used; `forget_acc` is their accuracy.
        """
        with meter("evaluate", used_by=[which]):
            # Folding and copying are part of what an evaluation costs, so they happen inside the block.
            fused = self.fused(model)
            outputs = self._outputs("val", self.prepared.val, fused, meter)
        # The test set is scored for every setting, chosen or not, so that each selection rule can be replayed from the rows later.
        return self._validation(outputs) | self._reported(fused, meter, which, num_retain, num_forget)

    def _reported(self, fused: nn.Module, meter: CostMeter, which: int, num_retain: int | None, num_forget: int | None) -> Scores:
        """Scores on the test set and on probes of the training set, which no selection rule reads."""
        with meter("report", used_by=[which]):
            scores = self._test(fused, meter)
            if not self.regression and self.prepared.truth.known:
                scores |= self._wrong(fused, meter, num_forget)
                # The probe is a prefix of the samples that the method used, because verified samples come in one fixed order.
                if num_retain:
                    retain = self._verified(Need.RETAIN, min(num_retain, PROBE_SIZE))
                    scores["retain_acc"] = accuracy(self._outputs(f"retain{len(retain)}", retain, fused, meter), retain.labels)
        return scores

    def set_reference(self, model: nn.Module, name: str) -> None:
        """Set the unmodified network, with whose validation predictions those of corrected networks are compared.

        Its outputs are computed once per process and `name`, however many jobs use them, and cost nothing: the baseline's row contains
        that cost.
        """
        if self.regression:
            return
        if name not in self._references:
            # A worker meets few baselines at a time, so the simplest eviction suffices.
            if len(self._references) == _MAX_REFERENCES:
                self._references.clear()
            # A meter of its own that nobody reads: the unmodified network's answers are in the cost of its own row.
            self._references[name] = self._outputs("val", self.prepared.val, self.fused(model), CostMeter(1, self.prepared.task.device))
        self._reference = self._references[name]

    def score_baseline(self, model: nn.Module, meter: CostMeter) -> Scores:
        """Return the scores of a baseline: those of `score_corrected`, and the accuracy on the given labels of the training split."""
        # A baseline is compared with no other network.
        self._reference = None
        scores = self.score_corrected(model, meter, 0)
        if not self.regression:
            with meter("report"):
                train = self.prepared.train
                # Memorisation of the given labels; a description of the baseline, hence phase `report`.
                scores["train_acc"] = accuracy(self._outputs("train", train, self.fused(model), meter), train.labels)
        return scores

    def fused(self, model: nn.Module) -> nn.Module:
        """Return the fused inference copy in which a network is scored (see `fused_inference`)."""
        if self._sample is None:
            # Any sample does: the plan depends on shape, dtype and device only.
            self._sample = next(iter(self.prepared.train.subset(torch.arange(1)).batches(1))).inputs
        return fused_copy(model, self._sample)

    def score_trusted(self, index: Tensor) -> Scores:
        """Return scores of a trusted set: the fraction of correct given labels, and the sizes of its smallest and largest class.

        Args:
            index: (M,) universe positions of the trusted samples.
        """
        train, truth = self.prepared.train, self.prepared.truth
        # Trusted samples are named by their position in the universe; the split holds a subset of it.
        position = torch.full((train.universe,), -1)
        position[train.index] = torch.arange(len(train))
        given = train.labels[position[index]]
        scores: Scores = {}
        if truth.known:
            scores["trusted_label_precision"] = float(truth.right(index, given).double().mean())
        if not self.regression:
            counts = torch.bincount(given, minlength=self.prepared.dataset.classes.num)
            scores |= {"trusted_class_min": int(counts.min()), "trusted_class_max": int(counts.max())}
        return scores

    def _validation(self, outputs: Tensor) -> Scores:
        # One pass serves both rules: the clean part is a subset of the validation samples.
        labels, right = self.prepared.val.labels, self._val_right
        if self.regression:
            return {"val_noisy_r2": r2(outputs, labels), "val_clean_r2": None if right is None else r2(outputs[right], labels[right])}
        return {
            "val_noisy_acc": accuracy(outputs, labels),
            "val_clean_acc": None if right is None else accuracy(outputs[right], labels[right]),
            **changed_predictions(None if self._reference is None else self._reference.argmax(1) == labels, outputs.argmax(1) == labels),
        }

    def _test(self, fused: nn.Module, meter: CostMeter) -> Scores:
        test, affected = self.prepared.test, self.prepared.affected
        outputs = self._outputs("test", test, fused, meter)
        if self.regression:
            return {"test_r2": r2(outputs, test.labels)}
        scores: Scores = {"test_acc": accuracy(outputs, test.labels)}
        if affected:
            painted = affected.samples
            # Without changed inputs the affected samples are among those that were just scored.
            inside = outputs[affected.inside] if painted is None else self._outputs("affected", painted, fused, meter)
            scores["test_affected_acc"] = accuracy(inside, test.labels[affected.inside])
            scores["test_unaffected_acc"] = accuracy(outputs[affected.rest], test.labels[affected.rest])
        return scores

    def _wrong(self, fused: nn.Module, meter: CostMeter, num_forget: int | None) -> Scores:
        """Accuracy on mislabelled training samples with respect to their given and their true labels."""
        # At most PROBE_SIZE mislabelled samples, in the order in which a method gets them, so that the first ones are its forget samples.
        wrong = self._wrong_probe()
        if len(wrong) == 0:
            return {}
        outputs = self._outputs("wrong", wrong, fused, meter)
        scores: Scores = {
            "mislabelled_given_acc": accuracy(outputs, wrong.labels),
            "mislabelled_true_acc": accuracy(outputs, self.prepared.truth.of(wrong.index)),
        }
        if num_forget:
            scores["forget_acc"] = accuracy(outputs[:num_forget], wrong.labels[:num_forget])
        return scores

    def _wrong_probe(self) -> Samples:
        train = self.prepared.train
        count = int((~self.prepared.truth.right(train.index, train.labels)).sum())
        return self._verified(Need.FORGET, min(count, PROBE_SIZE))

    def _outputs(self, name: str, samples: Samples, fused: nn.Module, meter: CostMeter) -> Tensor:
        """(N, C) outputs, on the CPU."""
        # Decoded and normalised once for all settings of a search. Larger sets are read again from their source.
        if name not in self._cached and _fits_in_memory(samples):
            self._cached[name] = list(samples.batches(self.batch_size))
        return torch.cat(
            [predict_outputs(fused, batch.inputs, meter) for batch in self._cached.get(name) or samples.batches(self.batch_size)]
        )


def predict_outputs(network: nn.Module, inputs_B: Tensor, meter: CostMeter) -> Tensor:
    """Return (B, C) outputs on the CPU. All networks are evaluated by this function, so that their bits do not depend on the caller.

    Args:
        network: a fused inference copy.
        inputs_B: (B, ...) preprocessed inputs.
        meter: counts B forward passes.
    """
    count = len(inputs_B)
    # Padding repeats the last sample; samples do not interact in evaluation mode, so the outputs of the others do not change. Where they do
    # interact, as batch norm has no running statistics, only a single sample is repeated, because that norm is not defined for it.
    least = 2 if batch_statistics(network) else MIN_BATCH
    if count < least:
        inputs_B = torch.cat([inputs_B, inputs_B[-1:].expand(least - count, *inputs_B.shape[1:])])
    # Cheaper than `no_grad`; the outputs are read only.
    with torch.inference_mode():
        outputs: Tensor = network(inputs_B)[:count].cpu()
    meter.count(forwards=count)
    return outputs


def _fits_in_memory(samples: Samples) -> bool:
    """Return whether the preprocessed inputs may be cached."""
    if len(samples) == 0:
        return True
    first = next(iter(samples.subset(torch.arange(1)).batches(1)))
    # Counted from the preprocessed input, which may be larger than the stored one (uint8 becomes float32).
    return first.inputs.numel() * len(samples) <= CACHED_VALUES


def changed_predictions(before_N: Tensor | None, after_N: Tensor) -> Scores:
    """Return the numbers of samples that only the unmodified and only the corrected network predicts correctly.

    Args:
        before_N: (N,) bool, whether the unmodified network is correct; None: no scores.
        after_N: (N,) bool, whether the corrected network is correct.
    """
    if before_N is None:
        return {}
    return {"val_newly_wrong": int((before_N & ~after_N).sum()), "val_newly_right": int((~before_N & after_N).sum())}


def accuracy(outputs_NC: Tensor, labels_N: Tensor) -> float | None:
    """Return the fraction of samples whose largest output is that of the label; None without samples."""
    return float(to_float64(outputs_NC.argmax(1) == labels_N).mean()) if len(labels_N) else None


def r2(outputs_N1: Tensor, targets_N: Tensor) -> float | None:
    """Return the coefficient of determination; None for fewer than two samples or constant targets."""
    # The residual sum of squares is a small difference of large numbers, so float64.
    targets = to_float64(targets_N)
    spread = ((targets - targets.mean()) ** 2).sum() if len(targets) > 1 else torch.zeros(())
    # R2 is undefined where the targets have no variance.
    if spread == 0:
        return None
    return float(1 - ((to_float64(outputs_N1).flatten() - targets) ** 2).sum() / spread)

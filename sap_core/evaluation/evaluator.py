"""Scores: the only reader of the test set and, with `sap_core.data.verified`, of true labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sap_core.api import Batch, Need, Samples
from sap_core.cost import CostMeter
from sap_core.data.assemble import Prepared
from sap_core.evaluation.fused_inference import fused_copy

PROBE_SIZE = 1000
"""At most so many verified training samples are looked at for the scores that describe a correction (they choose nothing)."""

CACHED_VALUES = 2**26
"""Inputs of a set are kept preprocessed when they have at most so many values (256 MiB of float32)."""

_MOST_UNMODIFIED = 16
"""So many unmodified models' answers are kept in a process; they are small."""

SMALLEST = 16
"""Smaller batches are filled up: for one to three images CPU libraries take other routines, which give an image other bits."""

Scores = dict[str, float | None]


class Evaluator:
    """Scores models of one prepared task, each in its quick form.

    Validation, with making the quick form, is booked as phase `evaluate` (tuning needs it); test set and probes as phase `report` (the
    platform's book-keeping).
    """

    def __init__(self, prepared: Prepared, batch_size: int = 512) -> None:
        self.prepared = prepared
        self.batch_size = batch_size
        self._kept: dict[str, list[Batch]] = {}
        self._sample: Tensor | None = None
        task = prepared.task.allow(frozenset(Need))
        self._verified = task.verified
        self.regression = task.kind == "regression"
        truth = prepared.truth
        self._val_right = truth.right(prepared.val.index, prepared.val.labels) if truth.known else None
        self._unmodified: dict[str, Tensor] = {}
        self._reference: Tensor | None = None

    def score_corrected(
        self, model: nn.Module, meter: CostMeter, which: int, num_retain: int | None = None, num_forget: int | None = None
    ) -> Scores:
        """Scores of one corrected model (setting `which` of the meter); fractions, or R2 for regression."""
        with meter("evaluate", used_by=[which]):
            quick = self.fused(model)
            outputs = self._outputs("val", self.prepared.val, quick, meter)
        return self._validation(outputs) | self._reported(quick, meter, which, num_retain, num_forget)

    def _reported(self, quick: nn.Module, meter: CostMeter, which: int, num_retain: int | None, num_forget: int | None) -> Scores:
        """Scores that no selection rule reads: the test set's, and those of probes of the training set."""
        with meter("report", used_by=[which]):
            scores = self._test(quick, meter)
            if not self.regression and self.prepared.truth.known:
                scores |= self._wrong(quick, meter, num_forget)
                if num_retain:
                    retain = self._verified(Need.RETAIN, min(num_retain, PROBE_SIZE))
                    scores["retain_acc"] = accuracy(self._outputs(f"retain{len(retain)}", retain, quick, meter), retain.labels)
        return scores

    def set_reference(self, model: nn.Module, name: str) -> None:
        """Takes the unmodified model's answers on the validation set: those of corrected ones are counted against them from now on.

        A process asks each model (by its `name`) once, however many jobs stand on it, and books nothing: the model's own row has paid.
        """
        if self.regression:
            return
        if name not in self._unmodified:
            if len(self._unmodified) == _MOST_UNMODIFIED:
                self._unmodified.clear()
            self._unmodified[name] = self._outputs("val", self.prepared.val, self.fused(model), CostMeter(1, self.prepared.task.device))
        self._reference = self._unmodified[name]

    def score_baseline(self, model: nn.Module, meter: CostMeter) -> Scores:
        """Scores of an uncorrected baseline: as `tuned`, and the accuracy on the whole training split's given labels."""
        self._reference = None
        scores = self.score_corrected(model, meter, 0)
        if not self.regression:
            with meter("report"):
                train = self.prepared.train
                scores["train_acc"] = accuracy(self._outputs("train", train, self.fused(model), meter), train.labels)
        return scores

    def fused(self, model: nn.Module) -> nn.Module:
        """The form in which every model is scored: a copy of its own (`sap_core.evaluation.fused_inference`)."""
        if self._sample is None:
            self._sample = next(iter(self.prepared.train.subset(torch.arange(1)).batches(1))).inputs
        return fused_copy(model, self._sample)

    def trusted(self, index: Tensor) -> Scores:
        """How good a trusted set is: share of right given labels, and its smallest and largest class by given label."""
        train, truth = self.prepared.train, self.prepared.truth
        place = torch.full((train.universe,), -1)
        place[train.index] = torch.arange(len(train))
        given = train.labels[place[index]]
        scores: Scores = {}
        if truth.known:
            scores["trusted_label_precision"] = float(truth.right(index, given).double().mean())
        if not self.regression:
            counts = torch.bincount(given, minlength=self.prepared.dataset.classes.num)
            scores |= {"trusted_class_min": int(counts.min()), "trusted_class_max": int(counts.max())}
        return scores

    def _validation(self, outputs: Tensor) -> Scores:
        labels, right = self.prepared.val.labels, self._val_right
        if self.regression:
            return {"val_noisy_r2": r2(outputs, labels), "val_clean_r2": None if right is None else r2(outputs[right], labels[right])}
        return {
            "val_noisy_acc": accuracy(outputs, labels),
            "val_clean_acc": None if right is None else accuracy(outputs[right], labels[right]),
            **discordance(None if self._reference is None else self._reference.argmax(1) == labels, outputs.argmax(1) == labels),
        }

    def _test(self, quick: nn.Module, meter: CostMeter) -> Scores:
        test, affected = self.prepared.test, self.prepared.affected
        outputs = self._outputs("test", test, quick, meter)
        if self.regression:
            return {"test_r2": r2(outputs, test.labels)}
        scores: Scores = {"test_acc": accuracy(outputs, test.labels)}
        if affected:
            painted = affected.samples
            inside = outputs[affected.inside] if painted is None else self._outputs("affected", painted, quick, meter)
            scores["test_affected_acc"] = accuracy(inside, test.labels[affected.inside])
            scores["test_unaffected_acc"] = accuracy(outputs[affected.rest], test.labels[affected.rest])
        return scores

    def _wrong(self, quick: nn.Module, meter: CostMeter, num_forget: int | None) -> Scores:
        """What became of the wrongly labelled training samples: the share predicted as the given and as the true label."""
        wrong = self._wrong_probe()
        if len(wrong) == 0:
            return {}
        outputs = self._outputs("wrong", wrong, quick, meter)
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

    def _outputs(self, name: str, samples: Samples, quick: nn.Module, meter: CostMeter) -> Tensor:
        """(N, C) outputs, on the CPU."""
        if name not in self._kept and _fits(samples):
            self._kept[name] = list(samples.batches(self.batch_size))
        return torch.cat([answers(quick, batch.inputs, meter) for batch in self._kept.get(name) or samples.batches(self.batch_size)])


def answers(quick: nn.Module, inputs_B: Tensor, meter: CostMeter) -> Tensor:
    """(B, C) outputs of a network in quick form, on the CPU: the one way in which models are evaluated."""
    count = len(inputs_B)
    if count < SMALLEST:
        inputs_B = torch.cat([inputs_B, inputs_B[-1:].expand(SMALLEST - count, *inputs_B.shape[1:])])
    with torch.inference_mode():
        outputs: Tensor = quick(inputs_B)[:count].cpu()
    meter.count(forwards=count)
    return outputs


def _fits(samples: Samples) -> bool:
    """May these samples stay in memory preprocessed?"""
    if len(samples) == 0:
        return True
    first = next(iter(samples.subset(torch.arange(1)).batches(1)))
    return first.inputs.numel() * len(samples) <= CACHED_VALUES


def discordance(before_N: Tensor | None, after_N: Tensor) -> Scores:
    """Samples that the unmodified model has right and the corrected one wrong (lost), and the other way about (won)."""
    if before_N is None:
        return {}
    return {"val_newly_wrong": int((before_N & ~after_N).sum()), "val_newly_right": int((~before_N & after_N).sum())}


def accuracy(outputs_NC: Tensor, labels_N: Tensor) -> float | None:
    """Share of samples whose largest output is at the label; None for no samples."""
    return float((outputs_NC.argmax(1) == labels_N).double().mean()) if len(labels_N) else None


def r2(outputs_N1: Tensor, targets_N: Tensor) -> float | None:
    """Coefficient of determination; None for fewer than two samples or constant targets."""
    targets = targets_N.double()
    spread = ((targets - targets.mean()) ** 2).sum() if len(targets) > 1 else torch.zeros(())
    if spread == 0:
        return None
    return float(1 - ((outputs_N1.double().flatten() - targets) ** 2).sum() / spread)

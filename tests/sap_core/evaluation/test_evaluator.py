"""Scores against hand counts: the networks return their inputs, so the data contain the predictions."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from torch import nn

from sap_core.api import Task
from sap_core.cost import CostMeter
from sap_core.data.assemble import AssembledTask
from sap_core.data.corruption import Affected
from sap_core.data.samples import Preprocess, SampleView, TensorPixels
from sap_core.data.verified import Truth, verified_source
from sap_core.evaluation import evaluator as evaluate
from sap_core.evaluation.evaluator import Evaluator, accuracy, r2
from sap_core.seeding import stream

CPU = torch.device("cpu")
#        position:   0  1  2  3  4  5  6  7  8  9
TRUE = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])
GIVEN = torch.tensor([0, 1, 0, 0, 2, 1, 0, 2, 2, 0])  # wrong at 2, 4, 5 (training) and at 7 (validation)
SAID = torch.tensor([0, 2, 0, 1, 1, 0, 0, 1, 2, 1])  # what the network predicts
TRAIN, VAL = torch.tensor([0, 1, 2, 3, 4, 5]), torch.tensor([6, 7, 8, 9])


class Echo(nn.Module):
    """Outputs its inputs. Its copies share the note of the modes in which they ran."""

    modes: ClassVar[list[bool]] = []

    def forward(self, inputs):
        self.modes.append(self.training)
        return inputs


def view(pixels, index, labels):
    return SampleView(TensorPixels(pixels), index, labels, Preprocess(), CPU)


def prepared(truth=TRUE, kind="classification", pixels=None, given=GIVEN, test_labels=(0, 1, 2)):
    pixels = torch.nn.functional.one_hot(SAID, 3).float() if pixels is None else pixels
    train, val = view(pixels, TRAIN, given[TRAIN]), view(pixels, VAL, given[VAL])
    test = view(pixels[[0, 1, 1]], torch.arange(3), torch.tensor(test_labels))  # says 0, 2, 2
    known = Truth(truth)
    source = verified_source(train, known, stream(1, "verified"))
    task = Task(train, val, lambda k: Echo(), kind, pixels.shape[1], 1, CPU, verified_source=source)
    dataset = SimpleNamespace(classes=SimpleNamespace(num=3), shape=(3,))
    return AssembledTask(task, known, test, train, val, dataset, 0.5, None)


def test_scores_of_a_corrected_model_by_hand():
    meter = CostMeter(3)
    scores = Evaluator(prepared()).score_corrected(Echo(), meter, 1, num_retain=3, num_forget=2)
    assert scores == {
        "val_noisy_acc": 2 / 4,  # 6 and 8 as given
        "val_clean_acc": 2 / 3,  # without 7, whose given label is wrong
        "test_acc": 2 / 3,
        "mislabelled_given_acc": 1 / 3,  # of 2, 4, 5: the first is predicted as given ...
        "mislabelled_true_acc": 1 / 3,  # ... and the second as it is
        "retain_acc": 1 / 3,  # 0, 1, 3: only 0
        "forget_acc": scores["forget_acc"],
    }
    order = verified_source(prepared().train, Truth(TRUE), stream(1, "verified"))(evaluate.Need.FORGET, 2).index.tolist()
    assert scores["forget_acc"] == sum(SAID[place] == GIVEN[place] for place in order) / 2
    assert [(piece.phase, piece.used_by, piece.forwards) for piece in meter.records] == [("evaluate", (1,), 4), ("report", (1,), 3 + 3 + 3)]


def test_affected_and_other_test_samples_have_separate_scores():
    one = prepared()  # the test set says 0, 2, 2 where 0, 1, 2 is right
    parted = replace(one, affected=Affected(torch.tensor([1, 2]), torch.tensor([0]), None))
    scores = Evaluator(parted).score_corrected(Echo(), CostMeter(), 0)
    assert (scores["test_acc"], scores["test_affected_acc"], scores["test_unaffected_acc"]) == (2 / 3, 1 / 2, 1.0)
    says_one = view(torch.eye(3)[[1, 1]], torch.arange(2), one.test.labels[1:])
    meter = CostMeter()
    painted = replace(one, affected=Affected(torch.tensor([1, 2]), torch.arange(3), says_one))
    scores = Evaluator(painted).score_corrected(Echo(), meter, 0)
    assert (scores["test_acc"], scores["test_affected_acc"], scores["test_unaffected_acc"]) == (2 / 3, 1 / 2, 2 / 3)
    assert [(piece.phase, piece.forwards) for piece in meter.records] == [("evaluate", 4), ("report", 3 + 2 + 3)]
    assert not {"test_affected_acc", "test_unaffected_acc"} & Evaluator(one).score_corrected(Echo(), CostMeter(), 0).keys()


def test_scores_of_a_baseline_add_its_fit_to_the_given_labels():
    scores = Evaluator(prepared()).score_baseline(Echo(), CostMeter())
    assert scores["train_acc"] == 2 / 6  # 0 and 2
    assert "retain_acc" not in scores
    assert "forget_acc" not in scores


def test_what_is_unknown_is_left_out():
    scores = Evaluator(prepared(truth=None)).score_corrected(Echo(), CostMeter(), 0, num_retain=3, num_forget=2)
    assert scores == {"val_noisy_acc": 2 / 4, "val_clean_acc": None, "test_acc": 2 / 3}


def test_with_right_labels_both_validations_are_one_and_nothing_is_wrong():
    scores = Evaluator(prepared(given=TRUE)).score_corrected(Echo(), CostMeter(), 0, num_forget=2)
    assert scores == {"val_noisy_acc": 3 / 4, "val_clean_acc": 3 / 4, "test_acc": 2 / 3}


def test_validation_without_one_right_label_has_no_clean_score():
    given = torch.where(torch.isin(torch.arange(10), VAL), (TRUE + 1) % 3, GIVEN)
    assert Evaluator(prepared(given=given)).score_corrected(Echo(), CostMeter(), 0)["val_clean_acc"] is None


def test_regression_scores_by_hand():
    outputs = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0], [1.0], [2.0], [3.0], [6.0]])
    targets = torch.tensor([0.0, 1, 2, 3, 4, 5, 1, 9, 3, 5])  # validation: 1, 9, 3, 5 against 1, 2, 3, 6
    truth = torch.tensor([0.0, 1, 2, 3, 4, 5, 1, 2, 3, 5])  # the 9 is wrong
    scores = Evaluator(prepared(truth, "regression", outputs, targets, (0.0, 1.0, 5.0))).score_corrected(
        Echo(), CostMeter(), 0, num_retain=2
    )
    mean, clean = (1 + 9 + 3 + 5) / 4, (1 + 3 + 5) / 3
    assert scores["val_noisy_r2"] == pytest.approx(1 - (49 + 1) / sum((value - mean) ** 2 for value in (1, 9, 3, 5)))
    assert scores["val_clean_r2"] == pytest.approx(1 - 1 / sum((value - clean) ** 2 for value in (1, 3, 5)))
    assert scores["test_r2"] == pytest.approx(1 - 16 / 14)  # says 0, 1, 1 for 0, 1, 5
    assert set(scores) == {"val_noisy_r2", "val_clean_r2", "test_r2"}


def test_at_most_so_many_samples_are_probed(monkeypatch):
    monkeypatch.setattr(evaluate, "PROBE_SIZE", 2)
    meter = CostMeter()
    scores = Evaluator(prepared()).score_corrected(Echo(), meter, 0, num_retain=3, num_forget=3)
    assert meter.records[1].forwards == 3 + 2 + 2  # test, wrong, retain
    assert scores["mislabelled_given_acc"] in (0.0, 0.5)
    assert scores["retain_acc"] in (0.0, 0.5)


def test_a_kept_set_scores_as_one_read_anew(monkeypatch):
    model = Echo()
    reads, batches = [], SampleView.batches
    monkeypatch.setattr(SampleView, "batches", lambda self, size: reads.append(size) or batches(self, size))
    keeping = Evaluator(prepared(), batch_size=2)
    first, read = keeping.score_baseline(model, CostMeter()), len(reads)
    second = keeping.score_baseline(model, CostMeter())
    assert len(reads) == read > 0
    monkeypatch.setattr(evaluate, "CACHED_VALUES", 0)
    reading = Evaluator(prepared(), batch_size=2).score_baseline(model, CostMeter())
    assert first == second == reading
    assert len(reads) > read


def test_scoring_runs_in_evaluation_mode_and_does_not_change_the_model():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), Echo()).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    Echo.modes.clear()
    Evaluator(prepared()).score_corrected(model, CostMeter(), 0)
    assert set(Echo.modes) == {False}
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert isinstance(model[1], nn.BatchNorm1d)


def test_every_model_is_scored_as_its_fused_copy(monkeypatch):
    """... and making it is part of what an evaluation costs."""
    made, open_records = [], []
    evaluator, meter = Evaluator(prepared()), CostMeter()

    def fused_copy(model, inputs):
        made.append(nn.Identity())
        open_records.append(meter.records[-1].phase)
        return made[-1]

    monkeypatch.setattr(evaluate, "fused_copy", fused_copy)
    wrong = nn.Linear(3, 3)
    assert evaluator.score_baseline(wrong, meter)["val_noisy_acc"] == 2 / 4
    assert open_records == ["evaluate", "report"]


def test_small_batches_are_padded_and_padding_is_neither_returned_nor_counted():
    sizes, meter = [], CostMeter()

    class Doubles(nn.Module):
        def forward(self, inputs):
            sizes.append(len(inputs))
            return 2 * inputs

    for count in (1, 3, evaluate.MIN_BATCH, 40):
        inputs = torch.randn(count, 2, 3)
        with meter("evaluate"):
            assert torch.equal(evaluate.predict_outputs(Doubles(), inputs, meter), 2 * inputs)
    assert sizes == [evaluate.MIN_BATCH] * 3 + [40]
    assert [piece.forwards for piece in meter.records] == [1, 3, evaluate.MIN_BATCH, 40]


def test_a_trusted_set_is_judged():
    scores = Evaluator(prepared()).score_trusted(torch.tensor([0, 2, 3, 5]))  # given 0, 0, 0, 1; right: 0 and 3
    assert scores == {"trusted_label_precision": 2 / 4, "trusted_class_min": 0, "trusted_class_max": 3}
    assert Evaluator(prepared(truth=None)).score_trusted(torch.tensor([0, 5])) == {"trusted_class_min": 0, "trusted_class_max": 1}


def test_edges_of_the_two_scores():
    assert accuracy(torch.zeros(0, 3), torch.zeros(0)) is None
    assert r2(torch.zeros(1, 1), torch.zeros(1)) is None
    assert r2(torch.zeros(3, 1), torch.ones(3)) is None
    assert r2(torch.tensor([[1.0], [2.0]]), torch.tensor([1.0, 2.0])) == 1.0


class NoStatistics(nn.Sequential):
    """Batch norm over the batch in evaluation mode as well; one value per channel and image."""

    def __init__(self):
        super().__init__(nn.BatchNorm1d(3, affine=False, track_running_stats=False))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_batch_norm_without_running_statistics_gets_the_batch_as_it_is_and_never_one_sample(count):
    inputs, meter = torch.randn(count, 3, generator=torch.Generator().manual_seed(0)), CostMeter(1)
    with meter("evaluate"):
        found = evaluate.predict_outputs(NoStatistics().eval(), inputs, meter)
    expected = NoStatistics()(inputs) if count > 1 else torch.zeros(1, 3)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)
    assert meter.records[0].forwards == count

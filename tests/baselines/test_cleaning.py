"""Data cleaning against plain versions: predictions, samples left out or relabelled, training, cost."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from baselines import cleaning
from baselines.confident_learning import ConfidentLearning, label_issues
from baselines.loss_filter import LossFilter
from baselines.relabel import Relabel
from baselines.sample_sources import Relabelled
from sap_core.api import Corrector, Sizes, Stopped
from sap_core.errors import UserError
from sap_core.run import PlainRun
from sap_core.seeding import stream
from trainers.sgd import SGD

RECIPE = SGD(epochs=3, learning_rate=0.05, batch_size=16, schedule="constant")
FILTER = LossFilter(RECIPE, drop=0.3, learning_rate=0.02, epochs=2, batch_size=8)
LABEL = Relabel(RECIPE, change=0.3, predictions="in_sample", learning_rate=0.02, epochs=2, batch_size=8)
LEARN = ConfidentLearning(RECIPE, folds=3, learning_rate=0.02, epochs=2, batch_size=8)
SIZES = Sizes(80, 20)


@pytest.fixture
def cleanlab(monkeypatch):
    """The library if it is installed, else a stand-in with its function: the paper's counting, pruned by noise rate."""
    if find_spec("cleanlab") is not None:
        return
    package, module = ModuleType("cleanlab"), ModuleType("cleanlab.filter")
    package.__spec__ = SimpleNamespace(name="cleanlab")
    module.find_label_issues = lambda labels, pred_probs, filter_by, n_jobs: plain_issues(labels, pred_probs)
    monkeypatch.setitem(sys.modules, "cleanlab", package)
    monkeypatch.setitem(sys.modules, "cleanlab.filter", module)


def plain_issues(labels, probabilities):
    """Confident learning, pruned by noise rate: for each pair (given, other) as many samples as the calibrated confident joint counts,
    those with the largest margin of the other class."""
    n, classes = probabilities.shape
    threshold = [probabilities[labels == c, c].mean() if (labels == c).any() else 1.0 for c in range(classes)]
    joint = np.zeros((classes, classes))
    for p, given in zip(probabilities, labels, strict=True):
        above = [c for c in range(classes) if p[c] >= threshold[c] - 1e-6]
        if above:
            joint[given, max(above, key=lambda c: p[c])] += 1
    counts = np.bincount(labels, minlength=classes)
    joint = np.round(joint * (counts / joint.sum(1).clip(1))[:, None])
    wrong = np.zeros(n, bool)
    for given in range(classes):
        for other in range(classes):
            number = int(joint[given, other])
            if other != given and number:
                own = np.flatnonzero(labels == given)
                margin = probabilities[own, other] - probabilities[own, given]
                wrong[own[np.argsort(-margin, kind="stable")[:number]]] = True
    return wrong


def plain_outputs(model, samples):
    net = copy.deepcopy(model).eval()
    with torch.no_grad():
        return torch.stack([net(next(samples.subset(torch.tensor([k])).batches(1)).inputs)[0].double() for k in range(len(samples))])


def plain_losses(outputs, labels):
    return [float(row.logsumexp(0) - row[label]) for row, label in zip(outputs, labels, strict=True)]


def refit(task, samples):
    """Network of the recipe trained on `samples`."""
    return RECIPE.fit(replace(task, train=samples), PlainRun()).model


@pytest.mark.parametrize("net", ["batch_norm", "dropout"])
def test_loss_filter_leaves_out_the_worst_fitted_samples_and_retrains(toys, plain, net):
    task = toys.make_task(net, augment="flip")
    model = plain.noisy_model(task)
    run = PlainRun()
    ours = plain.corrected(toys, [FILTER], model, task, run)[0]
    losses = plain_losses(plain_outputs(model, task.train), task.train.labels)
    left = sorted(sorted(range(80), key=losses.__getitem__)[:56])
    toys.assert_same_bits(ours, toys.weights(refit(task, task.train.subset(torch.tensor(left)))))
    assert run.trusted_sets[0].tolist() == left
    assert (run.meter.records[0].phase, run.meter.records[0].forwards) == ("select", 80)
    assert toys.passes(run) == (80 + 3 * 56, 3 * 56)


def test_loss_filter_then_finetunes_from_the_given_network(toys, plain):
    task = toys.make_task("batch_norm")
    model = plain.noisy_model(task)
    setting = replace(FILTER, then="finetune")
    ours = plain.corrected(toys, [setting], model, task, PlainRun())[0]
    losses = plain_losses(plain_outputs(model, task.train), task.train.labels)
    left = task.train.subset(torch.tensor(sorted(sorted(range(80), key=losses.__getitem__)[:56])))
    student = copy.deepcopy(model).train()
    descent = plain.Momentum(student)
    for epoch in (1, 2):
        for batch in left.batches(8, stream(task.seed, "correct", epoch, "retain")):
            descent.step(plain.cross_entropy(student(batch.inputs), batch.labels), 0.02)
    toys.assert_close(ours, toys.weights(student), rtol=1e-4, atol=1e-5)


def test_loss_filter_works_on_numbers(toys, plain):
    task = toys.make_task(kind="regression")
    model = task.build(0).eval()
    run = PlainRun()
    plain.corrected(toys, [FILTER], model, task, run)
    residuals = (plain_outputs(model, task.train)[:, 0] - task.train.labels).square().tolist()
    assert run.trusted_sets[0].tolist() == sorted(sorted(range(80), key=residuals.__getitem__)[:56])


def test_relabel_gives_the_worst_fitted_samples_the_predicted_class(toys, plain):
    task = toys.make_task()
    model = plain.noisy_model(task)
    ours = plain.corrected(toys, [LABEL], model, task, PlainRun())[0]
    outputs = plain_outputs(model, task.train)
    losses = plain_losses(outputs, task.train.labels)
    labels = task.train.labels.clone()
    for place in sorted(range(80), key=losses.__getitem__)[56:]:
        labels[place] = int(outputs[place].argmax())
    assert 0 < int((labels != task.train.labels).sum()) <= 24
    toys.assert_same_bits(ours, toys.weights(refit(task, Relabelled(task.train, labels))))


def test_out_of_sample_predictions_are_of_networks_that_never_saw_the_sample(toys, plain):
    task = toys.make_task("dropout")
    run = PlainRun()
    ours = cleaning.predict(replace(LEARN, folds=3), task.build(0), task, run)
    order = stream(task.seed, "select", "folds").permutation(80).tolist()
    start = 0
    for size in (27, 27, 26):
        fold = order[start : start + size]
        others = torch.tensor([place for place in range(80) if place not in fold])
        expected = plain_outputs(refit(task, task.train.subset(others)), task.train.subset(torch.tensor(fold)))
        torch.testing.assert_close(ours[fold], expected, rtol=1e-5, atol=1e-5)
        start += size
    assert {piece.phase for piece in run.meter.records} == {"select"}, "the trainings are part of the selection's price"
    assert toys.passes(run) == (3 * 160 + 80, 3 * 160)


def test_confident_learning_leaves_out_the_samples_it_finds(toys, plain, cleanlab):
    task = toys.make_task()
    run = PlainRun()
    setting = replace(LEARN, predictions="in_sample")
    model = plain.noisy_model(task)
    ours = plain.corrected(toys, [setting], model, task, run)[0]
    wrong = plain_issues(task.train.labels.numpy(), plain_outputs(model, task.train).softmax(1).numpy())
    assert 4 <= wrong.sum() <= 40
    left = torch.as_tensor(np.flatnonzero(~wrong))
    assert run.trusted_sets[0].tolist() == left.tolist()
    toys.assert_same_bits(ours, toys.weights(refit(task, task.train.subset(left))))
    forecast = ConfidentLearning.forecast([setting], SIZES)
    forwards, backwards = toys.passes(run)
    assert forwards < forecast.forwards
    assert backwards < forecast.backwards


@pytest.mark.skipif(find_spec("cleanlab") is None, reason="needs cleanlab: pip install 'sap-sweep[cleaning]'")
def test_the_plain_version_equals_cleanlab():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(4, (400,), generator=generator)
    given = torch.where(torch.rand(400, generator=generator) < 0.25, (truth + 1) % 4, truth)
    logits = torch.randn(400, 4, generator=generator) + 3 * torch.nn.functional.one_hot(truth, 4)
    probabilities = logits.double().softmax(1)
    found = label_issues(probabilities, given, "prune_by_noise_rate").numpy()
    plain = plain_issues(given.numpy(), probabilities.numpy())
    assert (found != plain).sum() <= 4, "cleanlab rounds its counts so that rows keep their sums"
    assert (found & (truth != given).numpy()).sum() > 80
    for rule in ("both", "prune_by_class", "confident_learning", "predicted_neq_given"):
        assert label_issues(probabilities, given, rule).any()


def test_a_missing_library_is_named_with_its_remedy(toys, monkeypatch):
    monkeypatch.setattr("baselines.confident_learning.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs cleanlab, which is not installed; run pip install 'sap-sweep\[cleaning\]'"):
        LEARN.refuse("classification", toys.make_task().build(0))


@pytest.mark.parametrize("setting", [FILTER, LABEL], ids=["loss_filter", "relabel"])
@pytest.mark.parametrize("predictions", ["in_sample", "out_of_sample"])
def test_fine_tuned_settings_share_predictions_and_epochs(toys, plain, setting, predictions):
    task = toys.make_task()
    model = plain.noisy_model(task)
    nested = [replace(setting, then="finetune", predictions=predictions, folds=2, epochs=epochs) for epochs in (3, 1)]
    run = PlainRun(2)
    shared = plain.corrected(toys, nested, model, task, run)
    for position, one in enumerate(nested):
        toys.assert_same_bits(shared[position], plain.corrected(toys, [one], model, task, PlainRun())[0])
    forecast = type(setting).forecast(nested, SIZES)
    assert toys.passes(run) == (forecast.forwards, forecast.backwards)
    assert nested[0].family() == nested[1].family()
    assert nested[0].computation() != nested[1].computation()


def test_unused_fields_do_not_change_the_computation():
    retrained = [replace(FILTER, epochs=epochs, learning_rate=rate, folds=folds) for epochs, rate, folds in ((1, 0.1, 2), (9, 0.2, 7))]
    assert retrained[0].computation() == retrained[1].computation()
    assert replace(FILTER, drop=0.1).family() != FILTER.family()
    assert replace(FILTER, predictions="out_of_sample").family() != FILTER.family()
    assert replace(FILTER, then="finetune", learning_rate=0.1).family() != replace(FILTER, then="finetune").family()


def test_a_retraining_resumes_through_the_run(toys, plain):
    task = toys.make_task("dropout")
    model = plain.noisy_model(task)
    setting = replace(FILTER, predictions="out_of_sample", folds=2)
    whole = plain.corrected(toys, [setting], model, task, toys.StoringRun())[0]
    first = toys.StoringRun(stop_after=2)
    with pytest.raises(Stopped):
        next(LossFilter.correct([setting], model, task, first))
    second = toys.StoringRun(resume=first.stored)
    toys.assert_same_bits(whole, plain.corrected(toys, [setting], model, task, second)[0])
    assert [point["epoch"] for point in second.curve] == [3]


def test_a_diverged_network_is_reported(toys):
    task = toys.make_task()
    model = task.build(0)
    torch.nn.init.constant_(model.head.weight, torch.nan)
    with pytest.raises(FloatingPointError, match="diverged"):
        next(LossFilter.correct([FILTER], model, task, PlainRun()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: replace(FILTER, drop=1.0), "loss_filter.drop=1"),
        (lambda: replace(LABEL, change=0.0), "relabel.change=0"),
        (lambda: replace(FILTER, folds=1), "loss_filter.folds=1"),
        (lambda: replace(LEARN, filter_by="low"), "rule 'low'"),
        (lambda: replace(FILTER, predictions="insample"), "did you mean 'in_sample'"),
        (lambda: replace(FILTER, then="train"), "training 'train'"),
        (lambda: LABEL.refuse("regression", None), "regression"),
        (lambda: LEARN.refuse("regression", None), "regression"),
    ],
)
def test_invalid_settings_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_interface():
    for setting in (FILTER, LABEL, LEARN):
        assert isinstance(setting, Corrector)
        assert setting.needs() == frozenset()

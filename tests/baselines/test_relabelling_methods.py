"""Amnesiac, SalUn, Bad Teacher and NegGrad+ against plain implementations of their published updates."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from baselines.amnesiac import Amnesiac
from baselines.bad_teacher import BadTeacher
from baselines.neggrad import NegGrad
from baselines.relabelling import random_other_labels, runner_up_labels
from baselines.salun import SalUn, largest_share, saliency
from baselines.sample_sources import Concatenated, Relabelled
from sap_core.api import Corrector, Need, Sizes
from sap_core.errors import UserError
from sap_core.models.ensemble import Ensemble
from sap_core.run import PlainRun
from sap_core.seeding import stream

AMNESIAC = Amnesiac(learning_rate=0.003, epochs=3, batch_size=8, num_retain=24, num_forget=10)
SALUN = SalUn(learning_rate=0.05, epochs=3, salient=0.3, forget_batch=4, retain_batch=8, num_retain=24, num_forget=10)
BAD = BadTeacher(learning_rate=0.003, epochs=3, batch_size=8, temperature=2.0, num_retain=24, num_forget=10)
NEG = NegGrad(learning_rate=0.05, epochs=3, alpha=0.9, forget_batch=4, retain_batch=8, num_retain=24, num_forget=10)
ALL = [AMNESIAC, SALUN, BAD, NEG]


def samples_of(task):
    allowed = task.allow(frozenset({Need.RETAIN, Need.FORGET}))
    return allowed.verified(Need.RETAIN, 24), allowed.verified(Need.FORGET, 10)


def check(toys, plain, setting, net, plain_version, augment=False):
    """Compares the corrected weights with those of the plain version."""
    task = toys.make_task(net, augment="crop_flip" if augment else "none")
    model = plain.noisy_model(task)
    before = toys.weights(model)
    setting = replace(setting, augment=augment)
    ours = plain.corrected(toys, [setting], model, task, PlainRun())[0]
    expected = toys.weights(plain_version(setting, model, task, plain, "augmented" if augment else "plain"))
    toys.assert_close(ours, expected, rtol=2e-4, atol=2e-5)
    assert (ours["head.weight"] - before["head.weight"]).abs().max() > 1e-3, "a loop that does nothing must not pass"
    toys.assert_same_bits(before, toys.weights(model))
    return ours


def plain_amnesiac(setting, model, task, plain, view):
    retain, forget = samples_of(task)
    if setting.labels == "random":
        labels = random_other_labels(forget.labels, 4, stream(task.seed, "correct", "labels"))
    else:
        (batch,) = forget.batches(10)
        out = model(batch.inputs).detach()
        given = forget.labels.tolist()
        labels = torch.tensor([max(set(range(4)) - {y}, key=row.tolist().__getitem__) for row, y in zip(out, given, strict=True)])
    assert (labels != forget.labels).all()
    net = copy.deepcopy(model).train()
    adam = plain.Adam(net)
    for epoch in range(1, setting.epochs + 1):
        rng = stream(task.seed, "correct", epoch, "relabelled")
        with rng.child("layers").scope():
            for batch in Concatenated((retain, Relabelled(forget, labels))).batches(8, rng, (view,)):
                adam.step(plain.cross_entropy(net(batch.inputs), batch.labels), setting.learning_rate)
    return net


@pytest.mark.parametrize("net", ["batch_norm", "dropout"])
@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("labels", ["random", "runner_up"])
def test_amnesiac_equals_the_plain_loop(toys, plain, net, augment, labels):
    check(toys, plain, replace(AMNESIAC, labels=labels), net, plain_amnesiac, augment)


def test_random_labels_are_uniform_over_the_other_classes():
    given = torch.arange(4).repeat(3000)
    drawn = random_other_labels(given, 4, stream(1, "correct", "labels"))
    counts = torch.bincount(given * 4 + drawn, minlength=16).reshape(4, 4)
    assert (counts.diagonal() == 0).all()
    assert (counts[~torch.eye(4, dtype=torch.bool)] - 1000).abs().max() < 120


def test_a_runner_up_is_never_the_given_label(toys, plain):
    task = toys.make_task()
    run = PlainRun()
    model = plain.noisy_model(task)
    found = runner_up_labels(model, task.train, run)
    (batch,) = task.train.batches(80)
    top = model(batch.inputs).topk(2, dim=1).indices
    for best, second, given, ours in zip(*top.unbind(1), task.train.labels, found, strict=True):
        assert ours == (second if best == given else best)


def plain_salun(setting, model, task, plain, view):
    retain, forget = samples_of(task)
    net = copy.deepcopy(model).eval()
    total = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    for batch in forget.batches(4):
        net.zero_grad()
        (-plain.cross_entropy(net(batch.inputs), batch.labels)).backward()
        for name, p in net.named_parameters():
            total[name] += p.grad
    ranked = sorted(((float(value), name, place) for name, grad in total.items() for place, value in enumerate(grad.abs().flatten())))
    size = len(ranked)
    mask = {name: torch.zeros(p.numel()) for name, p in net.named_parameters()}
    for _, name, place in ranked[size - int(setting.salient * size) :]:
        mask[name][place] = 1
    mask = {name: value.view_as(total[name]) for name, value in mask.items()}
    original = {name: p.detach().clone() for name, p in net.named_parameters()}
    descent = plain.Momentum(net)

    def one_pass(samples, size, epoch, phase, labels=None):
        rng = stream(task.seed, "correct", epoch, phase)
        label_of = dict(zip(samples.index.tolist(), labels.tolist(), strict=True)) if labels is not None else None
        with rng.child("layers").scope():
            for batch in samples.batches(size, rng, (view,)):
                wanted = batch.labels if label_of is None else torch.tensor([label_of[i] for i in batch.index.tolist()])
                descent.step(plain.cross_entropy(net(batch.inputs), wanted), setting.learning_rate)
                with torch.no_grad():
                    for name, p in net.named_parameters():
                        p.copy_(mask[name] * p + (1 - mask[name]) * original[name])

    for epoch in range(1, setting.epochs + 1):
        net.train()
        drawn = torch.randint(4, (10,), generator=stream(task.seed, "correct", epoch, "labels").generator())
        one_pass(forget, 4, epoch, "forget", drawn)
        one_pass(retain, 8, epoch, "retain")
    return net


@pytest.mark.parametrize("net", ["batch_norm", "dropout"])
@pytest.mark.parametrize("augment", [False, True])
def test_salun_equals_the_plain_loop_and_keeps_other_weights_to_the_bit(toys, plain, net, augment):
    ours = check(toys, plain, SALUN, net, plain_salun, augment)
    model = plain.noisy_model(toys.make_task(net, augment="crop_flip" if augment else "none"))
    kept = sum(int((ours[name] == p).sum()) for name, p in model.named_parameters())
    size = sum(p.numel() for p in model.parameters())
    assert abs(size - int(0.3 * size) - kept) <= 0.02 * size


def test_saliency_is_of_the_whole_network_and_counts_exactly():
    mask = largest_share([torch.tensor([[3.0, 1.0], [0.0, 5.0]]), torch.tensor([4.0, 4.0])], 0.5)
    assert mask[0].tolist() == [[False, False], [False, True]]
    assert mask[1].tolist() == [True, True]
    assert [m.sum() for m in largest_share([torch.ones(4)], 0.6)] == [2], "of equals the earlier"


def test_saliency_counts_its_pass(toys):
    task = toys.make_task()
    run = PlainRun()
    with run.meter("collect"):
        saliency(task.build(0).eval(), task.train, 16, run)
    assert toys.passes(run) == (80, 80)


def plain_bad_teacher(setting, model, task, plain, view):
    retain, forget = samples_of(task)
    good, bad, student = copy.deepcopy(model).eval(), task.build(1).eval(), copy.deepcopy(model).train()
    adam = plain.Adam(student)
    wrong = set(forget.index.tolist())
    for epoch in range(1, setting.epochs + 1):
        rng = stream(task.seed, "correct", epoch, "teach")
        with rng.child("layers").scope():
            for batch in Concatenated((retain, forget)).batches(8, rng, (view,)):
                with torch.no_grad():
                    t, u = (teacher(batch.inputs).div(setting.temperature).softmax(1) for teacher in (good, bad))
                l_f = torch.tensor([[1.0 if i in wrong else 0.0] for i in batch.index.tolist()])
                target = l_f * u + (1 - l_f) * t
                s = (student(batch.inputs) / setting.temperature).log_softmax(1)
                adam.step((target * (target.log() - s)).sum() / len(s), setting.learning_rate)
    return student


@pytest.mark.parametrize("net", ["batch_norm", "dropout"])
@pytest.mark.parametrize("augment", [False, True])
def test_bad_teacher_equals_the_plain_loop(toys, plain, net, augment):
    check(toys, plain, BAD, net, plain_bad_teacher, augment)


def test_the_bad_teacher_of_an_ensemble_is_none_of_its_networks(toys, plain):
    task = toys.make_task()
    model = Ensemble([plain.noisy_model(task, 0), plain.noisy_model(task, 1)]).eval()
    built = []
    spied = replace(task, build=lambda k: (built.append(k), task.build(k))[1])
    plain.corrected(toys, [BAD], model, spied, PlainRun())
    assert built == [2]


def plain_neggrad(setting, model, task, plain, view):
    retain, forget = samples_of(task)
    net = copy.deepcopy(model).train()
    descent = plain.Momentum(net, momentum=0.0, decay=0.0)
    for epoch in range(1, setting.epochs + 1):
        rng = stream(task.seed, "correct", epoch, "neggrad")
        rights = list(retain.batches(8, rng.child("retain"), (view,)))
        wrongs = list(forget.batches(4, rng.child("forget"), (view,)))
        with rng.child("layers").scope():
            for number, right in enumerate(rights):
                wrong = wrongs[number % len(wrongs)]
                near = plain.cross_entropy(net(right.inputs), right.labels)
                far = plain.cross_entropy(net(wrong.inputs), wrong.labels)
                descent.step(setting.alpha * near - (1 - setting.alpha) * far, setting.learning_rate)
    return net


@pytest.mark.parametrize("net", ["batch_norm", "dropout"])
@pytest.mark.parametrize("augment", [False, True])
def test_neggrad_equals_the_plain_loop(toys, plain, net, augment):
    check(toys, plain, NEG, net, plain_neggrad, augment)


def test_neggrad_with_all_weight_on_retain_samples_never_ascends(toys, plain):
    task = toys.make_task("batch_norm")
    model = plain.noisy_model(task)
    _, forget = samples_of(task)

    def loss(weights):
        net = task.build(0).eval()
        net.load_state_dict(weights)
        (batch,) = forget.batches(10)
        return plain.cross_entropy(net(batch.inputs), batch.labels).item()

    tame, wild = (plain.corrected(toys, [replace(NEG, alpha=alpha)], model, task, PlainRun())[0] for alpha in (1.0, 0.7))
    assert loss(wild) > loss(tame)


@pytest.mark.parametrize("setting", ALL, ids=lambda setting: type(setting).__name__)
@pytest.mark.parametrize("augment", [False, True])
def test_epochs_share_one_trajectory(toys, plain, setting, augment):
    task = toys.make_task(augment="flip")
    model = plain.noisy_model(task)
    nested = [replace(setting, epochs=epochs, augment=augment) for epochs in (3, 1, 3)]
    run = PlainRun(3)
    shared = plain.corrected(toys, nested, model, task, run)
    assert list(shared) == [1, 0, 2], "cheapest first"
    for position in (0, 1):
        toys.assert_same_bits(shared[position], plain.corrected(toys, [nested[position]], model, task, PlainRun())[0])
    forecast = type(setting).forecast(nested, Sizes(80, 20))
    assert toys.passes(run) == (forecast.forwards, forecast.backwards)
    assert len({one.computation() for one in nested}) == 2
    assert isinstance(setting, Corrector)


@pytest.mark.parametrize("setting", ALL, ids=lambda setting: type(setting).__name__)
def test_batches_larger_than_their_set_are_one_family(setting):
    fields = [name for name in ("batch_size", "forget_batch", "retain_batch") if hasattr(setting, name)]
    one, other = (replace(setting, **dict.fromkeys(fields, size)) for size in (500, 512))
    assert one.family() == other.family()
    assert one.family() != setting.family()


@pytest.mark.parametrize("setting", [AMNESIAC, SALUN, BAD], ids=lambda setting: type(setting).__name__)
def test_regressions_are_refused(toys, setting):
    task = toys.make_task(kind="regression").allow(setting.needs())
    with pytest.raises(UserError, match="regression"):
        next(type(setting).correct([setting], task.build(0), task, PlainRun()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NegGrad(alpha=1.5), "neggrad.alpha=1.5"),
        (lambda: SalUn(salient=0.0), "salun.salient=0"),
        (lambda: SalUn(labels="best"), "new labels 'best'"),
        (lambda: Amnesiac(labels="best"), "new labels 'best'"),
        (lambda: BadTeacher(temperature=0.0), "temperature"),
        (lambda: BadTeacher(num_forget=0), "num_forget"),
    ],
)
def test_invalid_values_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()

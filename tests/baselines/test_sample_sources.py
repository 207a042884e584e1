"""Sources of retain and forget samples, relabelled and concatenated sets."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from baselines.amnesiac import Amnesiac
from baselines.bad_teacher import BadTeacher
from baselines.cf_k import CFk
from baselines.eu_k import EUk
from baselines.finetune import Finetune
from baselines.fisher import Fisher
from baselines.neggrad import NegGrad
from baselines.retrain import Retrain
from baselines.salun import SalUn
from baselines.sample_sources import Concatenated, Relabelled, check_classes, retain_and_forget_samples, retain_samples
from baselines.scrub import SCRUB
from baselines.ssd import SSD
from sap_core.api import Need, Sizes
from sap_core.errors import UserError
from sap_core.run import PlainRun
from sap_core.seeding import stream
from trainers.sgd import SGD


@dataclass(frozen=True)
class Wants:
    source: str = "scored"
    num_retain: int = 12
    num_forget: int = 5


def plain_losses(model, task):
    """One cross-entropy per training sample, one sample at a time."""
    losses = []
    for place in range(len(task.train)):
        (batch,) = task.train.subset(torch.tensor([place])).batches(1)
        out = model(batch.inputs).double()[0]
        losses.append((out.logsumexp(0) - out[batch.labels[0]]).item())
    return losses


def test_scored_samples_are_those_of_lowest_and_highest_loss(toys, plain):
    task = toys.make_task()
    model = plain.noisy_model(task)
    run = PlainRun()
    retain, forget = retain_and_forget_samples(Wants(), model, task, run)
    losses = plain_losses(model, task)
    rising = sorted(range(80), key=lambda place: losses[place])
    assert retain.index.tolist() == rising[:12]
    assert forget.index.tolist() == rising[::-1][:5]
    assert [(piece.phase, piece.forwards) for piece in run.meter.records] == [("select", 80)]
    assert torch.equal(run.trusted_sets[0], retain.index), "how right the kept labels are is for the platform to find out"
    fewer = retain_samples(replace(Wants(), num_retain=4), model, task, PlainRun())
    assert fewer.index.tolist() == rising[:4], "nested"


def test_oracle_samples_are_returned_by_the_task(toys):
    task = toys.make_task().allow(frozenset({Need.RETAIN, Need.FORGET}))
    run = PlainRun()
    retain, forget = retain_and_forget_samples(Wants("oracle"), task.build(0), task, run)
    assert torch.equal(retain.index, task.verified(Need.RETAIN, 12).index)
    assert torch.equal(forget.index, task.verified(Need.FORGET, 5).index)
    assert not run.meter.records
    assert not run.trusted_sets


def test_samples_not_identified_are_retained_wrong_or_not(toys):
    """Half of the toys' 20 wrong samples are known. The others remain retain samples, in an order independent of the known ones."""
    task = toys.make_task().allow(frozenset({Need.FORGET}))
    run = PlainRun()
    retain, forget = retain_and_forget_samples(Wants("identified", None, 0.5), task.build(0), task, run)
    wrong = set(range(0, 80, 4))
    assert len(forget) == 10
    assert set(forget.index.tolist()) < wrong
    assert sorted([*retain.index.tolist(), *forget.index.tolist()]) == list(range(80))
    assert len(wrong & set(retain.index.tolist())) == 10
    assert torch.equal(run.trusted_sets[0], retain.index)
    assert not run.meter.records
    _, fewer = retain_and_forget_samples(Wants("identified", None, 0.1), task.build(0), task, PlainRun())
    assert fewer.index.tolist() == forget.index.tolist()[:2]
    every = retain_samples(Wants("identified", None, None), task.build(0), task, PlainRun())
    assert not wrong & set(every.index.tolist())
    kept = [place for place in retain.index.tolist() if place not in wrong]
    assert kept == every.index.tolist()
    assert retain_samples(Wants("identified", 7, 0.5), task.build(0), task, PlainRun()).index.tolist() == retain.index.tolist()[:7]
    with pytest.raises(UserError, match="num_retain=71 exceeds the 70"):
        retain_samples(Wants("identified", 71, 0.5), task.build(0), task, PlainRun())


def test_samples_forgotten_by_score_are_reported(toys):
    task, run = toys.make_task(), PlainRun(2)
    _, forget = retain_and_forget_samples(Wants(), task.build(0), task, run)
    assert {which: index.tolist() for which, index in run.forgotten_sets.items()} == {0: forget.index.tolist(), 1: forget.index.tolist()}
    run = PlainRun()
    retain_samples(Wants(), task.build(0), task, run)
    assert not run.forgotten_sets


SHARED = [
    (SCRUB, {"forget_batch": 4, "epochs": 2, "msteps": 1}), (SSD, {}), (SSD, {"against": "retain"}), (Amnesiac, {"epochs": 2}),
    (BadTeacher, {"epochs": 1}), (NegGrad, {"epochs": 2, "forget_batch": 3, "retain_batch": 8}), (SalUn, {"epochs": 1}),
]  # fmt: skip
REST = [(Finetune, {"epochs": 2}), (CFk, {"epochs": 1, "k": 1}), (EUk, {"epochs": 1, "k": 1}), (Fisher, {})]


@pytest.mark.parametrize(("kind", "options"), [*SHARED, *REST], ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("known", [0.25, None])
def test_a_share_of_the_wrong_samples_is_forecast_as_it_is_counted(toys, kind, options, known):
    setting = kind(num_retain=24, num_forget=known, source="identified", **options)
    assert setting.needs() == {Need.FORGET}
    task, run = toys.make_task(), PlainRun()
    ((position, _),) = list(kind.correct([setting], task.build(0), task.allow(setting.needs()), run))
    assert position == 0
    forecast = kind.forecast([setting], Sizes(80, 20, task.num_outputs, wrong=20))
    assert toys.passes(run) == (forecast.forwards, forecast.backwards)
    assert setting.family() != replace(setting, num_forget=0.5).family()


def test_retraining_without_identified_samples(toys):
    setting = Retrain(SGD(epochs=1), source="identified", num_forget=0.25)
    task, run = toys.make_task(), PlainRun()
    list(Retrain.correct([setting], task.build(0), task.allow(setting.needs()), run))
    forecast = Retrain.forecast([setting], Sizes(80, 20, task.num_outputs, wrong=20))
    assert toys.passes(run) == (forecast.forwards, forecast.backwards) == (75, 75)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SCRUB(num_forget=1.5), "a fraction of the wrong ones between 0 and 1"),
        (lambda: SCRUB(num_forget=0.0), "a fraction of the wrong ones between 0 and 1"),
        (lambda: SCRUB(num_forget=0.5, source="scored"), "num_forget must be a number, not a fraction"),
        (lambda: SSD(num_forget=None, source="scored"), "num_forget must be a number, not a fraction"),
        (lambda: Finetune(num_forget=0.5), "source=identified only"),
        (lambda: Fisher(num_forget=10, source="scored"), "source=identified only"),
        (lambda: SCRUB(num_forget=0), "at least 1"),
    ],
)
def test_invalid_sample_counts_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_more_samples_than_there_are_are_refused(toys):
    task = toys.make_task()
    with pytest.raises(UserError, match="num_retain=76 and num_forget=5 together exceed the 80 samples of the training split"):
        retain_and_forget_samples(Wants(num_retain=76), task.build(0), task, PlainRun())
    with pytest.raises(UserError, match="num_retain=81 exceeds"):
        retain_samples(Wants(num_retain=81), task.build(0), task, PlainRun())


@pytest.mark.parametrize("make", [Finetune, SCRUB, SSD, lambda **given: Retrain(SGD(), num_retain=5, **given)])
def test_methods_know_three_sources(make):
    assert make().needs()
    assert make(source="identified").needs() == {Need.FORGET}
    assert make(source="scored").needs() == frozenset()
    with pytest.raises(UserError, match=r"source of samples 'orakle'.*did you mean 'oracle'"):
        make(source="orakle")


def test_retraining_on_scored_samples_needs_their_number():
    with pytest.raises(UserError, match="num_retain"):
        Retrain(SGD(), source="scored")


def test_a_regression_has_no_classes():
    check_classes("scrub", "classification", "compares")
    with pytest.raises(UserError, match="leave 'salun' out of methods"):
        check_classes("salun", "regression", "gives classes")


def parts(toys):
    task = toys.make_task(augment="crop_flip")
    one, other = task.train.subset(torch.arange(3, 20)), task.train.subset(torch.tensor([60, 25, 1, 30]))
    return task, Concatenated((one, Relabelled(other, torch.full((4,), 9))))


@pytest.mark.parametrize("view", ["plain", "augmented"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_joined_samples_are_the_samples_of_all_parts_once(toys, view, shuffled):
    if view == "augmented" and not shuffled:
        return
    task, both = parts(toys)
    rng = stream(3, "correct", 1) if shuffled else None
    batches = list(both.batches(4, rng, (view,)))
    assert [len(batch.labels) for batch in batches] == [4, 4, 4, 4, 5], "a last batch of one joins the one before it"
    index = torch.cat([batch.index for batch in batches])
    assert sorted(index.tolist()) == sorted(both.index.tolist())
    assert shuffled == (index.tolist() != both.index.tolist())
    whole = {int(i): x for batch in task.train.batches(80, rng, (view,)) for i, x in zip(batch.index, batch.inputs, strict=True)}
    for batch in batches:
        for i, x, label in zip(batch.index.tolist(), batch.inputs, batch.labels.tolist(), strict=True):
            assert torch.equal(x, whole[i]), "a sample looks the same in whatever set it stands"
            assert label == (9 if i in (60, 25, 1, 30) else int(task.train.labels[i]))
    mixed = [{int(i) in (60, 25, 1, 30) for i in batch.index} for batch in batches]
    assert not shuffled or any(len(kinds) == 2 for kinds in mixed)


def test_subsets_of_joined_and_relabelled_samples(toys):
    _, both = parts(toys)
    some = both.subset(torch.tensor([0, 18, 2]))
    assert some.index.tolist() == [3, 5, 25]
    assert some.labels.tolist()[2] == 9
    assert len(some) == 3
    assert some.universe == 80

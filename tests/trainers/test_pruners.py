"""Each pruner against loops over its published rule, on networks whose outputs and features are known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from sap_core.api import Fitted
from sap_core.errors import UserError
from sap_core.models.ensemble import Ensemble
from sap_core.run import PlainRun
from trainers.elr import ELR
from trainers.learner import FORGOTTEN, ForgettingCounts, records_forgetting
from trainers.mixup import MixUp
from trainers.pruning.el2n import EL2N
from trainers.pruning.forgetting import Forgetting
from trainers.pruning.grand import GraNd
from trainers.pruning.herding import Herding
from trainers.pruning.k_center import KCenter
from trainers.pruning.margin import Margin
from trainers.pruning.moderate import Moderate
from trainers.pruning.prune4rel import Prune4ReL, confidence
from trainers.pruning.small_loss import SmallLoss
from trainers.pruning.ssp import SSP
from trainers.pruning.uncertainty import Uncertainty
from trainers.pruning.warmup_outputs import class_quotas, collect_outputs, highest
from trainers.sgd import SGD

KEEP, COUNT = 0.3, 24


@pytest.fixture(scope="module")
def warm(toys):
    """(task on a shuffled part of the samples, a trained network, logits, features): the last two by a plain pass, sample by sample."""
    task = toys.make_task(augment="flip")
    model = toys.noisy(task)
    task = replace(task, train=task.train.subset(torch.randperm(80, generator=torch.Generator().manual_seed(2))))
    logits, features = [], []
    with torch.no_grad():
        for position in task.train.index.tolist():
            (batch,) = task.train.subset((task.train.index == position).nonzero()[:, 0]).batches(1)
            hidden = torch.relu(model.norm(model.conv(batch.inputs)))
            seen = torch.relu(model.second(hidden)).flatten(1)
            features.append(seen[0].double())
            logits.append(model.head(seen)[0].double())
    return task, Fitted(model), torch.stack(logits), torch.stack(features)


def kept(pruner, task, fitted, keep=KEEP):
    return pruner.select(task, fitted, keep, PlainRun()).index.tolist()


def chosen(task, scores, count=COUNT):
    """The universe positions of the highest scores, by a plain sort."""
    ranked = sorted(range(len(scores)), key=lambda i: (-float(scores[i]), i))
    return sorted(int(task.train.index[i]) for i in ranked[:count])


def probabilities(logits):
    return [[math.exp(float(z)) / sum(math.exp(float(other)) for other in row) for z in row] for row in logits]


def test_scores_of_single_samples(warm):
    task, fitted, logits, features = warm
    p, labels = probabilities(logits), task.train.labels.tolist()
    error = [math.sqrt(sum((q - (c == y)) ** 2 for c, q in enumerate(row))) for row, y in zip(p, labels, strict=True)]
    norm = [math.sqrt(1 + sum(float(value) ** 2 for value in row)) for row in features]
    expected = {
        SmallLoss(): [row[y] for row, y in zip(p, labels, strict=True)],
        Margin(): [sorted(row)[-2] - sorted(row)[-1] for row in p],
        Uncertainty(): [-max(row) for row in p],
        Uncertainty(measure="entropy"): [-sum(q * math.log(q) for q in row) for row in p],
        EL2N(): error,
        GraNd(): [e * n for e, n in zip(error, norm, strict=True)],
    }
    sets = {pruner: kept(pruner, task, fitted) for pruner in expected}
    assert sets == {pruner: chosen(task, scores) for pruner, scores in expected.items()}
    assert len({tuple(found) for found in sets.values()}) >= 5  # they are different rules


def test_grand_is_the_norm_of_the_last_layers_gradient(warm):
    task, fitted, _, _ = warm
    selection = GraNd().select(task, fitted, KEEP, PlainRun())
    for place in (0, 17, 50):
        (batch,) = task.train.subset(torch.tensor([place])).batches(1)
        loss = nn.functional.cross_entropy(fitted.model(batch.inputs), batch.labels)
        head = fitted.model.head
        squares = sum(float(g.square().sum()) for g in torch.autograd.grad(loss, [head.weight, head.bias]))
        assert float(selection.score[place]) == pytest.approx(math.sqrt(squares), rel=1e-4)


def test_scores_are_averaged_over_networks_and_their_logits_answer_together(toys, warm):
    task, one, logits, _ = warm
    other = toys.noisy(replace(toys.make_task(seed=3)))
    both = Fitted(Ensemble([one.model, other]))
    alone = EL2N().select(task, one, KEEP, PlainRun()).score, EL2N().select(task, Fitted(other), KEEP, PlainRun()).score
    torch.testing.assert_close(EL2N().select(task, both, KEEP, PlainRun()).score, (alone[0] + alone[1]) / 2)
    run = PlainRun()
    with run.meter("select"):
        reading = collect_outputs("el2n", task, both, 16, run)
    assert reading.features.shape == (80, 2 * 128)
    torch.testing.assert_close(reading.logits[0].double(), logits, rtol=1e-4, atol=1e-5)
    assert toys.passes(run) == (80, 0)


def test_prune4rel_reads_confidences_and_neighbours_from_the_network(warm):
    """One pick after the other from the definition; classes take turns."""
    task, fitted, logits, features = warm
    p, labels = probabilities(logits), task.train.labels.tolist()
    unit = features / features.norm(dim=1, keepdim=True)
    sim = (1 + unit @ unit.T) / 2
    tau = float(sim.flatten().quantile(0.8))
    picks: list[int] = []
    for turn in range(COUNT):

        def gain(i):
            u = sum(float(sim[i, s]) * max(p[s]) for s in picks if sim[i, s] > tau)
            return math.tanh(u + max(p[i])) - math.tanh(u)

        picks.append(max((i for i in range(80) if labels[i] == turn % 4 and i not in picks), key=gain))
    assert kept(Prune4ReL(tau=tau, view="plain"), task, fitted) == sorted(int(task.train.index[i]) for i in picks)


def test_prune4rels_options_change_the_selection(warm):
    task, fitted, _, _ = warm
    options = [
        {"tau": 0.9}, {"tau": 0.99}, {"tau": 0.9, "balance": False}, {"tau": 0.9, "confidence": "margin", "balance": False},
        {"metric": "euclidean"}, {"tau": 0.9, "view": "augmented"}, {"tau": 0.9, "view": "plain"},
    ]  # fmt: skip
    assert len({tuple(kept(Prune4ReL(**each), task, fitted)) for each in options}) == len(options)


def test_confidences_by_hand():
    p = torch.tensor([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]], dtype=torch.float64)
    entropy = -sum(q * math.log(q) for q in (0.7, 0.2, 0.1))
    torch.testing.assert_close(confidence(p, "least_confidence"), torch.tensor([0.7, 1.0, 1 / 3], dtype=torch.float64))
    torch.testing.assert_close(confidence(p, "margin"), torch.tensor([0.5, 1.0, 0.0], dtype=torch.float64))
    torch.testing.assert_close(confidence(p, "entropy"), torch.tensor([math.log(3) - entropy, math.log(3), 0.0], dtype=torch.float64))


def test_moderate_keeps_the_middle_ranks(warm):
    task, fitted, _, features = warm
    labels = task.train.labels
    distance = []
    for row, label in zip(features, labels, strict=True):
        own = features[labels == label]
        middle = [sorted(float(value) for value in column) for column in own.T]
        median = [(column[(len(column) - 1) // 2] + column[len(column) // 2]) / 2 for column in middle]
        distance.append(math.dist([float(value) for value in row], median))
    ranked = sorted(range(80), key=lambda i: distance[i])
    assert kept(Moderate(), task, fitted) == sorted(int(task.train.index[i]) for i in ranked[28:52])


def test_k_center_is_farthest_first(warm):
    task, fitted, _, features = warm
    selection = KCenter().select(task, fitted, KEEP, PlainRun())
    first = int(selection.score.argmax())
    picks = [first]
    while len(picks) < COUNT:
        left = [i for i in range(80) if i not in picks]
        picks.append(max(left, key=lambda i: min(float((features[i] - features[s]).norm()) for s in picks)))
    assert selection.index.tolist() == sorted(int(task.train.index[i]) for i in picks)
    assert selection.score.argsort(descending=True, stable=True)[:COUNT].tolist() == picks
    assert set(kept(KCenter(), task, fitted, 0.1)) < set(selection.index.tolist())


def test_herding_follows_the_class_means(warm):
    task, fitted, _, features = warm
    labels = task.train.labels
    found = []
    for label, quota in enumerate(class_quotas(labels, COUNT).tolist()):
        members = (labels == label).nonzero()[:, 0].tolist()
        mean = features[members].mean(0)
        picks: list[int] = []
        for _ in range(quota):
            left = [i for i in members if i not in picks]
            picks.append(min(left, key=lambda i: float((mean - features[[*picks, i]].mean(0)).norm())))
        found += picks
    assert kept(Herding(), task, fitted) == sorted(int(task.train.index[i]) for i in found)


def test_ssp_keeps_samples_far_from_their_centre(warm):
    """Features so clear that there is one clustering: four blobs, and a few samples between them."""
    task, fitted, _, _ = warm
    fitted = Fitted(fitted.model)
    selection = SSP(clusters=1).select(task, fitted, KEEP, PlainRun())
    _, _, _, features = warm
    assert selection.index.tolist() == chosen(task, (features - features.mean(0)).norm(dim=1))
    easy = SSP(clusters=1, prefer="easy").select(task, fitted, KEEP, PlainRun())
    assert easy.index.tolist() == chosen(task, -(features - features.mean(0)).norm(dim=1))
    four = SSP().select(task, fitted, KEEP, PlainRun()).score
    assert float(four.square().sum()) < float(selection.score.square().sum())  # more centres lie nearer
    with pytest.raises(UserError, match="exceeds the number of training samples, 80"):
        SSP(clusters=81).select(task, fitted, KEEP, PlainRun())


def test_forgetting_events_are_counted_batch_by_batch(toys):
    history = ForgettingCounts.start(5, toys.CPU)
    seen = [[1, 0, 0, 1, 0], [0, 0, 1, 0, 1], [1, 0, 0, 1, 1], [0, 0, 1, 1, 0]]
    for right in seen:
        task = toys.make_task(count=5)
        (batch,) = task.train.batches(5)
        wrong = (batch.labels + 1) % 4
        outputs = nn.functional.one_hot(torch.where(torch.tensor(right) == 1, batch.labels, wrong), 4)
        history.update(batch, outputs)
    assert history.forgotten.tolist() == [2, -1, 1, 1, 1]


def test_training_counts_forgetting_as_a_plain_loop_does(toys):
    """From the predictions of the running accuracy: those of the network in train mode, before the step."""
    task, seen = toys.make_task("dropout"), []

    def step(learner, batch, context):
        outputs = learner.forward(batch.inputs)
        seen.append((batch.index.tolist(), (outputs.argmax(1) == batch.labels).tolist()))
        loss = learner.loss(outputs, batch.labels)
        learner.descend(loss, len(batch.labels))
        return learner.report(batch, loss, outputs)

    fitted = SGD(epochs=6, learning_rate=0.1, batch_size=16, schedule="constant").fit_steps(task, PlainRun(), step)
    events, last = dict.fromkeys(range(80), 0), {}
    learnt = set()
    for index, right in seen:
        for position, now in zip(index, right, strict=True):
            events[position] += last.get(position, False) and not now
            last[position] = now
            learnt |= {position} if now else set()
    assert fitted.per_sample[FORGOTTEN].tolist() == [events[position] if position in learnt else -1 for position in range(80)]
    assert max(events.values()) >= 1


def test_forgetting_keeps_the_most_forgotten_and_the_never_learnt(toys):
    task = toys.make_task(count=10)
    table = torch.tensor([0, 3, -1, 1, 0, 2, -1, 0, 0, 5], dtype=torch.int32)
    fitted = Fitted(task.build(0), {FORGOTTEN: table})
    assert kept(Forgetting(), task, fitted, 0.4) == [1, 2, 6, 9]
    assert kept(Forgetting(never_learnt="least"), task, fitted, 0.4) == [1, 3, 5, 9]
    ties = {tuple(kept(Forgetting(), replace(task, seed=seed), fitted, 0.7)) for seed in range(8)}
    assert len(ties) > 1  # chance decides among the three that are kept of those that were never forgotten
    with pytest.raises(UserError, match="finds no count of forgetting events"):
        kept(Forgetting(), task, Fitted(task.build(0)))


def test_forgetting_is_refused_where_no_trainer_counts():
    assert records_forgetting(SGD())
    assert records_forgetting(ELR())
    assert not records_forgetting(MixUp())
    Forgetting().refuse_trainer(ELR())
    with pytest.raises(UserError, match="MixUp keeps none"):
        Forgetting().refuse_trainer(MixUp())


def test_quotas_follow_the_classes_and_add_up():
    labels = torch.tensor([0] * 50 + [1] * 30 + [3] * 19)
    assert class_quotas(labels, 10).tolist() == [5, 3, 0, 2]
    assert class_quotas(labels, 1).tolist() == [1, 0, 0, 0]
    for count in range(1, 100):
        found = class_quotas(labels, count)
        assert int(found.sum()) == count
        assert bool((found <= labels.bincount()).all())
    assert highest(torch.tensor([0.1, 0.5, 0.5, 0.2, 0.9]), 2).tolist() == [4, 1]
    assert sorted(highest(torch.tensor([0.1, 0.5, 0.5, 0.2, 0.9]), 2, torch.tensor([0, 0, 0, 1, 1])).tolist()) == [1, 4]


@pytest.mark.parametrize("pruner", [Prune4ReL(), Margin(), KCenter(), Herding(), SSP()])
def test_regressions_and_fractions_outside_the_range_are_refused(toys, pruner):
    task = toys.make_task(kind="regression")
    with pytest.raises(UserError, match="needs classes, but this task is a regression"):
        kept(pruner, task, Fitted(task.build(0)))
    with pytest.raises(UserError, match="keep_fraction="):
        kept(pruner, toys.make_task(), Fitted(toys.make_task().build(0)), 1.5)


def test_a_diverged_network_is_reported():
    from sweeper.contracts import toys as made

    task = made.make_task()
    model = task.build(0)
    with torch.no_grad():
        model.head.weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="diverged"):
        kept(Margin(), task, Fitted(model))

"""`correct` and `trusted_indices`: equal to trying every alpha by hand, and no trace in the caller's network, loaders and random states."""

import copy
import random
import warnings
from itertools import product

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import CLASSES, network, pairs, refused
from torch import nn
from torch.nn import functional
from torch.utils import data

import sap_core
from sap_core import ALPHA16, SAP, correct, sap_project, sap_tune, trusted_indices
from sap_core.errors import UserError
from sap_core.location import CODE
from sap_core.mcnemar import McNemarTest
from sap_core.run import PlainRun

torch.set_num_threads(1)

# Small sets of images, of which many are trusted.
pytestmark = pytest.mark.filterwarnings("ignore:num_trusted")


def predictions(model, of):
    with torch.no_grad():
        return copy.deepcopy(model).eval()(of.tensors[0]).argmax(1)


def right(model, of):
    return predictions(model, of) == of.tensors[1]


def losses(model, of):
    with torch.no_grad():
        return functional.cross_entropy(copy.deepcopy(model).eval()(of.tensors[0]).double(), of.tensors[1], reduction="none")


def by_hand(model, train, val, alphas, num_trusted):
    """(trusted positions, alpha -> (accuracy, newly right, newly wrong), chosen alpha) with one projection and one pass per alpha."""
    trusted = losses(model, train).argsort(stable=True)[:num_trusted]
    before, found = right(model, val), {}
    for alpha in sorted(set(alphas), reverse=True):
        after = right(sap_project(model, train.tensors[0][trusted], alpha), val)
        found[alpha] = int(after.sum()) / len(after), int((after & ~before).sum()), int((before & ~after).sum())
    best = max(found, key=lambda alpha: (found[alpha][0], alpha))
    return trusted, found, best if found[best][0] > int(before.sum()) / len(before) else None


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 99),
    alphas=st.lists(st.sampled_from([0.5, 1.0, 3.0, 30.0, 300.0, 3e4, 3e6]), min_size=1, max_size=5),
    num_trusted=st.integers(1, 30),
    batch_size=st.sampled_from([None, 1, 7, 29]),
)
def test_it_equals_trying_every_alpha_by_hand(seed, alphas, num_trusted, batch_size):
    model, train, val = network(seed=seed), pairs(30, seed + 1), pairs(40, seed + 2)
    found = correct(model, train, val, alphas, num_trusted, batch_size=batch_size, progress=False)
    trusted, scores, chosen = by_hand(model, train, val, alphas, num_trusted)
    assert torch.equal(found.trusted_indices, trusted)
    assert {a: (found.scores[a], found.newly_right[a], found.newly_wrong[a]) for a in found.scores} == scores
    assert list(found.scores) == list(scores)
    assert (found.alpha, found.improved, found.num_settings) == (chosen, chosen is not None, len(set(alphas)))
    assert found.unmodified == int(right(model, val).sum()) / 40
    assert found.trusted_per_class == tuple(torch.bincount(train.tensors[1][trusted], minlength=CLASSES).tolist())
    test = McNemarTest(scores[found.best][2], scores[found.best][1], 40, len(set(alphas)))
    assert (found.p_value, found.significant) == (test.p_value, test.significant)
    wanted = model if chosen is None else sap_project(model, train.tensors[0][trusted], chosen)
    for name, value in found.model.state_dict().items():
        assert torch.allclose(value, wanted.state_dict()[name], atol=1e-9), name


def test_the_alphas_by_default_are_the_papers_space():
    space = yaml.safe_load((CODE / "conf/method/sap.yaml").read_text())["spaces"]["alpha16"]["alpha"]["grid"]
    assert list(ALPHA16) == space
    found = correct(network(), pairs(30), pairs(20), num_trusted=10, progress=False)
    assert list(found.scores) == list(ALPHA16)
    _, scores, chosen = by_hand(network(), pairs(30), pairs(20), ALPHA16, 10)
    assert found.scores == {alpha: score for alpha, (score, _, _) in scores.items()}
    assert found.alpha == chosen


def test_it_equals_sap_in_a_sweep(toys):
    """The same trusted samples and, with a basis for many alphas, the same bits."""
    task = toys.make_task()
    model = task.build(0).eval()
    settings = [SAP(alpha=alpha, num_trusted=20, batch_size=8) for alpha in ALPHA16]
    run = PlainRun(len(settings))
    networks = {settings[which].alpha: copy.deepcopy(each) for which, each in SAP.correct(settings, model, task, run)}
    (batch,) = task.train.batches(len(task.train))
    (val,) = task.val.batches(len(task.val))
    train, held_out = (data.TensorDataset(each.inputs, each.labels) for each in (batch, val))
    found = correct(model, train, held_out, num_trusted=20, batch_size=8, progress=False)
    assert torch.equal(batch.index[found.trusted_indices], run.trusted_sets[0])
    assert found.scores == {alpha: int(right(each, held_out).sum()) / len(held_out) for alpha, each in networks.items()}
    if found.improved:
        assert all(torch.equal(value, networks[found.alpha].state_dict()[name]) for name, value in found.model.state_dict().items())


def improving(dtype=torch.float64):
    """A network, training and validation data for which alpha=1 is right about everything, and the unmodified network is not."""
    model, train, val = network(dtype).eval(), pairs(60, dtype=dtype), pairs(60, 5, dtype)
    trusted = losses(model, train).argsort(stable=True)[:20]
    val.tensors = (val.tensors[0], predictions(sap_project(model, train.tensors[0][trusted], 1.0), val))
    return model, train, val


def test_the_best_alpha_is_returned_and_tested():
    model, train, val = improving()
    found = correct(model, train, val, [1.0, 1e9], 20, progress=False)
    assert (found.alpha, found.scores[1.0], found.improved) == (1.0, 1.0, True)
    assert right(found.model, val).all()
    assert found.newly_right[1.0] == 60 - int(right(model, val).sum()) > 0
    assert found.newly_wrong[1.0] == 0
    assert found.p_value == pytest.approx(2 * 0.5 ** found.newly_right[1.0])
    assert found.significant


def test_without_a_gain_the_result_is_a_copy_of_the_unmodified_network():
    model, val = network(), pairs(40)
    val.tensors = (val.tensors[0], predictions(model, val))
    found = correct(model, pairs(30), val, [1.0, 3e4], 10, progress=False)
    assert (found.alpha, found.improved, found.significant, found.p_value) == (None, False, False, 1.0)
    assert found.model is not model
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in found.model.state_dict().items())
    found.model[0].weight.data.zero_()
    assert model[0].weight.any()


def test_sap_tune_finds_the_same():
    model, train, val = improving()
    found = correct(model, train, val, [1.0, 300.0, 1e9], 20, progress=False)
    tuned = sap_tune(model, train.tensors[0][found.trusted_indices], *val.tensors, [1.0, 300.0, 1e9])
    assert (tuned.alpha, tuned.scores, tuned.unmodified) == (found.alpha, found.scores, found.unmodified)


def test_classes_are_balanced_on_request():
    model, train = network(), pairs(90)
    plain, balanced = (trusted_indices(model, train, 30, class_balanced=each, progress=False) for each in (False, True))
    assert torch.equal(plain, losses(model, train).argsort(stable=True)[:30])
    assert torch.bincount(train.tensors[1][balanced]).tolist() == [10, 10, 10]
    loss = losses(model, train)
    for label in range(CLASSES):
        own = torch.nonzero(train.tensors[1] == label).flatten()
        assert set(balanced[train.tensors[1][balanced] == label].tolist()) == set(own[loss[own].argsort()[:10]].tolist())
    found = correct(model, train, pairs(20), [30.0], 30, class_balanced=True, progress=False)
    assert torch.equal(found.trusted_indices, balanced)
    assert found.trusted_per_class == (10, 10, 10)


class Drawing(nn.Module):
    """Draws from every global generator in forward, as a careless network would."""

    def __init__(self):
        super().__init__()
        self.body = network(torch.float32)

    def forward(self, x):
        torch.rand(1), random.random(), np.random.rand()
        return self.body(x)


def test_the_given_network_and_the_random_states_are_as_before():
    model, train, val = Drawing().train(), pairs(30, dtype=torch.float32), pairs(20, dtype=torch.float32)
    model.body[1].eval()
    model.body[0].weight.requires_grad_(False)
    seen = []
    hook = model.register_forward_hook(lambda module, args, outputs: seen.append(len(outputs)))
    model(train.tensors[0]).sum().backward()
    gradients = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
    state = copy.deepcopy(model.state_dict())
    flags = [(module.training, [p.requires_grad for p in module.parameters()]) for module in model.modules()]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    for loader in (train, data.DataLoader(train, 8, shuffle=True)):
        found = correct(model, loader, val, [1.0, 30.0], 10, progress=False)
        trusted_indices(model, loader, 5, progress=False)
        assert torch.equal(torch.get_rng_state(), states[0])
        assert random.getstate() == states[1]
        assert np.array_equal(np.random.get_state()[1], states[2])
    assert [(module.training, [p.requires_grad for p in module.parameters()]) for module in model.modules()] == flags
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(gradients[name], each.grad) for name, each in model.named_parameters() if name in gradients)
    seen.clear()
    model(train.tensors[0])
    assert seen == [30]
    hook.remove()
    model(train.tensors[0])
    assert seen == [30]
    assert [module.training for module in found.model.modules()] == [training for training, _ in flags]
    assert not found.model.body[0].weight.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_corrected_network_keeps_its_precision(dtype):
    model, train, val = network(dtype), pairs(40, dtype=torch.float32), pairs(30, dtype=torch.float32)
    found = correct(model, train, val, [1.0, 3e4], 20, progress=False)
    assert {each.dtype for each in found.model.parameters()} == {dtype}
    converted = data.TensorDataset(train.tensors[0].to(dtype), train.tensors[1])
    assert torch.equal(found.trusted_indices, losses(model, converted).argsort(stable=True)[:20])
    for alpha, score in found.scores.items():
        corrected = sap_project(model, converted.tensors[0][found.trusted_indices], alpha)
        assert score == int(right(corrected, data.TensorDataset(val.tensors[0].to(dtype), val.tensors[1])).sum()) / 30


class Recording(nn.Module):
    """Says on which device and in which precision its inputs come."""

    def __init__(self, seen):
        super().__init__()
        self.body, self.seen = network(torch.float32), seen

    def forward(self, x):
        self.seen.append((x.device.type, x.dtype, len(x)))
        return self.body(x)

    def __deepcopy__(self, memo):
        copied = Recording(self.seen)
        copied.load_state_dict(self.state_dict())
        return copied


def test_batches_go_to_the_networks_device_and_precision_and_labels_come_from_any():
    seen = []
    correct(Recording(seen), pairs(33), data.DataLoader(pairs(33), 8), [3.0], 17, batch_size=16, progress=False)
    assert {entry[:2] for entry in seen} == {("cpu", torch.float32)}
    # Two and eight images show how the network works; a single image at the end joins the batch before it.
    assert {entry[2] for entry in seen} == {2, 8, 16, 17}


def test_a_network_whose_outputs_are_nan_predicts_nothing():
    class Overflowing(nn.Module):
        """NaN for the first class wherever the weights are not the given ones."""

        def __init__(self):
            super().__init__()
            self.body = network()
            self.register_buffer("norm", self.body[0].weight.norm().detach())

        def forward(self, x):
            outputs = self.body(x)
            same = torch.isclose(self.body[0].weight.norm(), self.norm, rtol=1e-12)
            return outputs if same else torch.cat([outputs[:, :1] * float("nan"), outputs[:, 1:]], 1)

    val = pairs(20)
    val.tensors = (val.tensors[0], torch.zeros(20, dtype=torch.int64))
    assert correct(Overflowing(), pairs(30), val, [3.0], 10, progress=False).scores == {3.0: 0.0}


def test_large_validation_sets_are_read_again_for_each_alpha(monkeypatch):
    reads = []

    class Counting(data.Dataset):
        def __init__(self, of):
            self.of = of

        def __len__(self):
            return len(self.of)

        def __getitem__(self, index):
            reads.append(index)
            return self.of[index]

    wanted = correct(network(), pairs(30), Counting(pairs(20)), [1.0, 3.0], 10, progress=False)
    once = len(reads)
    monkeypatch.setattr("sap_core.sap.correct.MAX_KEPT_VALUES", 20 * 128 - 1)
    found = correct(network(), pairs(30), Counting(pairs(20)), [1.0, 3.0], 10, progress=False)
    assert len(reads) - once == once + 2 * 20
    assert found.scores == wanted.scores


def test_training_images_are_read_once_and_trusted_ones_again():
    reads = []

    class Counting(data.TensorDataset):
        def __getitem__(self, index):
            reads.append(index)
            return super().__getitem__(index)

    correct(network(), Counting(*pairs(30).tensors), pairs(20), [1.0, 3.0], 10, progress=False)
    # The first eight are read twice to find random augmentation.
    assert len(reads) == 2 * 8 + 30 + 10


@pytest.mark.parametrize(
    ("alphas", "said"),
    [
        ([], "no alphas"), (30000.0, r"several numbers, such as \[30000\.0"), ("alpha16", "ALPHA16"), ([0.0], "alpha is 0"),
        ([float("nan")], "alpha is nan"), (["x"], "'x', which is no number"), ([None], "None, which is no number"), (None, "ALPHA16"),
    ],
)  # fmt: skip
def test_bad_alphas_are_refused(alphas, said):
    refused(said, network(), pairs(30), pairs(20), alphas, 10)


def test_alphas_may_come_in_any_container():
    for alphas in (np.array([1.0, 3.0]), torch.tensor([1.0, 3.0]), {1, 3}, iter((1, 3, 3.0)), range(1, 4, 2)):
        assert list(correct(network(), pairs(30), pairs(20), alphas, 10, progress=False).scores) == [3.0, 1.0]


def test_bad_networks_are_refused():
    refused("order is model, train, val", pairs(30), pairs(30), pairs(20))
    refused("not dict", {}, pairs(30), pairs(20))
    refused("nothing to correct", nn.Sequential(nn.Flatten()), pairs(30), pairs(20), [3.0], 10)
    refused("1 output", nn.Sequential(nn.Flatten(), nn.Linear(128, 1)).double(), pairs(30), pairs(20), [3.0], 10)
    refused(r"cannot process training images", nn.Linear(5, 2).double(), pairs(30), pairs(20), [3.0], 10)


@pytest.mark.parametrize(("count", "said"), [(31, "only 30 training samples"), (0, "at least 1"), (2.5, "integer"), (True, "integer")])
def test_bad_numbers_of_trusted_images_are_refused(count, said):
    refused(said, network(), pairs(30), pairs(20), [3.0], count)
    with pytest.raises(UserError, match=said):
        trusted_indices(network(), pairs(30), count, progress=False)


def test_validation_images_that_are_training_images_are_warned_of():
    train = pairs(30)
    for val, shared in ((train, 30), (data.Subset(train, [3, 4]), 2), (data.Subset(data.Subset(train, range(10)), [9]), 1)):
        with pytest.warns(UserWarning, match=f"{shared} of the {len(val)} validation images are training images"):
            correct(network(), train, val, [3.0], 5, progress=False)
    parts = data.random_split(train, [20, 10], generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        correct(network(), *parts, [3.0], 4, progress=False)


@pytest.mark.filterwarnings("default")
def test_more_trusted_images_than_a_fifth_are_warned_of():
    with pytest.warns(UserWarning, match=r"num_trusted=30 of 30 training images trusts .*; num_trusted=6 is a fifth of them"):
        correct(network(), pairs(30), pairs(20), [3.0], 30, progress=False)


def test_labels_outside_the_outputs_are_refused_by_position():
    train = pairs(30)
    train.tensors[1][21] = 7
    refused("training labels must be from 0 to 2.*label 21 is 7", network(), train, pairs(20), [3.0], 10)
    refused("training labels must be from 0 to 2.*label 21 is 7", network(), data.DataLoader(train, 4, shuffle=True), pairs(20), [3.0], 10)
    refused("validation labels must be from 0 to 2.*label 21 is 7", network(), pairs(30), train, [3.0], 10)


def test_the_position_of_a_bad_image_is_that_in_the_data_set():
    val = pairs(20)
    val.tensors[0][13] = float("nan")
    for part in (val, data.DataLoader(val, 3), data.DataLoader(val, 2, sampler=data.SubsetRandomSampler([13, 17, 2, 1]))):
        refused("validation images contain NaN.*the first is image 13", network(), pairs(30), part, [3.0], 10)


def test_diverged_networks_are_reported():
    model = network()
    model[0].bias.data[0] = float("nan")
    with pytest.raises(FloatingPointError, match="diverged"):
        correct(model, pairs(30), pairs(20), [3.0], 10, progress=False)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", dtype=torch.bfloat16)])
def test_modes_of_the_caller_do_not_matter(mode):
    model, train, val = improving(torch.float32)
    wanted = correct(model, train, val, [1.0, 3e4], 20, progress=False)
    with mode():
        found = correct(model, train, val, [1.0, 3e4], 20, progress=False)
        projected = sap_project(model, train.tensors[0][found.trusted_indices], 1.0)
        assert torch.equal(trusted_indices(model, train, 20, progress=False), found.trusted_indices)
        assert sap_tune(model, train.tensors[0][found.trusted_indices], *val.tensors, [1.0, 3e4]).scores == wanted.scores
    assert found.scores == wanted.scores
    found.model(train.tensors[0]).sum().backward()
    projected(train.tensors[0]).sum().backward()


def test_weights_are_left_on_request():
    model, train, val = improving()
    found = correct(model, train, val, [1.0], 20, leave=["5.*"], progress=False)
    assert torch.equal(found.model[5].weight, model[5].weight)
    refused("no parameter of the network matches 'head'", model, train, val, [1.0], 20, leave=["head"])


def test_public_names():
    assert {"correct", "trusted_indices", "ALPHA16", "UserError"} <= set(sap_core.__all__)
    assert sap_core.UserError is UserError


def test_scores_of_trust_are_those_of_sap(toys):
    """`trusted_indices` ranks like `SAP.rank`, ties included."""
    task, run = toys.make_task(), PlainRun()
    model = task.build(0).eval()
    order = SAP(num_trusted=1).rank(task.train, model, task, run)
    (batch,) = task.train.batches(len(task.train))
    assert torch.equal(trusted_indices(model, data.TensorDataset(batch.inputs, batch.labels), len(order), progress=False), order)


@pytest.mark.parametrize(("seed", "balanced"), [*product(range(3), (False, True))])
def test_more_trusted_images_contain_fewer(seed, balanced):
    few, many = (trusted_indices(network(seed=seed), pairs(40, seed), n, class_balanced=balanced, progress=False) for n in (7, 25))
    assert torch.equal(many[:7], few)

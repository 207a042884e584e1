"""`correct` with networks that return structures, are compiled or wrapped, or have batch norm without running statistics."""

from dataclasses import dataclass

import pytest
import torch
from small_networks import network, pairs, refused
from torch import nn

from sap_core import correct, sap_tune, trusted_indices

torch.set_num_threads(1)

# Small sets of images, of which many are trusted.
pytestmark = pytest.mark.filterwarnings("ignore:num_trusted")


class Answering(nn.Module):
    """Returns its logits in a structure."""

    def __init__(self, answer):
        super().__init__()
        self.body, self.answer = network(), answer

    def forward(self, x):
        return self.answer(self.body(x))


@dataclass
class Output:
    loss: torch.Tensor | None
    logits: torch.Tensor


@pytest.mark.parametrize(
    "answer",
    [
        lambda logits: (logits, -logits),
        lambda logits: [logits],
        lambda logits: {"features": logits.repeat(1, 4), "logits": logits},
        lambda logits: Output(None, logits),
        lambda logits: {"out": logits, "map": logits[:, :, None]},
    ],
)
def test_logits_are_found_in_what_the_network_returns(answer):
    wanted = correct(network(), pairs(30), pairs(20), [1.0, 3e4], 10, progress=False)
    found = correct(Answering(answer), pairs(30), pairs(20), [1.0, 3e4], 10, progress=False)
    assert (found.scores, found.alpha, found.unmodified) == (wanted.scores, wanted.alpha, wanted.unmodified)
    assert torch.equal(found.trusted_indices, wanted.trusted_indices)
    tuned = sap_tune(Answering(answer), pairs(30).tensors[0][found.trusted_indices], *pairs(20).tensors, [1.0, 3e4])
    assert tuned.scores == wanted.scores


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda logits: (logits.repeat(1, 4), logits), r"shapes \(8, 12\), \(8, 3\); pass the number of classes as classes="),
        (lambda logits: {"a": logits[0]}, r"returns a dict with tensors of shapes \(3,\)"),
        (lambda logits: None, "NoneType"),
    ],
)
def test_other_answers_are_refused(answer, said):
    refused(said, Answering(answer), pairs(30), pairs(20), [3.0], 10)


def test_the_number_of_classes_tells_logits_from_features():
    wanted = correct(network(), pairs(30), pairs(20), [1.0, 3e4], 10, progress=False)
    model = Answering(lambda logits: (logits.repeat(1, 4), logits))
    found = correct(model, pairs(30), pairs(20), [1.0, 3e4], 10, classes=3, progress=False)
    assert found.scores == wanted.scores
    assert torch.equal(trusted_indices(model, pairs(30), 10, classes=3, progress=False), wanted.trusted_indices)
    refused(r"logits of shape \(8, 5\)", model, pairs(30), pairs(20), [1.0], 10, classes=5)


def test_norms_without_running_statistics_never_meet_a_single_image():
    layers = (
        nn.Conv2d(2, 6, 3, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.BatchNorm2d(6, track_running_stats=False),
        nn.Flatten(),
        nn.Linear(6, 3),
    )
    model = nn.Sequential(*layers).double()
    assert correct(model, pairs(9), pairs(5), [3.0], 5, batch_size=4, progress=False).num_val == 5
    refused("batch norm '2' has no running statistics", model, pairs(9), pairs(5), [3.0], 1, batch_size=4)
    refused("batch norm '2' has no running statistics", model, pairs(9), pairs(5), [3.0], 5, batch_size=1)
    refused("batch norm '2' has no running statistics", model, pairs(9), pairs(1), [3.0], 5)


@pytest.mark.slow
def test_compiled_networks_are_unwrapped():
    model = network()
    wanted = correct(model, pairs(30), pairs(20), [1.0, 3e4], 10, progress=False)
    found = correct(torch.compile(model), pairs(30), pairs(20), [1.0, 3e4], 10, progress=False)
    assert found.scores == wanted.scores
    assert type(found.model) is nn.Sequential


def test_networks_whose_copies_compute_with_their_weights_are_refused():
    model = network()
    body = list(model)
    model.forward = lambda x: nn.Sequential(*body)(x)
    refused("copy of the network", model, pairs(30), pairs(20), [3.0], 10)

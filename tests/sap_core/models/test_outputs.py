"""Which tensor in what a network returns is the logits."""

from __future__ import annotations

import copy
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from sap_core.errors import UserError
from sap_core.models.outputs import logits_of, returning_logits

N, C = 3, 4
LOGITS, FEATURES = torch.arange(12.0).reshape(N, C), torch.ones(N, 7)
Named = namedtuple("Named", "aux logits")


@dataclass
class Answer:
    features: Tensor
    scores: Tensor
    loss: float = 0.0


class ModelOutput(OrderedDict):
    """As Hugging Face's: a mapping whose keys are attributes, too."""

    @property
    def logits(self):
        return self["logits"]


@pytest.mark.parametrize(
    "outputs",
    [
        LOGITS,
        (LOGITS, LOGITS + 1),  # an auxiliary head follows
        [FEATURES, LOGITS],
        (torch.ones(()), LOGITS),  # a loss comes first
        (torch.ones(N, C, dtype=torch.int64), LOGITS),
        {"logits": LOGITS, "hidden_states": (FEATURES,)},
        {"aux": LOGITS + 1, "logits": LOGITS},
        OrderedDict(features=FEATURES, out=LOGITS),
        ModelOutput(loss=torch.ones(()), logits=LOGITS),
        Named(LOGITS + 1, LOGITS),
        Answer(FEATURES, LOGITS),
        SimpleNamespace(features=FEATURES, scores=LOGITS),
        ((FEATURES, (LOGITS,)), None),
        (None, {"head": LOGITS}),
        {"logits": None, "prediction": LOGITS},
        LOGITS.half(),
    ],
)
def test_logits_or_the_first_matrix_of_that_shape(outputs):
    assert torch.equal(logits_of(outputs, N, C).float(), LOGITS)


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        (FEATURES, r"a tensor of shape \(3, 7\)"),
        (LOGITS.mT, r"\(4, 3\)"),
        (LOGITS[None], r"\(1, 3, 4\)"),
        (torch.ones(N), r"\(3,\)"),
        (LOGITS.long(), "int64"),
        ({"logits": FEATURES, "features": LOGITS}, r"a dict whose logits have the shape \(3, 7\)"),
        ((FEATURES, FEATURES), r"a tuple with tensors of shapes \(3, 7\), \(3, 7\)"),
        (None, "NoneType with no tensor"),
        ("text", "str with no tensor"),
        ((), "tuple with no tensor"),
    ],
)
def test_anything_else_is_one_sentence_with_the_shapes(outputs, said):
    with pytest.raises(
        UserError, match=rf"must return logits of shape \(3, 4\) for 3 images of 4 classes, but it returns .*{said}"
    ) as error:
        logits_of(outputs, N, C)
    assert "\n" not in str(error.value)


def test_one_output_needs_no_axis():
    assert logits_of(torch.ones(N), N, 1).shape == (N,)
    assert logits_of(torch.ones(N, 1), N, 1).shape == (N, 1)


def test_without_a_number_of_classes_the_answer_must_be_unambiguous():
    assert logits_of(LOGITS, N, None) is LOGITS
    assert logits_of((LOGITS, LOGITS + 1), N, None) is LOGITS
    assert logits_of({"features": FEATURES, "logits": LOGITS}, N, None) is LOGITS
    with pytest.raises(UserError, match=r"\(3, 7\), \(3, 4\)"):
        logits_of((FEATURES, LOGITS), N, None)


@pytest.mark.parametrize(("network", "side"), [("googlenet", 64), ("inception_v3", 299)])
@pytest.mark.slow
def test_auxiliary_heads_of_torchvision(network, side):
    from torchvision.models import get_model

    model = get_model(network, weights=None, num_classes=C, init_weights=False)
    with returning_logits(model, C):
        for training in (True, False):
            assert model.train(training)(torch.rand(N, 3, side, side)).shape == (N, C)
    assert not isinstance(model.train()(torch.rand(N, 3, side, side)), Tensor)


def test_copies_obey_the_rule_as_well():
    model = nn.Linear(2, C)
    model.register_forward_hook(lambda module, args, output: {"logits": output})
    with returning_logits(model, C):
        twin = copy.deepcopy(model)
        assert twin(torch.ones(N, 2)).shape == model(inputs := torch.ones(N, 2)).shape == (N, C)
    assert isinstance(model(inputs), dict)

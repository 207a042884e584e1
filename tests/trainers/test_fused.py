"""FusedSGD against torch's SGD, for all memory layouts and after loading a checkpoint."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sap_core.checkpoint import load_state as from_disk
from sap_core.checkpoint import save_state as to_disk
from trainers import optim

LAYOUTS = (torch.contiguous_format, torch.channels_last)
layouts = st.sampled_from(LAYOUTS)


def network(layout):
    torch.manual_seed(0)
    convolutions = (nn.Conv2d(3, 5, 3), nn.Conv2d(5, 4, 1), nn.Conv2d(1, 6, 3), nn.Conv2d(6, 2, (1, 3), groups=2))
    return nn.ModuleList([*convolutions, nn.Linear(4, 3), nn.BatchNorm2d(2)]).to(memory_format=layout)


def give_gradients(model, layout, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        gradient = torch.randn(parameter.shape, generator=generator)
        parameter.grad = gradient.contiguous(memory_format=layout) if gradient.ndim == 4 else gradient


def assert_near(one, other):
    for (name, mine), (_, theirs) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6, msg=name)


@given(layouts, layouts, layouts, st.sampled_from([0.0, 0.9]), st.booleans(), st.sampled_from([0.0, 0.01]))
def test_equals_torchs_step_for_all_layouts(weights, gradients, momenta, momentum, nesterov, weight_decay):
    plain, fused = network(torch.contiguous_format), network(weights)
    settings = (0.1, momentum, weight_decay, nesterov and momentum > 0)
    one, other = optim.sgd(plain.parameters(), *settings), optim.sgd(fused.parameters(), *settings, fused=True)
    for seed in range(3):
        give_gradients(plain, torch.contiguous_format, seed)
        give_gradients(fused, gradients, seed)
        one.step()
        other.step()
        for parameter in fused.parameters():
            if momentum and parameter.ndim == 4:
                buffer = other.state[parameter]["momentum_buffer"]
                other.state[parameter]["momentum_buffer"] = buffer.contiguous(memory_format=momenta)
    assert_near(fused, plain)


def test_weights_without_gradients_stay_and_a_closure_is_asked():
    model = network(torch.contiguous_format)
    before = copy.deepcopy(model)
    optimiser = optim.sgd(model.parameters(), 0.1, 0.9, 0.01, fused=True)
    assert optimiser.step(lambda: torch.is_grad_enabled()) is True
    assert_near(model, before)
    model[0].weight.grad = torch.ones_like(model[0].weight)
    optimiser.step()
    assert not torch.equal(model[0].weight, before[0].weight)
    assert torch.equal(model[1].weight, before[1].weight)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_a_state_that_was_on_disk_goes_on_bit_for_bit(kind, fused, layout, tmp_path):
    """Files hold tensors contiguous; torch's fused steps on a CPU would pair them with the wrong weights."""

    def optimiser_of(model):
        if kind == "adam":
            return optim.adam(model.parameters(), 0.1, 0.9, 0.01, fused=fused)
        return optim.sgd(model.parameters(), 0.1, 0.9, 0.01, True, fused=fused)

    whole, cut = network(layout), network(layout)
    one, other = optimiser_of(whole), optimiser_of(cut)
    for model, optimiser in ((whole, one), (cut, other)):
        give_gradients(model, layout, 0)
        optimiser.step()
    to_disk(tmp_path / "state.safetensors", {"optimiser": optim.state_of(other), "model": cut.state_dict()})
    state = from_disk(tmp_path / "state.safetensors")
    again = network(layout)
    again.load_state_dict(state["model"])
    resumed = optimiser_of(again)
    optim.load_state(resumed, state["optimiser"])
    for seed in (1, 2):
        for model, optimiser in ((whole, one), (again, resumed)):
            give_gradients(model, layout, seed)
            optimiser.step()
    for mine, theirs in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, theirs)

"""Seeding of torch's global generators."""

from __future__ import annotations

import pytest
import torch

from sap_core.seeding import stream


def test_scope_seeds_the_global_generator_by_its_key_and_restores_it():
    rng = stream(3, "train", 1)
    torch.manual_seed(9)
    expected_after = torch.rand(2)
    torch.manual_seed(9)
    with rng.scope():
        inside = torch.rand(4)
    assert torch.equal(torch.rand(2), expected_after)
    assert torch.equal(inside, torch.rand(4, generator=rng.generator()))
    with pytest.raises(KeyError), rng.scope():
        raise KeyError
    with rng.scope():
        assert torch.equal(torch.rand(4), inside)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_scope_on_a_gpu_restores_its_generator_and_a_scope_on_the_cpu_does_not_change_it():
    rng = stream(3, "train", 1)
    before = torch.cuda.get_rng_state()
    with rng.scope():
        pass
    assert torch.equal(before, torch.cuda.get_rng_state())
    with rng.scope("cuda"):
        inside = torch.rand(4, device="cuda")
    assert torch.equal(before, torch.cuda.get_rng_state())
    with rng.scope("cuda"):
        assert torch.equal(inside, torch.rand(4, device="cuda"))

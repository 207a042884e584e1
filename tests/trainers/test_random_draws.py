from __future__ import annotations

import pytest
import torch

from sap_core.seeding import stream
from trainers import random_draws

RNG = stream(1, "train", 4, "step", 2)


def test_draws_belong_to_their_stream_and_keep_the_global_generator():
    before = torch.random.get_rng_state()
    weights = torch.tensor([1.0, 2.0, 0.0, 5.0])
    for draw in (
        lambda rng: random_draws.beta(rng, 0.2, 6),
        lambda rng: random_draws.coins(rng, 60),
        lambda rng: random_draws.choices(rng, weights, 60),
    ):
        assert torch.equal(draw(RNG), draw(RNG))
        assert not torch.equal(draw(RNG), draw(RNG.child("other")))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_beta_has_its_moments(alpha):
    drawn = random_draws.beta(RNG, alpha, 20_000)
    assert drawn.dtype == torch.float32
    assert 0 <= float(drawn.min()) <= float(drawn.max()) <= 1
    assert float(drawn.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(drawn.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


def test_coins_are_fair_and_choices_go_by_weight():
    assert float(random_draws.coins(RNG, 20_000).double().mean()) == pytest.approx(0.5, abs=0.02)
    counts = torch.bincount(random_draws.choices(RNG, torch.tensor([1.0, 3.0, 0.0, 4.0]), 40_000), minlength=4) / 40_000
    torch.testing.assert_close(counts, torch.tensor([0.125, 0.375, 0.0, 0.5]), rtol=0, atol=0.02)

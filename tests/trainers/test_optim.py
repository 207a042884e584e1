from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR, ReduceLROnPlateau, StepLR

from sap_core.errors import UserError
from trainers import optim


def torch_rates(make_scheduler, epochs, metric=False):
    """Rates of torch's scheduler for epochs 1, 2, ..."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = make_scheduler(optimiser)
    rates = []
    for epoch in range(epochs):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step(1000.0 - epoch) if metric else scheduler.step()
    return rates


def test_halve_every_11_is_the_released_scheduler_on_a_falling_loss():
    expected = torch_rates(lambda o: ReduceLROnPlateau(o, mode="max", factor=0.5), 150, metric=True)
    assert [optim.halve_every_11(0.1, epoch) for epoch in range(1, 151)] == pytest.approx(expected, rel=1e-12)


def test_step_and_cosine_are_torchs():
    expected = torch_rates(lambda o: MultiStepLR(o, [3, 5, 9], 0.2), 12)
    assert [optim.step(0.1, epoch, (3, 5, 9), 0.2) for epoch in range(1, 13)] == pytest.approx(expected, rel=1e-12)
    expected = torch_rates(lambda o: CosineAnnealingLR(o, 20), 20)
    assert [optim.cosine(0.1, epoch, 20) for epoch in range(1, 21)] == pytest.approx(expected, rel=1e-9)


def test_a_decay_acts_strictly_after_its_epoch():
    assert optim.step(1.0, 3, (3,), 0.1) == 1.0
    assert optim.step(1.0, 4, (3,), 0.1) == 0.1


@pytest.mark.parametrize("schedule", [name for name in optim.SCHEDULES if name != "plateau"])
def test_every_named_schedule_is_served_and_starts_at_the_base(schedule):
    assert optim.rate_at(schedule, 0.3, 1, 10, (4,), 0.5) == pytest.approx(0.3)


def test_linear_is_co_teachings_plan():
    """Its released code, epochs from 0: the full rate before `start`, then (n - i) / (n - start) of it."""
    count, start = 20, 8
    plan = [0.1 if i < start else (count - i) / (count - start) * 0.1 for i in range(count)]
    assert [optim.linear(0.1, epoch, count, start) for epoch in range(1, count + 1)] == pytest.approx(plan, rel=1e-12)


def test_plateau_is_no_function_of_the_epoch():
    with pytest.raises(ValueError, match="plateau"):
        optim.rate_at("plateau", 0.3, 1, 10, (), 0.5)


def test_decay_every_equals_torchs_step_lr():
    expected = torch_rates(lambda o: StepLR(o, 4, 0.5), 14)
    assert [optim.rate_at("step", 0.1, epoch, 14, (), 0.5, 4) for epoch in range(1, 15)] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"schedule": "step"}, r"schedule=step needs either decay_epochs .* or decay_every"),
        ({"schedule": "step", "decay_epochs": (3,), "decay_every": 2}, r"needs either decay_epochs .* or decay_every"),
        ({"schedule": "plateau"}, r"schedule=plateau needs plateau_patience"),
        ({"schedule": "cosine", "decay_epochs": (3,)}, r"require schedule=step, but schedule=cosine"),
        ({"schedule": "plateau", "plateau_patience": 3, "decay_every": 2}, r"require schedule=step, but schedule=plateau"),
        ({"schedule": "constant", "plateau_patience": 3}, r"requires schedule=plateau, but schedule=constant"),
        ({"schedule": "plateau", "plateau_patience": 0}, r"plateau_patience=0 is too small"),
        ({"schedule": "linear"}, r"schedule=linear require each other, but schedule=linear and decay_after=null; set both or neither"),
        ({"schedule": "cosine", "decay_after": 0}, r"require each other, but schedule=cosine and decay_after=0; set both or neither"),
        ({"schedule": "linear", "decay_after": -1}, r"decay_after=-1 is too small"),
        ({"schedule": "step", "decay_every": 0}, r"decay_every=0 is too small"),
        ({"schedule": "step", "decay_epochs": (4, 0)}, r"decay_epochs=0 is too small"),
    ],
)
def test_a_schedule_has_its_own_options_and_no_other(given, message):
    with pytest.raises(UserError, match=message):
        optim.check_schedule(where="trainer", **given)


def test_an_unknown_schedule_is_refused_with_the_near_and_all_names():
    with pytest.raises(UserError, match=r"unknown schedule 'cosin'.*did you mean 'cosine'.*halve_every_11"):
        optim.check_schedule("cosin", "trainer 'x'")


def quadratic_steps(parameters, optimiser, count):
    for _ in range(count):
        optim.descend(sum((p**2).sum() for p in parameters), optimiser)


@pytest.mark.parametrize("make", [lambda p: optim.sgd(p, 0.1, 0.9, 1e-3, True), lambda p: torch.optim.Adam(p, lr=0.1)])
def test_state_moves_to_another_optimiser_and_is_a_copy(toys, make):
    ours = [torch.nn.Parameter(torch.arange(3.0) + k) for k in range(2)]
    optimiser = make(ours)
    quadratic_steps(ours, optimiser, 3)
    state = optim.state_of(optimiser)
    toys.assert_plain(state)
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    other = make(theirs)
    optim.load_state(other, state)
    quadratic_steps(ours, optimiser, 2)
    quadratic_steps(theirs, other, 2)
    for p, q in zip(ours, theirs, strict=True):
        assert torch.equal(p, q)


def test_frozen_parameters_are_left_to_themselves():
    frozen = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    optimiser = optim.sgd([frozen, torch.nn.Parameter(torch.ones(2))], 0.1, 0.9, 0.1)
    assert len(optimiser.param_groups[0]["params"]) == 1

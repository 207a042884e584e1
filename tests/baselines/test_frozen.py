"""Frozen parameters (requires_grad=False) stay as they are in every method and trainer, and a network of nothing else is refused."""

from __future__ import annotations

from dataclasses import replace

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
from baselines.scrub import SCRUB
from baselines.scrub_steps import SCRUBSteps
from baselines.ssd import SSD
from sap_core.errors import UserError
from sap_core.run import PlainRun
from trainers.elr_plus import ELRPlus
from trainers.sam import SAM
from trainers.sgd import SGD

SIZES = {"num_retain": 24, "num_forget": 10}
METHODS = [
    SSD(selection=1.0, dampening=0.5, batch_size=8, **SIZES),
    Fisher(noise=1e-4, num_retain=8),
    SalUn(epochs=1, forget_batch=8, retain_batch=8, **SIZES),
    SCRUB(epochs=1, msteps=1, **SIZES),
    SCRUBSteps(steps=3, msteps=1, batch_size=8, **SIZES),
    NegGrad(epochs=1, **SIZES),
    Amnesiac(epochs=1, **SIZES),
    BadTeacher(epochs=1, **SIZES),
    Finetune(epochs=1, num_retain=24),
    CFk(k=2, epochs=1, num_retain=24),
    EUk(k=2, epochs=1, num_retain=24),
    Retrain(recipe=SGD(epochs=1), num_retain=24),
]
TRAINERS = [SGD(epochs=1), SGD(epochs=1, fused=True), SAM(recipe=SGD(epochs=1)), ELRPlus(recipe=SGD(epochs=1))]


def frozen_task(toys, names):
    task = toys.make_task("batch_norm")

    def build(k):
        model = task.build(k)
        model.register_parameter("steps", torch.nn.Parameter(torch.tensor([1, 2]), requires_grad=False))
        for name, parameter in model.named_parameters():
            if name.startswith(names):
                parameter.requires_grad_(False)
        return model

    return replace(task, build=build)


def named(settings):
    return [pytest.param(one, id=f"{type(one).__name__}{number}") for number, one in enumerate(settings)]


def check(before, after, frozen):
    changed = {name for name, value in after.named_parameters() if not torch.equal(value, dict(before.named_parameters())[name])}
    assert changed, "the others are corrected"
    assert not [name for name in changed if name.startswith(frozen) or name == "steps"]


@pytest.mark.parametrize("frozen", [("conv", "second"), ("conv", "norm", "second")], ids=["layers", "all_but_the_head"])
@pytest.mark.parametrize("setting", named(METHODS))
def test_methods_leave_frozen_parameters_as_they_are(toys, setting, frozen):
    task = frozen_task(toys, frozen)
    model = task.build(0).eval()
    ((_, corrected),) = type(setting).correct([setting], model, task.allow(setting.needs()), PlainRun())
    check(model, corrected, frozen)


@pytest.mark.parametrize("trainer", named(TRAINERS))
def test_trainers_leave_frozen_parameters_as_they_are(toys, trainer):
    task = frozen_task(toys, ("conv", "second"))
    model = trainer.fit(task, PlainRun()).model
    check(task.build(0), getattr(model, "nets", [model])[0], ("conv", "second"))


@pytest.mark.parametrize("setting", named([*METHODS[:-1], SGD(epochs=1)]))
def test_a_network_of_frozen_parameters_only_is_refused(toys, setting):
    task = frozen_task(toys, ("",))
    model = task.build(0)
    with pytest.raises(UserError, match=r"every parameter that would be is frozen \(requires_grad=False\)"):
        setting.refuse(task.kind, model)

    def run():
        if isinstance(setting, SGD):
            return setting.fit(task, PlainRun())
        return list(type(setting).correct([setting], model, task.allow(setting.needs()), PlainRun()))

    with pytest.raises(UserError, match="frozen"):
        run()


def test_noise_of_other_layers_does_not_depend_on_what_is_frozen(toys):
    setting = METHODS[1]
    found = []
    for names in ((), ("norm",)):
        task = frozen_task(toys, names or ("steps",))
        ((_, corrected),) = Fisher.correct([replace(setting, noise=1e-2)], task.build(0).eval(), task.allow(setting.needs()), PlainRun())
        found.append(corrected)
    assert torch.equal(found[0].conv.weight, found[1].conv.weight)
    assert not torch.equal(found[0].norm.weight, found[1].norm.weight)


def test_fisher_is_refused_where_samples_interact(toys):
    task = toys.make_task("batch_norm")
    model = task.build(0)
    model.norm = torch.nn.BatchNorm2d(6, track_running_stats=False)
    with pytest.raises(UserError, match="batch norm 'norm' has no running statistics"):
        METHODS[1].refuse(task.kind, model)

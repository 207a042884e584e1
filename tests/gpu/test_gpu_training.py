"""Trainers and SCRUB on the GPU: determinism, resuming, memory, and the effect of the speed options."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from baselines.scrub import SCRUB
from sap_core.api import Need
from sap_core.cost import peak_memory_bytes, reset_peak_memory
from sap_core.run import PlainRun
from trainers.co_prl_l import CoPRL_L
from trainers.elr import ELR
from trainers.logit_clip import LogitClip
from trainers.mentormix import MentorMix
from trainers.mixup import MixUp
from trainers.sam import SAM
from trainers.sgd import SGD

RECIPE = SGD(epochs=2, batch_size=16, learning_rate=0.02)
TRAINERS = [RECIPE, *(kind(recipe=RECIPE) for kind in (LogitClip, MixUp, SAM, MentorMix, ELR, CoPRL_L))]
NAMES = [type(trainer).__name__ for trainer in TRAINERS]


def fitted(trainer, task):
    return trainer.fit(task, PlainRun()).model


@pytest.mark.parametrize("trainer", TRAINERS, ids=NAMES)
def test_the_same_seed_gives_the_same_bits(device, on, same_bits, trainer):
    task = on.task(device, augment="crop_flip")
    same_bits(on.weights(fitted(trainer, task)), on.weights(fitted(trainer, task)))


@pytest.mark.parametrize("trainer", TRAINERS, ids=NAMES)
def test_training_is_that_of_the_cpu_but_for_rounding(device, on, distance, trainer):
    """Initialisation, order, crops and flips are drawn on the CPU, so devices agree until rounding tells them apart."""
    short = replace(trainer, epochs=1) if isinstance(trainer, SGD) else replace(trainer, recipe=replace(RECIPE, epochs=1))
    wanted = on.weights(fitted(short, on.task(torch.device("cpu"), augment="crop_flip")))
    assert distance(on.weights(fitted(short, on.task(device, augment="crop_flip"))), wanted) < 1e-3


def test_batches_are_bit_for_bit_those_of_the_cpu(device, on):
    from sap_core.seeding import stream

    rng = stream(1, "train", 1)
    here, there = (list(on.task(at, augment="crop_flip").train.batches(16, rng, ("augmented",))) for at in (torch.device("cpu"), device))
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.index, other.index)
        assert torch.equal(one.labels, other.labels.cpu())
        torch.testing.assert_close(one.inputs, other.inputs.cpu(), rtol=1e-6, atol=1e-6)
        assert other.inputs.device.type == device.type


@pytest.mark.parametrize("options", [{}, {"precision": "bf16", "channels_last": True, "fused": True}], ids=["float32", "bf16"])
def test_what_was_stopped_goes_on_bit_for_bit(device, on, same_bits, options):
    trainer, task = replace(RECIPE, **options), on.task(device, augment="crop_flip")

    class Keeping(PlainRun):
        def end_epoch(self, number, model, state, kept=None, **scalars):
            if number == 1:
                self.state = state()

    run = Keeping()
    whole = on.weights(trainer.fit(task, run).model)
    same_bits(on.weights(trainer.fit(task, PlainRun(resume=run.state)).model), whole)


def scrubbed(settings, model, task):
    allowed = task.allow(frozenset({Need.RETAIN, Need.FORGET}))
    return {
        which: {name: value.clone() for name, value in corrected.state_dict().items()}
        for which, corrected in SCRUB.correct(settings, model, allowed, PlainRun(len(settings)))
    }


def test_scrubs_family_is_its_settings_one_by_one(device, on, same_bits):
    task = on.task(device)
    model = on.noisy(task).to(device)
    settings = [
        SCRUB(epochs=epochs, msteps=msteps, num_retain=24, num_forget=12, retain_batch=8, forget_batch=6)
        for epochs in (1, 2)
        for msteps in (1, 2)
    ]
    whole = scrubbed(settings, model, task)
    for which, setting in enumerate(settings):
        same_bits(scrubbed([setting], model, task)[0], whole[which])


@pytest.mark.parametrize(
    ("options", "most"),
    [({"channels_last": True}, 1e-3), ({"fused": True}, 1e-4), ({"precision": "bf16"}, 5e-2), ({"precision": "bf16", "fused": True}, 5e-2)],
    ids=["channels_last", "fused", "bf16", "bf16 fused"],
)
def test_options_change_rounding_only(device, on, distance, options, most):
    task = on.task(device, augment="crop_flip")
    assert distance(on.weights(fitted(replace(RECIPE, **options), task)), on.weights(fitted(RECIPE, task))) < most


@pytest.mark.gpu
@pytest.mark.parametrize("net", ["batch_norm", "dropout"])
def test_graphs_give_the_same_bits_in_float32(cuda, on, same_bits, net):
    task = on.task(cuda, net, augment="crop_flip")
    same_bits(on.weights(fitted(replace(RECIPE, compile="graphs"), task)), on.weights(fitted(RECIPE, task)))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_graphs_in_other_precisions(cuda, on, distance, precision):
    task = on.task(cuda)
    plain = on.weights(fitted(replace(RECIPE, precision=precision), task))
    assert distance(on.weights(fitted(replace(RECIPE, precision=precision, compile="graphs"), task)), plain) < 1e-5


@pytest.mark.gpu
def test_tf32_rounds_and_is_off_afterwards(cuda, on):
    left, right = (torch.randn(256, 256, device=cuda) for _ in range(2))
    exact = left @ right
    with replace(RECIPE, precision="tf32").training_speed.tf32_mode():
        assert not torch.equal(left @ right, exact)
    assert torch.equal(left @ right, exact)


@pytest.mark.gpu
def test_a_compiled_network_learns_the_same(cuda, on, distance):
    task = on.task(cuda)
    assert distance(on.weights(fitted(replace(RECIPE, compile="compile"), task)), on.weights(fitted(RECIPE, task))) < 1e-3


def test_peak_memory_is_a_jobs_own(device, on):
    task = on.task(device)
    reset_peak_memory(device)
    before = peak_memory_bytes(device)
    size = 2**26 if device.type == "cuda" else 2**30  # Linux counts a process's pages per core, and is off by some hundred MiB
    block = torch.ones(size, dtype=torch.uint8, device=device)
    with_block = peak_memory_bytes(device)
    assert with_block >= before + 0.7 * size
    del block
    if device.type == "cuda":
        reset_peak_memory(device)
        fitted(RECIPE, task)
        assert peak_memory_bytes(device) < with_block, "80 images and a small network"

"""Precision, layout, optimiser and compilation of training change rounding only, and are reverted afterwards."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from sap_core.checkpoint import load_state, save_state
from sap_core.errors import UserError
from sap_core.run import PlainRun
from trainers.co_prl_g import CoPRL_G
from trainers.co_prl_l import CoPRL_L
from trainers.mixup import MixUp
from trainers.prl_g import PRL_G
from trainers.sam import SAM
from trainers.sgd import SGD
from trainers.speed import ForwardPass, Speed, make_forward

SHORT = SGD(epochs=2, batch_size=16, learning_rate=0.02)
FASTER = [{"channels_last": True}, {"fused": True}, {"channels_last": True, "fused": True}]


@pytest.fixture
def task(toys):
    return toys.make_task()


def weights(trainer, task):
    run = PlainRun()
    return trainer.fit(task, run).model.state_dict(), run.curve


def distance(one, other):
    """Relative, over all weights together."""
    pairs = [(one[name].double(), other[name].double()) for name in one if one[name].is_floating_point()]
    return (sum(((a - b) ** 2).sum() for a, b in pairs) / sum((b**2).sum() for _, b in pairs)).sqrt().item()


@pytest.mark.parametrize("options", FASTER, ids=["channels_last", "fused", "both"])
def test_layout_and_fused_optimiser_change_rounding_only(task, options):
    plain, curve = weights(SHORT, task)
    faster, other = weights(replace(SHORT, **options), task)
    assert distance(faster, plain) < 1e-5
    for one, two in zip(curve, other, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-4)


def test_adam_may_be_fused_too(task):
    adam = replace(SHORT, optimiser="adam", nesterov=False, learning_rate=1e-3)
    assert distance(weights(replace(adam, fused=True), task)[0], weights(adam, task)[0]) < 1e-4


def test_bf16_learns_the_same_within_its_rounding(task):
    plain, curve = weights(SHORT, task)
    faster, other = weights(replace(SHORT, precision="bf16"), task)
    assert 1e-6 < distance(faster, plain) < 2e-2, "other bits, but near"
    assert all(value.dtype == plain[name].dtype for name, value in faster.items()), "weights and statistics stay float32"
    assert other[-1]["loss"] == pytest.approx(curve[-1]["loss"], rel=5e-2)


def test_the_returned_network_has_the_standard_layout(task):
    model = replace(SHORT, channels_last=True).fit(task, PlainRun()).model
    assert all(parameter.is_contiguous() for parameter in model.parameters())


class Seen(nn.Module):
    """Convolutions over maps of 8 x 8 and 4 x 4, and one over both."""

    def __init__(self):
        super().__init__()
        self.large, self.small, self.both = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.lay = []

    def forward(self, images):
        large = self.norm(self.large(images))
        small = self.small(functional.max_pool2d(large, 2))
        self.lay.append((large.is_contiguous(), small.is_contiguous()))
        return (self.both(large).mean((2, 3)) + self.both(small).mean((2, 3))).log_softmax(1)


def test_on_a_cpu_small_maps_stay_in_the_order_of_their_dimensions():
    torch.manual_seed(0)
    model, images = Seen().train(), torch.rand(8, 3, 8, 8)
    statistics = model.norm.running_mean.clone()
    speed = Speed(channels_last=True)
    expected = Seen.forward(model, images).detach()
    model.norm.running_mean.copy_(statistics)
    speed.set_memory_format(model, images[:1])
    assert model.training
    assert model.norm.training
    assert torch.equal(model.norm.running_mean, statistics)
    assert [module.weight.is_contiguous() for module in (model.large, model.small, model.both)] == [False, True, False]
    torch.testing.assert_close(ForwardPass(model, speed)(images), expected)
    assert model.lay[-1] == (False, True)
    assert not any(module._forward_pre_hooks for module in model.modules())  # noqa: SLF001 - torch has no other way to ask


def test_the_defaults_are_the_network_itself(task):
    model = task.build(0)
    assert make_forward(model, Speed(), 16) is model


def test_outputs_of_a_bf16_pass_are_float32(task):
    model = task.build(0)
    inputs = next(task.train.batches(8)).inputs
    outputs = ForwardPass(model, Speed("bf16"))(inputs)
    assert outputs.dtype == torch.float32
    assert (outputs - model(inputs)).abs().max() > 0


def test_tf32_switches_are_restored_after_an_error():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    inside = []

    def failing():
        with Speed("tf32").tf32_mode():
            inside.extend([torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert inside == [True, True]
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


def test_float32_switches_it_off_where_somebody_had_it_on():
    before = torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cudnn.allow_tf32 = True
        with Speed().tf32_mode():
            assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("options", [{"precision": "bf16"}, {"channels_last": True, "fused": True}], ids=["bf16", "layout"])
@pytest.mark.parametrize("trainer", [SAM, MixUp, CoPRL_L], ids=lambda trainer: trainer.__name__)
def test_other_trainers_take_them_through_their_recipe(task, trainer, options):
    recipe = replace(SHORT, epochs=1)
    plain, _ = weights(trainer(recipe=recipe), task)
    faster, _ = weights(trainer(recipe=replace(recipe, **options)), task)
    assert distance(faster, plain) < 3e-2
    assert faster.keys() == plain.keys()


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_a_stopped_training_resumes_bit_for_bit(task, toys, optimiser, tmp_path):
    trainer = replace(SHORT, precision="bf16", channels_last=True, fused=True, optimiser=optimiser, nesterov=optimiser == "sgd")
    whole, _ = weights(trainer, task)

    class Keeping(PlainRun):
        def end_epoch(self, number, model, state, kept=None, **scalars):
            if number == 1:
                self.state = state()

    run = Keeping()
    trainer.fit(task, run)
    save_state(tmp_path / "state.safetensors", run.state)
    again = trainer.fit(task, PlainRun(resume=load_state(tmp_path / "state.safetensors"))).model.state_dict()
    toys.assert_same_bits(again, whole)


@pytest.mark.parametrize(
    ("trainer", "sentence"),
    [
        (replace(SHORT, compile="graphs"), "trainer.compile=graphs needs a GPU, but the device is cpu"),
        (replace(SHORT, precision="tf32"), "trainer.precision=tf32 needs a GPU, but the device is cpu"),
        (SAM(recipe=replace(SHORT, compile="compile")), "one pass over its mini-batch; use trainer.compile=none"),
        (PRL_G(recipe=replace(SHORT, precision="bf16")), "use trainer.precision=float32 or tf32"),
        (CoPRL_G(recipe=replace(SHORT, precision="bf16")), "use trainer.precision=float32 or tf32"),
    ],
    ids=["graphs", "tf32", "compile", "norms", "norms of two networks"],
)
def test_unsupported_options_are_refused(toys, trainer, sentence):
    task = toys.make_task()
    if isinstance(trainer, PRL_G | CoPRL_G):
        task = replace(task, build=lambda which: toys.GroupNormNet(4))
    with pytest.raises(UserError, match=sentence):
        trainer.fit(task, PlainRun())


@pytest.mark.parametrize(("name", "value"), [("precision", "fp8"), ("compile", "jit")])
def test_unknown_values_are_refused(name, value):
    with pytest.raises(UserError, match=f"unknown {name} '{value}' in trainer"):
        SGD(**{name: value})


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(task):
    plain, _ = weights(SHORT, task)
    compiled, _ = weights(replace(SHORT, compile="compile"), task)
    assert distance(compiled, plain) < 1e-4
    assert compiled.keys() == plain.keys()


def test_recording_leaves_no_trace_and_short_batches_run_as_they_are(task, monkeypatch):
    """The code around a CUDA graph; recording is replaced by running the pass, which recording does, too."""
    recorded, states = [], []

    def record(callable_, sample):
        for _ in range(3):  # moves running statistics and the generator, as warming up does
            callable_(*sample).sum().backward()
            torch.rand(3)
        recorded.append(sample[0].shape)
        return callable_

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.get_rng_state())
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: (states.append(state), torch.set_rng_state(state)))
    model = task.build(0).train()
    call = make_forward(model, Speed(compile="graphs"), 16)
    full, short = (next(task.train.batches(size)).inputs for size in (16, 5))
    before = {name: value.clone() for name, value in model.named_buffers()}
    call(short)
    assert not recorded
    model.load_state_dict({**model.state_dict(), **before})
    generator = torch.get_rng_state()
    wanted = task.build(0).train()
    wanted(full)
    assert torch.equal(call(full), task.build(0).train()(full))
    call(full)
    wanted(full)
    assert recorded == [full.shape], "once"
    assert torch.equal(torch.get_rng_state(), generator)
    for name, value in wanted.named_buffers():
        torch.testing.assert_close(dict(model.named_buffers())[name], value, rtol=0, atol=0)
    with torch.no_grad():
        call(full)
    model.eval()
    call(full)
    assert recorded == [full.shape]

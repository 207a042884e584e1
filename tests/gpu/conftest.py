"""Tests that run on a CUDA device (mark gpu) and also on the CPU, so that they are exercised on machines without a GPU.

They need torch, numpy, safetensors and pytest only. From the checkout: `python -m pytest tests/gpu -m gpu`.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from sap_core.data.samples import SampleView, TensorPixels
from sweeper.contracts import toys
from sweeper.jobs.run_job import configure_torch

CPU = torch.device("cpu")


@pytest.fixture(params=[pytest.param("cpu", id="cpu"), pytest.param("cuda", id="cuda", marks=pytest.mark.gpu)])
def device(request):
    """The device, with arithmetic settled as a job settles it."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device, and torch sees none here")
    configure_torch(1)
    return torch.device(request.param)


@pytest.fixture
def cuda():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device, and torch sees none here")
    configure_torch(1)
    return torch.device("cuda")


def moved(task, device):
    """The task with its images, verified samples and networks on another device."""

    def over(view: SampleView) -> SampleView:
        return replace(view, pixels=TensorPixels(view.pixels.tensor.to(device)), device=device)

    source = task.verified_source
    return replace(
        task, train=over(task.train), val=over(task.val), build=lambda which: task.build(which).to(device), device=device,
        verified_source=lambda need, n: over(source(need, n)),
    )  # fmt: skip


@pytest.fixture
def on():
    """on(device, "batch_norm", ...): a toy task there, and helpers."""
    return SimpleNamespace(
        task=lambda device, *words, **settings: moved(toys.make_task(*words, **settings), device),
        weights=toys.weights,
        noisy=toys.noisy,
        toys=toys,
    )


@pytest.fixture
def same_bits():
    def check(one, other):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert torch.equal(value.cpu(), other[name].cpu()), name

    return check


@pytest.fixture
def distance():
    """Relative distance of two sets of weights, all together."""

    def measure(one, other):
        pairs = [(one[name].double().cpu(), other[name].double().cpu()) for name in one if one[name].is_floating_point()]
        return (sum(((a - b) ** 2).sum() for a, b in pairs) / sum((b**2).sum() for _, b in pairs)).sqrt().item()

    return measure

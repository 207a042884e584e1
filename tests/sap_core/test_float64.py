"""Devices without float64: what is float64 moves to the CPU. Simulated with torch's fake tensors, which have a device and no values."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: PLC2701  # torch has no public name for it

from sap_core.float64 import to_float64
from sap_core.im2col import ConvInputs
from sap_core.sap.gram import Moments
from sap_core.sap.layers import LinearInputs


def test_other_devices_keep_the_tensor():
    x = torch.arange(3.0)
    assert to_float64(x).dtype == torch.float64
    same = torch.arange(3.0, dtype=torch.float64)
    assert to_float64(same) is same


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool])
def test_tensors_of_an_apple_gpu_are_converted_on_the_cpu(dtype):
    with FakeTensorMode():
        x = to_float64(torch.empty(3, dtype=dtype, device="mps"))
        assert (x.device.type, x.dtype) == ("cpu", torch.float64)


CONVOLUTION = ConvInputs.from_module(torch.nn.Conv2d(2, 3, 3))


@pytest.mark.parametrize(("layout", "shape"), [(LinearInputs(4), (6, 4)), (LinearInputs(40), (6, 40)), (CONVOLUTION, (5, 2, 6, 6))])
def test_moments_of_activations_on_an_apple_gpu_are_on_the_cpu(layout, shape):
    with FakeTensorMode():
        moments = Moments(layout).updated(torch.empty(shape, device="mps"))
        found = [*moments.stored, *([] if moments.sums is None else [moments.sums])]
        assert found
        assert {each.device.type for each in found} == {"cpu"}

"""SGD whose step is one kernel, for tensors in any layout.

torch's fused kernels pair the numbers of weights, gradients and momentum by where they lie in memory. On a CPU they neither compare the
layouts first (a momentum that came contiguous from a file would be added to the wrong weights) nor take a channels-last gradient without a
copy that nothing reads (torch 2.11 and 2.15). So the layouts are made equal here, and the kernel is given views in which memory is in the
order of the dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD
from torch.optim.sgd import sgd as step_of


def layout(tensor: Tensor) -> torch.memory_format:
    """Channels-last for images and kernels that lie so and not also in the order of their dimensions."""
    last = tensor.ndim == 4 and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def in_order(tensor: Tensor) -> Tensor:
    """The same memory with dimensions in its order."""
    return tensor.permute(0, 2, 3, 1) if layout(tensor) is torch.channels_last else tensor


class FusedSGD(SGD):
    """torch's SGD with `fused=True`; weights are contiguous or channels-last. Without dampening the plain one but for rounding."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step with the gradients that are there; what `closure` returns."""
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        for group in self.param_groups:
            self._step(group, [weight for weight in group["params"] if weight.grad is not None])
        return result

    def _step(self, group: dict[str, Any], weights: list[Tensor]) -> None:
        if not weights:
            return
        gradients = [weight.grad.contiguous(memory_format=layout(weight)) for weight in weights if weight.grad is not None]
        buffers = [self._momentum(weight) if group["momentum"] else None for weight in weights]
        step_of(
            [in_order(weight.detach()) for weight in weights],
            [in_order(gradient) for gradient in gradients],
            [None if buffer is None else in_order(buffer) for buffer in buffers],
            has_sparse_grad=False,
            fused=True,
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            lr=group["lr"],
            dampening=group["dampening"],
            nesterov=group["nesterov"],
            maximize=group["maximize"],
        )

    def _momentum(self, weight: Tensor) -> Tensor:
        """The weight's momentum, laid out as the weight; zero before the first step, which without dampening is torch's beginning."""
        memory = self.state[weight]
        if memory.get("momentum_buffer") is None:
            memory["momentum_buffer"] = torch.zeros_like(weight)
        memory["momentum_buffer"] = memory["momentum_buffer"].contiguous(memory_format=layout(weight))
        buffer: Tensor = memory["momentum_buffer"]
        return buffer

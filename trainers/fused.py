"""SGD with torch's fused kernel, for parameters in any memory layout.

torch's fused kernels pair weights, gradients and momentum by their location in memory. On a CPU they do not check that the layouts agree: a
momentum buffer that was loaded contiguous from a file would be added to the wrong weights, and a channels-last gradient is copied into a
tensor that nothing reads (torch 2.11 and 2.15). So the layouts are made equal here, and the kernel receives views whose dimensions are in
the order of memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD
from torch.optim.sgd import sgd as step_of


def memory_format_of(tensor: Tensor) -> torch.memory_format:
    """Returns channels-last for 4-d tensors that are channels-last and not contiguous as well, else contiguous."""
    last = tensor.ndim == 4 and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def in_memory_order(tensor: Tensor) -> Tensor:
    """Returns a view of the same memory with its dimensions in memory order."""
    return tensor.permute(0, 2, 3, 1) if memory_format_of(tensor) is torch.channels_last else tensor


class FusedSGD(SGD):
    """torch's SGD with `fused=True` for contiguous or channels-last weights. Equals plain SGD up to rounding (without dampening)."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Makes one step with the present gradients and returns the result of `closure`."""
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        # Weights without a gradient are skipped, as by torch.
        for group in self.param_groups:
            self._step(group, [weight for weight in group["params"] if weight.grad is not None])
        return result

    def _step(self, group: dict[str, Any], weights: list[Tensor]) -> None:
        if not weights:
            return
        # Gradients and momentum take the layout of their weight, because the kernel pairs numbers by their place in memory.
        gradients = [weight.grad.contiguous(memory_format=memory_format_of(weight)) for weight in weights if weight.grad is not None]
        buffers = [self._momentum(weight) if group["momentum"] else None for weight in weights]
        # As views in memory order all tensors look contiguous; a channels-last gradient would be copied by the kernel, and the copy never
        # read.
        step_of(
            [in_memory_order(weight.detach()) for weight in weights],
            [in_memory_order(gradient) for gradient in gradients],
            [None if buffer is None else in_memory_order(buffer) for buffer in buffers],
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
        """Returns the momentum in the layout of the weight. Starts at zero, which equals torch's first step without dampening."""
        memory = self.state[weight]
        if memory.get("momentum_buffer") is None:
            memory["momentum_buffer"] = torch.zeros_like(weight)
        # At each step, because a momentum that was loaded from a file is contiguous whatever its weight is.
        memory["momentum_buffer"] = memory["momentum_buffer"].contiguous(memory_format=memory_format_of(weight))
        buffer: Tensor = memory["momentum_buffer"]
        return buffer

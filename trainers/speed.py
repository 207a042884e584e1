"""Speed options of training: precision, memory layout, fused optimiser steps, and compilation or CUDA graphs.

None of them changes what is computed up to rounding; float32 without any option is the reference. They act inside `SGD.fit` only and are
reverted at its end: corrections and scores are always computed in float32.

- `tf32`: matrix products and convolutions of float32 numbers round their factors to 10 bits of mantissa, on GPUs that support it.
- `bf16`: forward and backward passes under torch's autocast; weights, gradients, optimiser state and losses stay float32.
- `channels_last`: images and kernels in channels-last layout; on a CPU not where feature maps are small, because it is slower there.
- `compile`: the network through torch.compile. `graphs`: forward and backward passes of full mini-batches as one CUDA graph each.

Shapes: B batch, C outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor, nn

from sap_core.errors import UserError, unknown
from sap_core.roles import with_flattened

Precision = Literal["float32", "tf32", "bf16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
Compile = Literal["none", "compile", "graphs"]
COMPILES: tuple[str, ...] = get_args(Compile)

SMALL_MAP = 16
"""Largest number of positions of a feature map whose convolution stays contiguous on a CPU: channels-last takes twice the time there."""


@dataclass(frozen=True)
class Speed:
    """The four options of training speed."""

    precision: Precision = "float32"
    compile: Compile = "none"
    channels_last: bool = False
    fused: bool = False

    def check(self, where: str) -> None:
        """Raises UserError for unknown values; `where` is the prefix of the option's name in the message."""
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS, where)
        if self.compile not in COMPILES:
            raise unknown("compile", self.compile, COMPILES, where)

    def check_device(self, device: torch.device) -> None:
        """Raises UserError where the device does not support an option, so that rows never record an option that had no effect."""
        if self.compile == "graphs" and device.type != "cuda":
            raise UserError(
                f"trainer.compile=graphs needs a GPU, but the device is {device.type}; use trainer.compile=none or backend.device=cuda"
            )
        if self.precision == "tf32" and device.type != "cuda":
            raise UserError(f"trainer.precision=tf32 needs a GPU, but the device is {device.type}; use trainer.precision=float32 or bf16")

    def set_memory_format(self, model: nn.Module, inputs_B: Tensor) -> None:
        """Converts convolution weights to channels-last if the option is set. `inputs_B`: a sample of the network's inputs."""
        if self.channels_last:
            model.to(memory_format=torch.channels_last)
            # oneDNN's channels-last convolutions of small maps are slower than the contiguous ones, so these go back.
            for convolution in _over_small_maps(model, inputs_B) if inputs_B.device.type == "cpu" else ():
                convolution.to(memory_format=torch.contiguous_format)

    def inputs(self, inputs: Tensor) -> Tensor:
        """Returns images in the layout of the weights."""
        return inputs.contiguous(memory_format=torch.channels_last) if self.channels_last and inputs.ndim == 4 else inputs

    @contextmanager
    def tf32_mode(self) -> Iterator[None]:
        """Sets torch's process-wide TF32 switches inside and restores them afterwards."""
        matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
        before = matmul.allow_tf32, cudnn.allow_tf32
        # Also switched off, where somebody had it on: float32 is the reference.
        matmul.allow_tf32 = cudnn.allow_tf32 = self.precision == "tf32"
        try:
            yield
        finally:
            matmul.allow_tf32, cudnn.allow_tf32 = before


@runtime_checkable
class DeclaresSpeed(Protocol):
    """A trainer with options of precision and speed. Rows record them, and the planner checks that the device supports them."""

    @property
    def training_speed(self) -> Speed: ...


def training_speed(trainer: object) -> Speed | None:
    """Returns the options of a trainer or of its recipe; None for a trainer without them, which computes in float32."""
    return next((part.training_speed for part in with_flattened(trainer) if isinstance(part, DeclaresSpeed)), None)


class ForwardPass(nn.Module):
    """Wraps a network's forward pass in a precision; outputs are float32. The network itself, and so its state dict, is unchanged."""

    def __init__(self, model: nn.Module, speed: Speed) -> None:
        super().__init__()
        self.model, self.speed = model, speed

    def forward(self, inputs_B: Tensor) -> Tensor:
        if self.speed.precision != "bf16":
            return self._outputs(inputs_B)
        # Autocast caches rounded weights. A CUDA graph, or a second pass after an in-place step, must not use those of an earlier step.
        with torch.autocast(inputs_B.device.type, torch.bfloat16, cache_enabled=False):
            outputs_BC = self._outputs(inputs_B)
        return outputs_BC.float()

    def _outputs(self, inputs_B: Tensor) -> Tensor:
        inputs_B = self.speed.inputs(inputs_B)
        # The input of a small map's convolution has to be put into the layout of its weight. Only CPUs are slower there.
        if self.speed.channels_last and self.speed.compile == "none" and inputs_B.device.type == "cpu":
            with _pre_hooks(self.model, _contiguous_small_map):
                outputs_BC: Tensor = self.model(inputs_B)
        else:
            outputs_BC = self.model(inputs_B)
        return outputs_BC


def _is_small(inputs: tuple[Tensor, ...]) -> bool:
    return inputs[0].shape[-2:].numel() <= SMALL_MAP


@contextmanager
def _pre_hooks(model: nn.Module, hook: Callable[[nn.Module, Any], Any]) -> Iterator[None]:
    """Registers `hook` before every 2-d convolution inside the context."""
    handles = [module.register_forward_pre_hook(hook) for module in model.modules() if isinstance(module, nn.Conv2d)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _contiguous_small_map(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    """Forward pre-hook that makes small maps contiguous, as `Speed.set_memory_format` left the weights of their convolutions."""
    return (inputs[0].contiguous(), *inputs[1:]) if _is_small(inputs) else None


def _over_small_maps(model: nn.Module, inputs_B: Tensor) -> list[nn.Module]:
    """Returns the convolutions whose inputs are all small maps. Leaves the network's modes and statistics unchanged."""
    small: dict[nn.Module, bool] = {}

    def record(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        # A convolution that is used for several maps counts as small if all of them are.
        small[module] = small.get(module, True) and _is_small(inputs)

    # A pass in train mode would move running statistics. Flags are put back one by one, because some may have been off.
    modes = {module: module.training for module in model.modules()}
    with _pre_hooks(model.eval(), record), torch.no_grad():
        model(inputs_B)
    for module, mode in modes.items():
        module.training = mode
    return [module for module, is_small in small.items() if is_small]


def make_forward(model: nn.Module, speed: Speed, batch_size: int) -> Callable[[Tensor], Tensor]:
    """Returns a learner's forward pass in train mode: (B, ...) inputs -> (B, C) float32 outputs.

    With `compile="graphs"` mini-batches of `batch_size` run as a CUDA graph, smaller ones without.
    """
    # The network itself: the reference computes without any wrapper.
    if speed == Speed():
        return model
    plain = ForwardPass(model, speed)
    if speed.compile == "compile":
        # Static shapes: an epoch has full mini-batches and one of another size, and each is compiled for itself.
        return torch.compile(plain, dynamic=False)
    return CudaGraphs(plain, batch_size) if speed.compile == "graphs" else plain


class CudaGraphs:
    """Forward and backward pass of full mini-batches as CUDA graphs, recorded with the first full mini-batch.

    The outputs of a pass are overwritten by the next, so a step may make only one pass before it descends.
    """

    def __init__(self, plain: ForwardPass, batch_size: int) -> None:
        self._plain, self._batch_size = plain, batch_size
        self._recorded: Callable[[Tensor], Tensor] | None = None

    def __call__(self, inputs_B: Tensor) -> Tensor:
        # A graph replays one shape, train mode and a backward pass; everything else runs as it is.
        if len(inputs_B) != self._batch_size or not self._plain.model.training or not torch.is_grad_enabled():
            outputs: Tensor = self._plain(inputs_B)
            return outputs
        if self._recorded is None:
            self._recorded = self._record(inputs_B)
        return self._recorded(inputs_B)

    def _record(self, inputs_B: Tensor) -> Callable[[Tensor], Tensor]:
        """Records the graphs. This runs the pass several times, so buffers and the generator are restored: no result depends on it."""
        model, device = self._plain.model, inputs_B.device
        # The recording's warm-up passes move running statistics and draw dropout masks.
        kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
        generator = torch.cuda.get_rng_state(device)
        # A wrapper of its own, because make_graphed_callables replaces the forward method of its argument.
        twin = ForwardPass(model, self._plain.speed)
        sample = self._plain.speed.inputs(inputs_B.detach().clone())
        recorded: Any = torch.cuda.make_graphed_callables(twin, (sample,))
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)
        torch.cuda.set_rng_state(generator, device)
        return recorded

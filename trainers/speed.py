"""How fast a training's arithmetic is done: precision, memory layout, the optimiser's form, and compilation or CUDA graphs.

None of it changes what is computed but for rounding; float32 as it stands is the reference. Corrections and scores are always float32:
what is set here holds inside `SGD.fit` and is taken back at its end.

- `tf32`: products and convolutions of float32 numbers round their factors to 10 bits of mantissa, on GPUs that can; elsewhere float32.
- `bf16`: forward and backward passes under torch's autocast; weights, gradients and the optimiser stay float32, losses too.
- `channels_last`: images and kernels lie channel by channel; on a CPU not where maps are small, because there it is slower.
- `compile`: the network through torch.compile. `graphs`: forward and backward pass of full mini-batches as one CUDA graph each.

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
"""On a CPU convolutions over maps of at most so many positions stay in the order of their dimensions: half of the time there."""


@dataclass(frozen=True)
class Speed:
    """The four options together."""

    precision: Precision = "float32"
    compile: Compile = "none"
    channels_last: bool = False
    fused: bool = False

    def check(self, where: str) -> None:
        """Raises UserError for an unknown value."""
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS, where)
        if self.compile not in COMPILES:
            raise unknown("compile", self.compile, COMPILES, where)

    def check_device(self, device: torch.device) -> None:
        """Raises UserError where the device cannot do what is asked for, so that no row names a speed that was not had."""
        if self.compile == "graphs" and device.type != "cuda":
            raise UserError(
                f"trainer.compile=graphs records CUDA graphs, but the device is {device.type}; use compile=none, or backend.device=cuda"
            )
        if self.precision == "tf32" and device.type != "cuda":
            raise UserError(f"trainer.precision=tf32 is a GPU's arithmetic, but the device is {device.type}; use float32 or bf16")

    def set_memory_format(self, model: nn.Module, inputs_B: Tensor) -> None:
        """Puts the weights of convolutions channels-last where that was asked for. `inputs_B`: some of the network's inputs."""
        if self.channels_last:
            model.to(memory_format=torch.channels_last)
            for convolution in _over_small_maps(model, inputs_B) if inputs_B.device.type == "cpu" else ():
                convolution.to(memory_format=torch.contiguous_format)

    def inputs(self, inputs: Tensor) -> Tensor:
        """Images in the layout of the weights."""
        return inputs.contiguous(memory_format=torch.channels_last) if self.channels_last and inputs.ndim == 4 else inputs

    @contextmanager
    def tf32_mode(self) -> Iterator[None]:
        """TF32 is a switch of the process: on inside, and afterwards as it was."""
        matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
        before = matmul.allow_tf32, cudnn.allow_tf32
        matmul.allow_tf32 = cudnn.allow_tf32 = self.precision == "tf32"
        try:
            yield
        finally:
            matmul.allow_tf32, cudnn.allow_tf32 = before


@runtime_checkable
class DeclaresSpeed(Protocol):
    """A trainer with options of arithmetic and speed. Rows record them, and the planner checks that the device supports them."""

    @property
    def training_speed(self) -> Speed: ...


def training_speed(trainer: object) -> Speed | None:
    """The options of a trainer or of its recipe; None for a trainer without any, which computes in float32."""
    return next((part.training_speed for part in with_flattened(trainer) if isinstance(part, DeclaresSpeed)), None)


class ForwardPass(nn.Module):
    """A network's forward pass in the asked precision; outputs are float32. Not part of the network: names of weights stay as they are."""

    def __init__(self, model: nn.Module, speed: Speed) -> None:
        super().__init__()
        self.model, self.speed = model, speed

    def forward(self, inputs_B: Tensor) -> Tensor:
        if self.speed.precision != "bf16":
            return self._outputs(inputs_B)
        # Without the cache: a graph, or a second pass after a step in place, must not meet weights that were rounded earlier.
        with torch.autocast(inputs_B.device.type, torch.bfloat16, cache_enabled=False):
            outputs_BC = self._outputs(inputs_B)
        return outputs_BC.float()

    def _outputs(self, inputs_B: Tensor) -> Tensor:
        inputs_B = self.speed.inputs(inputs_B)
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
    """`hook` sees what comes into every convolution of images."""
    handles = [module.register_forward_pre_hook(hook) for module in model.modules() if isinstance(module, nn.Conv2d)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _contiguous_small_map(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    """Small maps come to convolutions in the order of their dimensions, as `Speed.set_memory_format` has left the weights."""
    return (inputs[0].contiguous(), *inputs[1:]) if _is_small(inputs) else None


def _over_small_maps(model: nn.Module, inputs_B: Tensor) -> list[nn.Module]:
    """The convolutions that see small maps only. The network's modes and statistics are left as they were."""
    small: dict[nn.Module, bool] = {}

    def see(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        small[module] = small.get(module, True) and _is_small(inputs)

    modes = {module: module.training for module in model.modules()}
    with _pre_hooks(model.eval(), see), torch.no_grad():
        model(inputs_B)
    for module, mode in modes.items():
        module.training = mode
    return [module for module, is_small in small.items() if is_small]


def make_forward(model: nn.Module, speed: Speed, batch_size: int) -> Callable[[Tensor], Tensor]:
    """What a learner calls for a pass in train mode: (B, ...) inputs -> (B, C) float32 outputs.

    `batch_size` is that of full mini-batches: those run as a graph, others as they are.
    """
    if speed == Speed():
        return model
    plain = ForwardPass(model, speed)
    if speed.compile == "compile":
        return torch.compile(plain, dynamic=False)
    return CudaGraphs(plain, batch_size) if speed.compile == "graphs" else plain


class CudaGraphs:
    """Forward and backward pass of full mini-batches as CUDA graphs, recorded when the first full one comes.

    One mini-batch at a time: the outputs of a pass are overwritten by the next, so this is for steps that make one pass and then descend.
    """

    def __init__(self, plain: ForwardPass, batch_size: int) -> None:
        self._plain, self._batch_size = plain, batch_size
        self._recorded: Callable[[Tensor], Tensor] | None = None

    def __call__(self, inputs_B: Tensor) -> Tensor:
        if len(inputs_B) != self._batch_size or not self._plain.model.training or not torch.is_grad_enabled():
            outputs: Tensor = self._plain(inputs_B)
            return outputs
        if self._recorded is None:
            self._recorded = self._record(inputs_B)
        return self._recorded(inputs_B)

    def _record(self, inputs_B: Tensor) -> Callable[[Tensor], Tensor]:
        """Recording runs the pass a few times: running statistics and the generator are put back, so that no bit depends on it."""
        model, device = self._plain.model, inputs_B.device
        kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
        generator = torch.cuda.get_rng_state(device)
        twin = ForwardPass(model, self._plain.speed)  # recording changes the forward method of what it is given
        sample = self._plain.speed.inputs(inputs_B.detach().clone())
        recorded: Any = torch.cuda.make_graphed_callables(twin, (sample,))
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)
        torch.cuda.set_rng_state(generator, device)
        return recorded

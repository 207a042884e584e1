"""Building of networks: the only place where the network of a configuration is made.

Planning, forecasts, checks and jobs build through `build_network`, so that what is planned is what runs. A network's constructor may do
what it likes: settings of the process that it changes are put back afterwards.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from inspect import Parameter, signature
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from sap_core.construct import Entry, construct, locate
from sap_core.errors import UserError
from sap_core.models.inputs import probe_images
from sap_core.models.modes import evaluating
from sap_core.models.outputs import TakeLogits, returns_logits
from sap_core.models.unwrap import unwrap

SUPPLIED = ("num_outputs", "input_shape")
"""Arguments that the platform passes to a network whose signature names them."""


def build_network(entry: Entry, num_outputs: int, input_shape: tuple[int, ...]) -> nn.Module:
    """Build the network that an entry describes, on torch's current default device.

    `num_outputs` and `input_shape` are passed if the signature of the class or function names them, each by itself; `*args` and `**kwargs`
    do not count. Compiled and data-parallel networks are unwrapped, lazy layers are initialised by a pass over two images, weights
    that are all of another type than float32 are converted unless the network takes float32 images itself, and the network returns logits
    (see `sap_core.models.outputs`). Python's and NumPy's generators are seeded with the seed of torch's.

    Args:
        entry: the network's entry; a network of another package may be any class or function, and take neither argument.
        num_outputs: number of classes or of regression targets.
        input_shape: shape of one input, channels first, without the batch axis.

    Raises:
        UserError: what was built is no torch.nn.Module, or an object that was returned before.
    """
    # Facts of the data set, not settings: they are known when the network is built and are in no entry.
    facts = dict(zip(SUPPLIED, (num_outputs, input_shape), strict=True))
    with _settings_restored():
        model = construct(entry, **{name: facts[name] for name in supplied_arguments(entry["target"])})
    if not isinstance(model, nn.Module):
        raise UserError(
            f"model._target_={entry['target']} builds a {type(model).__name__}, which is not a torch.nn.Module; name a class or function "
            "that builds one"
        )
    model = unwrap(model)
    _settle(model, input_shape)
    # Only this function attaches the hook, so an object that has it was built by an earlier call, and may have been trained since.
    if returns_logits(model):
        raise UserError(
            f"model._target_={entry['target']} returns the same network at every call, so that runs would change one another's weights; "
            "build a new one in each call"
        )
    # Scripted networks take no hooks; they must return the logits themselves.
    with suppress(RuntimeError):
        model.register_forward_hook(TakeLogits(num_outputs), with_kwargs=True)
    return model


def supplied_arguments(target: str) -> tuple[str, ...]:
    """Return those of `SUPPLIED` that the class or function at a dotted path names in its signature."""
    try:
        accepted = signature(locate(target)).parameters
    # A class that is implemented in C may have no signature.
    except ValueError:
        return ()
    named = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    return tuple(name for name in SUPPLIED if name in accepted and accepted[name].kind in named)


@contextmanager
def _settings_restored() -> Iterator[None]:
    """Restore settings of the process that a constructor may change."""
    dtype, grad, threads = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()
    deterministic = _deterministic()
    python, numpy = random.getstate(), np.random.get_state()
    # Initial weights that are drawn from other generators than torch's shall follow from the seed of the run, too.
    random.seed(torch.initial_seed())
    np.random.seed(torch.initial_seed() % 2**32)
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)
        # Only after a change, because this function of torch imports its compiler, which takes seconds.
        if deterministic != _deterministic():
            torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
        # Setting the number of threads, even to the same one, is not free.
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        random.setstate(python)
        np.random.set_state(numpy)


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _settle(model: nn.Module, input_shape: tuple[int, ...]) -> None:
    """Initialise lazy layers, and convert weights to the type of the images (float32) if the network does not run on such images."""
    dtype, tensors = torch.get_default_dtype(), [*model.parameters(), *model.buffers()]
    lazy = any(is_lazy(tensor) for tensor in tensors)
    other_type = dtype not in {tensor.dtype for tensor in tensors if tensor.is_floating_point()} and any(
        tensor.is_floating_point() for tensor in tensors
    )
    if not lazy and not other_type:
        return
    with evaluating(model):
        try:
            # Two images: batch norm without running statistics cannot normalise one.
            model(probe_images(2, input_shape))
        # Networks raise exceptions of any type; what the conversion does not mend is raised again by the next pass.
        except Exception:
            if not other_type:
                raise
            model._apply(lambda tensor: _with_dtype(tensor, dtype))
            if lazy:
                model(probe_images(2, input_shape))


def _with_dtype(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    # Complex numbers keep their imaginary part, integers their values.
    if tensor.is_complex():
        return tensor.to(dtype.to_complex())
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def describe_error(error: BaseException) -> str:
    """Return an exception's type and message as one line, for messages about networks, which may raise anything."""
    text: Any = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}" if text else type(error).__name__

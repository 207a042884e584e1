"""Evaluation mode, norms that do not have one, modes of the caller, and passes whose operators can be observed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sap_core.errors import UserError


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode and disable gradients within a block, then restore the training flag of each module.

    A plain `model.train()` afterwards would also switch modules whose flag was false before, such as frozen batch norms.
    """
    # Flag by flag, and restored even after an error: the network belongs to the caller.
    training = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
    # What torch.export made is fixed to the mode in which it was made.
    except NotImplementedError as error:
        raise UserError(
            f"{type(model).__name__} cannot be set to evaluation mode ({error}), as programs of torch.export cannot; give the network that "
            "it was exported from"
        ) from error
    try:
        with torch.no_grad():
            yield
    finally:
        for module, flag in training:
            module.training = flag


@contextmanager
def full_precision() -> Iterator[None]:
    """Leave the caller's autocast and inference mode within a block; also a decorator, `@full_precision()`.

    Under autocast layers would get copies of their weights, and a copy of a network that is made in inference mode cannot be trained.
    """
    with torch.inference_mode(False), torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield


@contextmanager
def observable() -> Iterator[None]:
    """Let passes within a block compute with separate operators on the network's own weights, and call every hook."""
    before = torch.backends.mha.get_fastpath_enabled()
    # torch's attention layers have a fused kernel, which also gives other values for tokens that a mask leaves out.
    torch.backends.mha.set_fastpath_enabled(False)
    # Copies of weights that an autocast of the network's own made in an earlier pass would be used again within an autocast of the caller.
    torch.clear_autocast_cache()
    with ExitStack() as stack:
        # Nothing is compiled before torch's compiler has been imported, which takes seconds. Compiled code calls no hooks.
        if "torch._dynamo" in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(before)


def batch_statistics(model: nn.Module) -> str | None:
    """Return the name of the first batch norm that normalises by the statistics of the batch in evaluation mode, too, or None.

    Such a norm has no running statistics, so that the outputs for an image depend on the others of its batch, and it cannot normalise a
    single one.
    """
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            return name
    return None

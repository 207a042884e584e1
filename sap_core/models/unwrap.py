"""Removal of the wrappers that torch.compile and DataParallel put around a network or its parts.

Compiled code is specialised to one object: it ignores hooks that are registered later, and a copy of it may compute with the original's
weights. Corrections need both, so they work on the network inside. Training may be compiled by `trainer.compile`.
"""

from __future__ import annotations

import copy
from types import MethodType

from torch import nn


def is_wrapped(model: nn.Module) -> bool:
    """Return whether `model` or a module in it is compiled or data-parallel."""
    return any(_inner(module) is not None or _compiled_in_place(module) for module in model.modules())


def unwrap(model: nn.Module) -> nn.Module:
    """Remove all wrappers in place, and return the network inside; its parameters keep their identity and lose the wrappers' prefixes."""
    while (inner := _inner(model)) is not None:
        model = inner
    for module in model.modules():
        # What `Module.compile` has set; without it the class's own call is used.
        module.__dict__.pop("_compiled_call_impl", None)
        if _forward_compiled(module):
            del module.__dict__["forward"]
        for name, child in module._modules.items():
            while child is not None and (inner := _inner(child)) is not None:
                child = module._modules[name] = inner
    # Modules below a wrapper that was just removed may be wrapped themselves.
    return unwrap(model) if is_wrapped(model) else model


def unwrapped(model: nn.Module) -> nn.Module:
    """Return `model` without wrappers, unchanged itself: the network inside, or a copy where parts of it are wrapped."""
    while (inner := _inner(model)) is not None:
        model = inner
    if not is_wrapped(model):
        return model
    twin = copy.deepcopy(model)
    # Functions are not copied: a compiled `forward` on the copy is still that of the original.
    for module, other in zip(model.modules(), twin.modules(), strict=True):
        if _forward_compiled(module):
            del other.__dict__["forward"]
    return unwrap(twin)


def _inner(module: nn.Module) -> nn.Module | None:
    """Return the module inside of a wrapper; None for other modules."""
    # By name, because importing torch's compiler takes seconds.
    names = {cls.__name__ for cls in type(module).__mro__ if cls.__module__.startswith("torch.")}
    if "OptimizedModule" in names:
        return module._modules.get("_orig_mod")
    return module._modules.get("module") if names & {"DataParallel", "DistributedDataParallel"} else None


def _compiled_in_place(module: nn.Module) -> bool:
    return module.__dict__.get("_compiled_call_impl") is not None or _forward_compiled(module)


def _forward_compiled(module: nn.Module) -> bool:
    """Return whether `module.forward = torch.compile(module.forward)` was executed."""
    original = getattr(module.__dict__.get("forward"), "_torchdynamo_orig_callable", None)
    # Methods of torch's own modules are wrapped once more.
    while original is not None and not isinstance(original, MethodType):
        original = getattr(original, "__wrapped__", None)
    return isinstance(original, MethodType) and original.__self__ is module and original.__func__ is type(module).forward

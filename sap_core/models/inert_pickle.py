"""Reads the tensors of a torch checkpoint that contains other objects, without running any code that the file names.

A pickle names classes and functions and calls them. Here every name other than those that rebuild tensors is replaced by `Inert`, which
only stores its arguments. A whole pickled network is read as its parameters and buffers, by the attributes that `torch.nn.Module` stores.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import torch
from torch import Tensor
from torch._utils import _rebuild_parameter, _rebuild_tensor_v2

from sap_core.crafted_files import CraftedFileError, Stateless
from sap_core.errors import UserError
from sap_core.models.file_claims import MAX_DEPTH, MAX_DICTS, check_archive, check_content


def _set_of_names(items: Iterable[Any] = ()) -> set[str]:
    # Other items may not be hashable, because they are replaced.
    return {item for item in items if isinstance(item, str)}


_REBUILDS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch", "Size"): torch.Size,
    # The names of a network's buffers that its state dict leaves out.
    ("builtins", "set"): _set_of_names,
    ("__builtin__", "set"): _set_of_names,
}
"""The names of a pickle that are what they say. None of them runs code given by the file."""


class Inert(dict[Any, Any]):
    """An object of a class or function of the file: its items and its state, and no behaviour."""

    def __new__(cls, *arguments: Any, **named: Any) -> Inert:
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__()
        self.state: Any = None

    def __call__(self, *arguments: Any, **named: Any) -> Inert:
        return Inert()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __reduce__(self) -> Any:
        raise TypeError("an object of a file cannot be saved")

    def append(self, value: Any) -> None:
        """Ignored: elements of lists of other classes are no weights."""

    def extend(self, values: Iterable[Any]) -> None:
        """Ignored, as in `append`."""

    def add(self, value: Any) -> None:
        """Ignored, as in `append`."""


class _Unpickler(pickle.Unpickler):  # noqa: S301 (it calls nothing that a file names)
    """Replaces every class and function except those that rebuild tensors."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if (module, name) in _REBUILDS:
            return Stateless(_REBUILDS[module, name])
        return type(name.rpartition(".")[2], (Inert,), {"__module__": module})


def _load(file: BinaryIO, **options: Any) -> Any:
    return _Unpickler(file, **options).load()


_INERT: Any = SimpleNamespace(Unpickler=_Unpickler, load=_load, __name__=__name__)
"""What `torch.load` uses in place of the module pickle."""


def read_tensors(path: Path) -> dict[str, Any]:
    """Return the tensors of a file of `torch.save`, in nested dicts by the names under which they are found; a network by its state dict.

    Raises:
        UserError: the file cannot be read, or contains no named tensors.
    """
    try:
        with path.open("rb") as file:
            check_archive(path)
            content = torch.load(file, map_location="cpu", pickle_module=_INERT)
        check_content(found := _tensors(content), path.stat().st_size)
    except Exception as error:  # readers may raise anything on arbitrary bytes
        raise UserError(f"{path} cannot be read as a checkpoint of torch ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(found, Mapping) or not found:
        raise UserError(f"{path} contains no named tensors; save model.state_dict() in the program that has the network")
    return dict(found)


def _tensors(value: Any, depth: int = 0, budget: list[int] | None = None) -> Any:
    """The tensors in a value: itself, a dict of those of its items, or None.

    Raises:
        CraftedFileError: there are more objects than `MAX_DICTS`, one that occurs twice counted twice, or they are nested too deeply.
    """
    if isinstance(value, Tensor):
        return value
    budget = [MAX_DICTS] if budget is None else budget
    budget[0] -= isinstance(value, Mapping)
    if budget[0] < 0 or depth > MAX_DEPTH:
        raise CraftedFileError(f"it contains more than {MAX_DICTS:,} dicts, or nests them deeper than {MAX_DEPTH} levels")
    state = value.state if isinstance(value, Inert) else None
    # The state of a class with slots is a pair.
    state = next((part for part in state if isinstance(part, Mapping)), None) if isinstance(state, tuple) else state
    if isinstance(state, Mapping) and "_parameters" in state and "_modules" in state:
        return dict(_state_dict(state, ""))
    items: dict[Any, Any] = dict(state) if isinstance(state, Mapping) else {}
    items |= value if isinstance(value, Mapping) else {}
    found = {str(key): _tensors(item, depth + 1, budget) for key, item in items.items()}
    return {key: item for key, item in found.items() if item is not None and not (isinstance(item, dict) and not item)}


def _state_dict(state: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, Tensor]]:
    """The names and tensors of a pickled `torch.nn.Module`, as `state_dict()` would give them."""
    transient = state.get("_non_persistent_buffers_set") or ()
    for group, left_out in (("_parameters", ()), ("_buffers", transient)):
        for name, tensor in (state.get(group) or {}).items():
            if isinstance(tensor, Tensor) and name not in left_out:
                yield f"{prefix}{name}", tensor.detach()
    for name, module in (state.get("_modules") or {}).items():
        if isinstance(module, Inert) and isinstance(module.state, Mapping):
            yield from _state_dict(module.state, f"{prefix}{name}.")

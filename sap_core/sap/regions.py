"""Regions of parameters: which elements of which parameter a tensor of the forward pass consists of.

Views of a parameter are recognised by its storage, whatever slices, transpositions and expansions lie between; copies (casts of automatic
mixed precision, the reordered weights of `einsum`) are followed while a pass runs.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

aten = torch.ops.aten

COPIES = (aten.clone.default, aten._to_copy.default)
"""Operators whose result has the elements of their first argument, perhaps in another order in memory or of another dtype."""


@dataclass(frozen=True, eq=False)
class Region:
    """Elements of one parameter.

    Attributes:
        parameter: its name in the network.
        size, stride, start: geometry as of `Tensor.as_strided`, relative to the first element of the parameter.
        index: instead of a geometry, the position of each element (int64, of shape `size`).
    """

    parameter: str
    size: tuple[int, ...]
    stride: tuple[int, ...] = ()
    start: int = 0
    index: Tensor | None = None

    @classmethod
    def of(cls, parameter: str, tensor: Tensor, part: Tensor) -> Region:
        """Return the region of a view `part` of a parameter `tensor`."""
        return cls(parameter, tuple(part.shape), part.stride(), int(part.storage_offset() - tensor.storage_offset()))

    @property
    def key(self) -> Hashable:
        """Equal for equal regions."""
        # Axes of length one have no meaning, and neither have their strides.
        size = tuple(size for size in self.size if size > 1)
        if self.index is not None:
            return self.parameter, size, hash(self.index.contiguous().numpy().tobytes())
        strides = tuple(stride for size, stride in zip(self.size, self.stride, strict=True) if size > 1)
        return self.parameter, size, strides, self.start

    @property
    def elements(self) -> Tensor:
        """Positions of the elements in the parameter's memory, int64 of shape `size`."""
        if self.index is not None:
            return self.index
        positions = torch.full((), self.start)
        for size, stride in zip(self.size, self.stride, strict=True):
            positions = positions.unsqueeze(-1) + stride * torch.arange(size)
        return positions

    def repeats(self) -> bool:
        """Return whether an element occurs twice."""
        if self.index is None and not any(size > 1 and stride == 0 for size, stride in zip(self.size, self.stride, strict=True)):
            return False
        positions = self.elements
        return len(positions.unique()) < positions.numel()

    def read(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return the elements, of shape `size`."""
        tensor = parameters[self.parameter].detach()
        if self.index is None:
            return tensor.as_strided(self.size, self.stride, tensor.storage_offset() + self.start)
        return _memory(tensor)[self.index.to(tensor.device)]

    def write(self, parameters: Mapping[str, Tensor], values: Tensor) -> None:
        """Set the elements in place, cast to the parameter's dtype."""
        tensor = parameters[self.parameter].detach()
        if self.index is None:
            self.read(parameters).copy_(values.reshape(self.size))
        else:
            _memory(tensor)[self.index.to(tensor.device)] = values.reshape(self.size).to(tensor)


def _memory(tensor: Tensor) -> Tensor:
    """One-dimensional view of the memory from the tensor's first element to its last."""
    return tensor.as_strided((_span(tensor),), (1,), tensor.storage_offset())


def _span(tensor: Tensor) -> int:
    return 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)) if tensor.numel() else 0


@dataclass(frozen=True)
class _Copy:
    """A copied region: at a constant distance in memory, or in another order."""

    kept: object  # keeps the identity of the storage from being used again, but not its memory
    parameter: str
    shift: int = 0
    index: Tensor | None = None


class Regions:
    """Finds the region of a tensor. Regions of copies are known only while the passes are followed (`follow`)."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self._parameters = parameters
        # Several parameters may be parts of one storage, as after `vector_to_parameters`.
        self._owners: dict[int, list[str]] = {}
        for name, tensor in parameters.items():
            self._owners.setdefault(storage_of(tensor), []).append(name)
        self._copies: dict[int, _Copy] = {}

    def names(self, tensor: Tensor) -> tuple[str, ...]:
        """Return the parameters that the tensor is a view or a copy of."""
        storage = storage_of(tensor)
        if storage in self._copies:
            return (self._copies[storage].parameter,)
        owners = self._owners.get(storage, ())
        return tuple(name for name in owners if _overlap(tensor, self._parameters[name]))

    def region(self, tensor: Tensor) -> Region | None:
        """Return the region of a view or copy of one parameter; None for other tensors."""
        names = self.names(tensor)
        if len(names) != 1:
            return None
        (name,) = names
        size, stride = tuple(tensor.shape), tensor.stride()
        copy = self._copies.get(storage_of(tensor))
        if copy is None:
            # A view as another type (`view_as_complex`) has other elements.
            owner = self._parameters[name]
            return Region.of(name, owner, tensor) if tensor.dtype == owner.dtype else None
        if copy.index is None:
            return Region(name, size, stride, int(tensor.storage_offset()) + copy.shift)
        return Region(name, size, index=copy.index.as_strided(size, stride, tensor.storage_offset()))

    def follow(self, operator: Any, args: tuple[Any, ...], result: Any) -> bool:
        """Note that `result` is a copy of a region, if it is; return whether it is."""
        if operator not in COPIES or not isinstance(result, Tensor) or storage_of(result) == storage_of(args[0]):
            return False
        source = self.region(args[0])
        # Integers and complex numbers are other numbers than the parameter's.
        if source is None or not result.is_floating_point():
            return False
        storage, kept = storage_of(result), alive(result)
        if source.index is None and result.stride() == source.stride and not source.repeats():
            self._copies[storage] = _Copy(kept, source.parameter, source.start - int(result.storage_offset()))
            return True
        index = torch.empty(result.storage_offset() + _span(result), dtype=torch.int64)
        index.as_strided(tuple(result.shape), result.stride(), result.storage_offset()).copy_(source.elements)
        self._copies[storage] = _Copy(kept, source.parameter, index=index)
        return True


def storage_of(tensor: Tensor) -> int:
    """Return the identity of a tensor's memory, which its views share; also on the meta device, which has no addresses."""
    kept = alive(tensor)
    return kept.cdata if isinstance(kept, StorageWeakRef) else -id(tensor)


def alive(tensor: Tensor) -> object:
    """Return an object that keeps the identity of a tensor's memory from being used again, but not the memory."""
    try:
        return StorageWeakRef(tensor.untyped_storage())
    # Sparse tensors have several memories: the tensor itself is kept.
    except (NotImplementedError, RuntimeError):
        return tensor


def _overlap(first: Tensor, second: Tensor) -> bool:
    starts = first.storage_offset(), second.storage_offset()
    return bool(starts[0] < starts[1] + _span(second) and starts[1] < starts[0] + _span(first))


def tensors_in(*values: Any) -> Iterator[Tensor]:
    """Yield the tensors in arguments and results of operators, which may be lists."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors_in(*value)
        elif isinstance(value, dict):
            yield from tensors_in(*value.values())

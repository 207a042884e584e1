"""Checks that a file of weights contains what it claims: sizes, layouts and nesting."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sap_core.crafted_files import CraftedFileError, check_expansion, check_instructions
from sap_core.text import one_line

_LEGACY_PICKLES = 5
"""Pickles of a file before torch 1.6: a magic number, its version, the machine, the content, the keys of its storages."""

MAX_DICTS, MAX_DEPTH = 100_000, 100
"""Dicts of a file, one that occurs twice counted twice, and their nesting. A checkpoint with its optimiser has some thousands."""


def check_archive(path: Path) -> None:
    """Check a file of `torch.save` before torch reads it: its pickle's instructions, and the sizes in its archive.

    Raises:
        CraftedFileError: they would crash the reader or fill the memory.
        ValueError, OSError, zipfile.BadZipFile: it cannot be read.
    """
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            file.seek(0)
            for _ in range(_LEGACY_PICKLES):
                check_instructions(file)
            return
    with zipfile.ZipFile(path) as archive:
        check_expansion(archive, path.stat().st_size)
        for name in archive.namelist():
            if name.endswith("data.pkl"):
                with archive.open(name) as file:
                    check_instructions(file)


def check_content(content: Any, size: int) -> None:
    """Check what was read from a file of `size` bytes.

    Raises:
        CraftedFileError: a tensor is no plain one, or has more elements than the file; or there are too many dicts, nested too deeply.
    """
    stack: list[tuple[Any, int, object]] = [(content, 0, "")]
    dicts, lists = 0, set()
    while stack:
        value, depth, name = stack.pop()
        if isinstance(value, Tensor):
            _check_tensor(value, size, name)
        elif isinstance(value, Mapping):
            dicts += 1
            if dicts > MAX_DICTS or depth > MAX_DEPTH:
                raise CraftedFileError(f"it contains more than {MAX_DICTS:,} dicts, or nests them deeper than {MAX_DEPTH} levels")
            stack.extend((item, depth + 1, key) for key, item in reversed(list(value.items())))
        # Once each: nobody looks for weights in a list. The content keeps them alive, so their identities stay their own.
        elif isinstance(value, list | tuple | set) and id(value) not in lists:
            lists.add(id(value))
            stack.extend((item, depth + 1, name) for item in value)


def _check_tensor(tensor: Tensor, size: int, name: object) -> None:
    """Check a tensor; `name` is its key in the dict that contains it."""
    shape = tuple(tensor.shape)
    if tensor.is_meta:
        place = f"'{one_line(str(name))}'" if name else "a tensor"
        raise CraftedFileError(f"{place} has no values (device meta); save the weights after they were loaded")
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu" or tensor.is_nested:
        kind = "quantised" if tensor.is_quantized else str(tensor.layout).removeprefix("torch.").replace("strided", tensor.device.type)
        raise CraftedFileError(f"a tensor of shape {shape} is {kind}; save dense tensors, with tensor.dequantize() or tensor.to_dense()")
    # A stride of 0 repeats one element any number of times; and torch does not fill memory that an old file claims and does not contain.
    if tensor.numel() * tensor.element_size() > min(size, tensor.untyped_storage().nbytes()):
        raise CraftedFileError(f"a tensor of shape {shape} has more elements than the file; save a copy of it, with tensor.contiguous()")

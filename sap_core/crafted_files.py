"""Checks of pickles and zip archives before they are read: instructions and sizes that would crash a reader or fill the memory.

Standard library only. A pickle's instructions are read here and never run.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Callable, Iterable
from typing import IO, Any

MAX_DEPTH = 500
"""Deepest nesting of tuples. One nested a million times overflows the C stack when it is hashed as a key."""

_EXPANSION, _ALWAYS = 200, 1 << 28
"""An archive may expand to this many times its size, and to 256 MB in any case; arrays of pixels or weights compress tenfold at most."""

_MARK = -1
"""A mark on the stack; other entries are depths."""


class CraftedFileError(ValueError):
    """A file claims or nests more than files of its kind do; the message is a part of a sentence that says what."""


class Stateless:
    """A function that a pickle may call and cannot change: BUILD sets attributes, and a function's default arguments are attributes."""

    __slots__ = ("_call",)

    _call: Callable[..., Any]

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "_call", call)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._call(*arguments, **named)

    def __setattr__(self, name: str, value: Any) -> None:
        raise ValueError("a pickle may not change a function")

    def __setstate__(self, state: Any) -> None:
        raise ValueError("a pickle may not change a function")


def check_instructions(stream: IO[bytes], allowed: frozenset[str] | None = None, seen: Callable[[str], None] = lambda name: None) -> None:
    """Read the instructions of one pickle, up to its STOP.

    Args:
        stream: at the beginning of the pickle.
        allowed: names of the allowed instructions; None: all but those that read the registry of extensions.
        seen: called with the text `module name` of each name that an instruction contains.

    Raises:
        CraftedFileError: an instruction is not allowed, claims more memory than the file fills, or nests tuples too deeply.
        ValueError: the pickle is incomplete or damaged.
    """
    stack: list[int] = []
    memo: dict[int, int] = {}
    for number, (code, argument, _) in enumerate(pickletools.genops(stream)):
        if code.name in ("GLOBAL", "INST"):
            seen(str(argument))
        if code.name.startswith("EXT") or (allowed is not None and code.name not in allowed):
            raise CraftedFileError(f"the instruction {code.name} is not one of plain data")
        # The memo is a list that grows to twice the largest number, whether or not the numbers below are used.
        if code.name.endswith("PUT") and int(str(argument)) > number:
            raise CraftedFileError(f"the memo number {argument} is above the number of instructions")
        _step(code, argument, stack, memo)


def _step(code: pickletools.OpcodeInfo, argument: Any, stack: list[int], memo: dict[int, int]) -> None:
    """Follow the depth of tuples on the stack through one instruction."""
    if code.name == "MEMOIZE" or code.name.endswith("PUT"):
        memo[len(memo) if code.name == "MEMOIZE" else int(argument)] = stack[-1] if stack else 0
        return
    taken = []
    before = list(code.stack_before)
    if pickletools.markobject in before:
        while stack and (top := stack.pop()) != _MARK:
            taken.append(top)
        before = before[: before.index(pickletools.markobject)]
    for _ in before:
        taken.append(stack.pop() if stack else 0)
    depth = max(taken, default=0) + code.name.startswith(("TUPLE", "FROZENSET"))
    if depth > MAX_DEPTH:
        raise CraftedFileError(f"tuples are nested deeper than {MAX_DEPTH} levels")
    if code.name.endswith("GET"):
        depth = memo.get(int(argument), 0)
    stack.extend(_MARK if after is pickletools.markobject else depth for after in code.stack_after)


def check_expansion(archive: zipfile.ZipFile, stored: int) -> None:
    """Check that a zip archive of `stored` bytes does not expand beyond what arrays compress to.

    Raises:
        CraftedFileError: it claims to be larger, or its entries overlap.
    """
    check_size(sum(info.file_size for info in archive.infolist()), stored)
    check_overlap((info.header_offset, info.compress_size) for info in archive.infolist())


def most_bytes(stored: int) -> int:
    """The size to which compressed content of `stored` bytes may expand."""
    return max(_ALWAYS, _EXPANSION * stored)


def check_size(expanded: int, stored: int) -> None:
    """Check the size of compressed content.

    Raises:
        CraftedFileError: it expands beyond what data compress to.
    """
    if expanded > most_bytes(stored):
        raise CraftedFileError(f"its {stored:,} bytes expand to more than {most_bytes(stored):,}; if it is yours, save it uncompressed")


def check_overlap(places: Iterable[tuple[int, int]]) -> None:
    """Check that no two entries of an archive share bytes, as those of a bomb do.

    Raises:
        CraftedFileError: they do.
    """
    end = -1
    for start, size in sorted(places):
        if start < end:
            raise CraftedFileError("its entries overlap")
        end = start + size

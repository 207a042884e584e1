"""Looks for code in a pickle without running it.

CIFAR's files are pickles, and loading a pickle runs whatever functions it names. A file that only holds dicts, lists, numbers, strings and
numpy arrays names the few below; any other name, or any other use of them, is a reason not to load it. The scan plays the pickle's stack
through with the effects that the standard library's `pickletools` states for each operation, and knows a thing on the stack only as a text,
a name, or neither.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass

CALLED = frozenset(
    {
        "numpy dtype",
        "numpy.core.multiarray _reconstruct",
        "numpy._core.multiarray _reconstruct",
        "numpy.core.numeric _frombuffer",
        "numpy._core.numeric _frombuffer",
        "_codecs encode",
    }
)
ALLOWED = CALLED | {"numpy ndarray"}
"""The array class itself is only handed to `_reconstruct`: called, it would take any bytes for pointers to objects."""

_TEXT = frozenset({"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"})
_PUT = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GET = frozenset({"GET", "BINGET", "LONG_BINGET"})
_REFUSED = frozenset({"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID"})  # no array needs them
_MARK = object()


@dataclass(frozen=True)
class _Name:
    """A function or class on the stack: module, space, name."""

    text: str


def foreign_name(data: bytes) -> str | None:
    """The first thing in this pickle that no array needs: a name outside `ALLOWED`, or a call of something else; None if there is none.

    Raises:
        ValueError: this is no complete pickle.
    """
    stack: list[object] = []
    memo: dict[int, object] = {}
    try:
        for operation, argument, _ in pickletools.genops(data):
            kind = operation.name
            if kind in _PUT or kind == "MEMOIZE":
                memo[len(memo) if kind == "MEMOIZE" else int(str(argument))] = stack[-1]
                continue
            refused = _refused(kind, str(argument), stack)
            if refused is not None:
                return refused
            made = memo.get(int(str(argument))) if kind in _GET else _made(kind, argument, stack)
            _pop(stack, [item.name for item in operation.stack_before])
            stack += [made] * len(operation.stack_after)
    except Exception as error:  # a parser fed with arbitrary bytes
        raise ValueError(f"not a complete pickle: {error}") from error
    return None


def _refused(kind: str, argument: str, stack: list[object]) -> str | None:
    """What this operation would name or call, if that is not allowed."""
    if kind in _REFUSED:
        return f"{kind} {argument}"
    if kind == "GLOBAL" and argument not in ALLOWED:
        return argument
    if kind == "STACK_GLOBAL":
        words = [word if isinstance(word, str) else "?" for word in stack[-2:]]
        return None if " ".join(words) in ALLOWED else " ".join(words)
    if kind in ("REDUCE", "BUILD"):
        target = stack[-2]
        if kind == "REDUCE" and not (isinstance(target, _Name) and target.text in CALLED):
            return f"call of {target.text if isinstance(target, _Name) else '?'}"
        if kind == "BUILD" and isinstance(target, _Name):
            return f"change of {target.text}"
    return None


def _made(kind: str, argument: object, stack: list[object]) -> object:
    """What the operation pushes, as far as the scan knows things."""
    if kind == "MARK":
        return _MARK
    if kind in _TEXT:
        return str(argument)
    if kind == "GLOBAL":
        return _Name(str(argument))
    if kind == "STACK_GLOBAL":
        return _Name(f"{stack[-2]} {stack[-1]}")
    return None


def _pop(stack: list[object], taken: list[str]) -> None:
    """Takes off what the operation consumes; with a mark among it, everything down to the topmost mark first."""
    if "mark" in taken:
        while stack.pop() is not _MARK:
            pass
        taken = taken[: taken.index("mark")]
    for _ in taken:
        stack.pop()

"""Looks for code in a pickle without running it.

CIFAR's files are pickles, and loading a pickle runs whatever functions it names. A file that only holds dicts, lists, numbers, strings and
numpy arrays names the few functions below; any other name is a reason not to load it.
"""

from __future__ import annotations

import pickletools

ALLOWED = frozenset(
    {
        "numpy ndarray",
        "numpy dtype",
        "numpy.core.multiarray _reconstruct",
        "numpy._core.multiarray _reconstruct",
        "numpy.core.numeric _frombuffer",
        "numpy._core.numeric _frombuffer",
        "_codecs encode",
    }
)

_TEXT = frozenset({"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"})
_PUT = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GET = frozenset({"GET", "BINGET", "LONG_BINGET"})
_NEUTRAL = frozenset({"PROTO", "FRAME", "MEMOIZE"}) | _PUT  # leave the stack as it is
_ALWAYS_REFUSED = frozenset({"INST", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID"})  # name things in ways that no array needs


def foreign_name(data: bytes) -> str | None:
    """The first thing outside `ALLOWED` that this pickle would import; None when there is none.

    STACK_GLOBAL takes its two words from the stack. They are only believed when the two operations just before it pushed known texts
    (directly or from the memo), as every pickler writes it; anything more devious is refused.

    Raises:
        ValueError: this is no complete pickle.
    """
    memo: dict[int, str | None] = {}
    module: str | None = None
    name: str | None = None  # `module` and `name` are the last two things pushed, None where they are not known texts
    try:
        for operation, argument, _ in pickletools.genops(data):
            kind = operation.name
            if kind == "GLOBAL" and argument not in ALLOWED:
                return str(argument)
            if kind == "STACK_GLOBAL" and f"{module} {name}" not in ALLOWED:
                return f"{module or '?'} {name or '?'}"
            if kind in _ALWAYS_REFUSED:
                return f"{kind} {argument}"
            if kind in _PUT:
                memo[int(str(argument))] = name
            elif kind == "MEMOIZE":
                memo[len(memo)] = name
            elif kind in _GET:
                module, name = name, memo.get(int(str(argument)))
            elif kind not in _NEUTRAL:
                module, name = name, str(argument) if kind in _TEXT else None
    except Exception as error:  # a parser fed with arbitrary bytes
        raise ValueError(f"not a complete pickle: {error}") from error
    return None

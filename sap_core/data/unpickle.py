"""Restricted unpickling of dicts, lists, numbers, strings and numeric numpy arrays.

A pickle may call any function that it can import. This module restricts `find_class`, as the documentation of `pickle` recommends: the few
names that numeric arrays need are looked up in a table, and any other name ends the load before it is imported.

That alone does not suffice. numpy's own types change when a pickle sets their state (BUILD on a dtype clears the flags that mark bytes as
pointers), so the pickle only ever handles records of this module (`_Dtype`, `_Array`); arrays are made of them afterwards, from bytes that
are in the file. Before the load the opcodes are read without running them: only those that plain data need are allowed, with sizes and
numbers that the length of the file bounds.

Source: https://docs.python.org/3/library/pickle.html#restricting-globals
"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from sap_core.crafted_files import Stateless, check_instructions

_OPCODES = frozenset({
    "PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "DUP", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET",
    "LONG_BINGET", "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT",
    "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES",
    "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_DICT", "DICT", "SETITEM",
    "SETITEMS", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD",
})  # fmt: skip
"""Instructions of the published files and of arrays that numpy pickles: none makes an object of another class, or reads a registry."""

_MAX_DEPTH = 20
"""Deepest nesting of containers."""

_DTYPE = re.compile(r"[biuf](1|2|4|8|16)")
"""Booleans, integers and floats. The bytes of an array of objects would be taken for pointers."""


class ForbiddenGlobalError(Exception):
    """A pickle uses a function or class that numeric arrays do not need; the message is its dotted name."""


def load_arrays(data: bytes) -> object:
    """Return the content of a pickle; strings that Python 2 stored as bytes are decoded as Latin-1.

    Raises:
        ForbiddenGlobalError: the pickle uses another function or class, which was neither imported nor called.
        ValueError: `data` is not a complete pickle, or claims more than it contains.
    """
    try:
        # Each name before the instruction that uses it: a refused name calls for another message than a refused instruction.
        check_instructions(io.BytesIO(data), _OPCODES, _check_name)
        # CIFAR's files were written by Python 2, whose strings Python 3 reads as bytes unless an encoding is given.
        loaded = _ArrayUnpickler(io.BytesIO(data), encoding="latin1").load()
        return _Finished(len(data)).plain(loaded)
    # Passed on unchanged, because a refused name calls for another message than a damaged file.
    except ForbiddenGlobalError:
        raise
    except Exception as error:  # a parser fed with arbitrary bytes
        raise ValueError(f"not a complete pickle: {error}") from error


class _Dtype:
    """The type of an array's values, as the pickle describes it."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or not _DTYPE.fullmatch(code):
            raise ForbiddenGlobalError(f"numpy.dtype({str(code)[:100]!r})")
        self.code = code
        self.order: Literal["<", ">", "|", "="] = "="

    def __setstate__(self, state: Any) -> None:
        # (version, byte order, subarray, names, fields, size, alignment, flags); the flags are not taken over.
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in ("<", ">", "|", "=") or any(state[2:5]):
            raise ForbiddenGlobalError(f"numpy.dtype({self.code!r}).__setstate__")
        self.order = state[1]

    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.code).newbyteorder("=" if self.order == "|" else self.order)


class _Array:
    """An array, as the pickle describes it: its type, shape and bytes."""

    __slots__ = ("buffer", "dtype", "native", "order", "shape")

    def __init__(self) -> None:
        self.buffer: Any = b""
        self.dtype: Any = None
        self.shape: Any = (0,)
        self.order: Any = "C"
        self.native = False

    def __setstate__(self, state: Any) -> None:
        # (version, shape, type, whether columns come first, bytes)
        _, self.shape, self.dtype, columns, self.buffer = state
        self.order = "F" if columns else "C"
        # As numpy does with an array whose state is set.
        self.native = True

    def array(self) -> np.ndarray[Any, Any]:
        # Strings that Python 2 stored as bytes arrive as text.
        buffer = self.buffer.encode("latin1") if isinstance(self.buffer, str) else self.buffer
        if not isinstance(self.dtype, _Dtype) or not isinstance(buffer, bytes | bytearray) or self.order not in ("C", "F"):
            raise ValueError("an array has no type, no bytes or no order")
        if not isinstance(self.shape, tuple) or len(self.shape) > 32 or any(type(size) is not int or size < 0 for size in self.shape):
            raise ValueError("the shape of an array is not a tuple of sizes")
        dtype = self.dtype.dtype()
        if math.prod(self.shape) * dtype.itemsize != len(buffer):
            raise ValueError(f"an array of shape {self.shape} and type {dtype} has {len(buffer)} bytes")
        # A copy, because arrays over bytes are read-only.
        found = np.frombuffer(buffer, dtype).reshape(self.shape, order=self.order)
        return found.astype(dtype.newbyteorder("=") if self.native else dtype, order=self.order)


class _ArrayUnpickler(pickle.Unpickler):  # noqa: S301 (find_class below is the restriction that the rule asks for)
    def find_class(self, module: str, name: str) -> Any:
        # Before any import: importing alone may run code.
        return Stateless(_find(module, name))


def _check_name(text: str) -> None:
    _find(*text.split(" ", 1))


def _find(module: str, name: str = "") -> Callable[..., Any]:
    if (module, name) not in _GLOBALS:
        raise ForbiddenGlobalError(f"{module}.{name}")
    return _GLOBALS[module, name]


def _empty_array(*_: object) -> _Array:
    # Shape, dtype and values follow in the array's state.
    return _Array()


def _array_of(buffer: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    found = _Array()
    found.buffer, found.dtype, found.shape, found.order = buffer, dtype, shape, order
    return found


def _encode(text: Any, encoding: Any) -> bytes:
    # The only codec that pickles of bytes name; others decompress or import.
    if encoding != "latin1" or not isinstance(text, str):
        raise ForbiddenGlobalError(f"_codecs.encode({str(encoding)[:100]!r})")
    return text.encode("latin1")


def _array_class(*_: object) -> None:
    # An argument of `_reconstruct`, never called by a pickle that numpy made.
    raise ForbiddenGlobalError("numpy.ndarray()")


_GLOBALS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _array_class,
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,  # numpy 1, and Python 2
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("numpy.core.numeric", "_frombuffer"): _array_of,
    ("numpy._core.numeric", "_frombuffer"): _array_of,
    ("_codecs", "encode"): _encode,
}


class _Finished:
    """Turns what was loaded into plain data and arrays, which together have no more bytes than the file."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        # By identity: a list that is stored once and named a thousand times is converted once. The objects are kept, so that no other one
        # gets their identity.
        self._known: dict[int, tuple[Any, Any]] = {}

    def plain(self, value: Any, depth: int = 0) -> Any:
        if value is None or isinstance(value, bool | int | float | str | bytes | bytearray):
            return value
        if depth > _MAX_DEPTH:
            raise ValueError(f"containers are nested deeper than {_MAX_DEPTH} levels")
        if id(value) in self._known:
            return self._known[id(value)][1]
        found: Any
        if isinstance(value, _Array):
            found = value.array()
            self._left -= found.nbytes
            if self._left < 0:
                raise ValueError("its arrays have more bytes than the file")
        elif isinstance(value, list | tuple):
            found = type(value)(self.plain(item, depth + 1) for item in value)
        elif isinstance(value, dict):
            found = {self.plain(key, depth + 1): self.plain(item, depth + 1) for key, item in value.items()}
        else:
            raise ValueError(f"it contains a {type(value).__name__.lstrip('_').lower()} in place of data")
        self._known[id(value)] = (value, found)
        return found

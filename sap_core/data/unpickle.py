"""Restricted unpickling of dicts, lists, numbers, strings and numeric numpy arrays.

A pickle may call any function that it can import. This module restricts `find_class`, as the documentation of `pickle` recommends: the few
names that numeric arrays need are looked up in a table, and any other name ends the load before it is imported. The table contains
functions of this module instead of numpy's, which accept more: they would interpret the bytes of an object array as pointers.

Source: https://docs.python.org/3/library/pickle.html#restricting-globals
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


class ForbiddenGlobalError(Exception):
    """A pickle uses a function or class that numeric arrays do not need; the message is its dotted name."""


def load_arrays(data: bytes) -> object:
    """Return the content of a pickle; strings that Python 2 stored as bytes are decoded as Latin-1.

    Raises:
        ForbiddenGlobalError: the pickle uses another function or class, which was neither imported nor called.
        ValueError: `data` is not a complete pickle.
    """
    try:
        # CIFAR's files were written by Python 2, whose strings Python 3 reads as bytes unless an encoding is given.
        return _ArrayUnpickler(io.BytesIO(data), encoding="latin1").load()
    # Passed on unchanged, because a refused name calls for another message than a damaged file.
    except ForbiddenGlobalError:
        raise
    except Exception as error:  # a parser fed with arbitrary bytes
        raise ValueError(f"not a complete pickle: {error}") from error


class _ArrayUnpickler(pickle.Unpickler):  # noqa: S301 (find_class below is the restriction that the rule asks for)
    def find_class(self, module: str, name: str) -> Any:
        # Before any import: importing alone may run code.
        if (module, name) not in _GLOBALS:
            raise ForbiddenGlobalError(f"{module}.{name}")
        return _GLOBALS[module, name]


def _dtype(code: object, *_: object) -> np.dtype[Any]:
    # A copy, because the pickle's next instruction sets the byte order of what is returned here.
    dtype = np.dtype(code, copy=True) if isinstance(code, str) else None
    # Booleans, integers and floats only: an object array's bytes would be taken for pointers.
    if dtype is None or dtype.kind not in "biuf":
        raise ForbiddenGlobalError(f"numpy.dtype({code!r})")
    return dtype


def _empty_array(*_: object) -> np.ndarray[Any, Any]:
    # Shape, dtype and values follow in the array's state.
    return np.empty(0, np.int8)


def _array_of(buffer: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], order: Any) -> np.ndarray[Any, Any]:
    # The dtype has passed `_dtype`, so the bytes are numbers.
    return np.frombuffer(buffer, dtype).reshape(shape, order=order)


def _encode(text: str, encoding: str) -> bytes:
    # The only codec that pickles of bytes name; others decompress or import.
    if encoding != "latin1":
        raise ForbiddenGlobalError(f"_codecs.encode({encoding!r})")
    return text.encode("latin1")


def _array_class(*_: object) -> None:
    # An argument of `_reconstruct`, never called by a pickle that numpy made.
    raise ForbiddenGlobalError("numpy.ndarray()")


_GLOBALS: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _dtype,
    ("numpy", "ndarray"): _array_class,
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,  # numpy 1, and Python 2
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("numpy.core.numeric", "_frombuffer"): _array_of,
    ("numpy._core.numeric", "_frombuffer"): _array_of,
    ("_codecs", "encode"): _encode,
}

"""Storing and loading of states as safetensors with a checksum, written atomically; pickle is never written or read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, contiguous_format, uint8

from sap_core.api import State
from sap_core.checksum import ZEROS, Checksum, checksum, seal
from sap_core.errors import DamagedFile
from sap_core.files import CHECKSUM_KEY, DAMAGED, parse_json, replacing

# safetensors has one flat table of names, so nested keys are joined by a control character that no key contains.
_SEPARATOR = "\x1f"

SUFFIX = ".safetensors"
"""The format, for `sap_core.checksum`."""


def save_state(path: Path, state: State) -> None:
    """Store nested dicts of tensors, numbers and strings in one safetensors file; values other than tensors go to its header as JSON.

    The header's JSON begins with the file's checksum (`sap_core.checksum`).

    Raises:
        StorageError: the operating system refused to write.
        TypeError: a value of another type, or a key that is not a string.
    """
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    for key, value in _leaves(state):
        if isinstance(value, Tensor):
            # Contiguous, because the format stores no strides, and cloned, because it refuses tensors that share memory.
            tensors[key] = value.detach().cpu().clone(memory_format=contiguous_format)
        # An empty dict has no leaves and would vanish, so it is stored as a value.
        elif value is None or value == {} or isinstance(value, bool | int | float | str | list | tuple):
            plain[key] = value
        else:
            raise TypeError(f"a state contains tensors, numbers, strings and dicts of these, not {type(value).__name__} (at {key!r})")
    # A process may be killed while it writes; the checkpoint before remains valid until the new one is complete.
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={"plain": json.dumps({CHECKSUM_KEY: ZEROS, **plain})})
        except SafetensorError as error:  # safetensors raises it in place of OSError
            raise OSError(str(error)) from error
        seal(temporary, path, SUFFIX)


def load_state(path: Path) -> State:
    """Load a state of `save_state`; tensors are on the CPU. The checksum, if the file has one, is verified first.

    Raises:
        DamagedFile: the file differs from its checksum, or is not a state.
    """
    state: State = {}
    try:
        if checksum(path, SUFFIX) is Checksum.DAMAGED:
            raise ValueError(DAMAGED)
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 (not a dict)
                _put(state, key, file.get_tensor(key))
            # Numbers and texts are in the header: floats survive JSON exactly, since it writes them by repr.
            plain = parse_json((file.metadata() or {}).get("plain", "{}"))
            if not isinstance(plain, dict):
                raise ValueError("its header is not a JSON object")
            plain.pop(CHECKSUM_KEY, None)
            for key, value in plain.items():
                _put(state, key, value)
    # A header without a checksum may have any content, which safetensors and torch answer with errors of their own.
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, OverflowError, MemoryError) as error:
        # Deleting is a safe remedy: artifacts are computed again from the plan.
        raise DamagedFile(
            f"{path} is damaged ({' '.join(str(error).split())[:300]}); delete its folder {path.parent} and start the sweep again to "
            "recompute it"
        ) from error
    return state


def same_bits(one: State, other: State) -> bool:
    """Whether two states have the same keys and values, tensors bit by bit."""
    left, right = dict(_leaves(one)), dict(_leaves(other))
    return left.keys() == right.keys() and all(_bits(left[key]) == _bits(right[key]) for key in left)


def _bits(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    # As bytes: NaN is unequal to itself, and numpy has no bfloat16.
    return value.dtype, value.shape, value.detach().cpu().contiguous().reshape(-1).view(uint8).numpy().tobytes()


def _leaves(state: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in state.items():
        # Refused at saving: such a state would be restored with other keys.
        if not isinstance(key, str) or _SEPARATOR in key:
            raise TypeError(f"keys of a state are strings, not {key!r}")
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}{_SEPARATOR}")
        else:
            yield f"{prefix}{key}", value


def _put(state: State, key: str, value: Any) -> None:
    *parents, leaf = key.split(_SEPARATOR)
    for parent in parents:
        state = state.setdefault(parent, {})
        if not isinstance(state, dict):
            raise ValueError(f"its key {key!r} is below a value")
    if leaf in state:
        raise ValueError(f"its key {key!r} occurs twice")
    state[leaf] = value

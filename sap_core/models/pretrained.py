"""Pretrained weights from a local file; nothing is ever downloaded.

A file is a state dict as torchvision (or timm) publishes it: written by `torch.save` and read with `weights_only=True`, so that no code in
it can run, or safetensors. Training scripts often put it under a key of a larger dict ("state_dict", "model", "net"), and DataParallel puts
"module." before every name: a single such key is taken and the prefix dropped, which is said in a warning. A head for another number of
classes stays freshly initialised, which is said in a warning, too; whatever else does not fit is refused by name. What identifies a network
is the content of its file, not its path: see `sweeper.config.component`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sap_core.errors import UserError
from sap_core.location import HOME

_WRAPPED = "module."
"""What DataParallel puts before every name."""


def weights_file(path: str, key: str = "weights") -> Path:
    """The file that the setting `key` names.

    Raises:
        UserError: there is none.
    """
    found = HOME / Path(path).expanduser()
    if not found.is_file():
        raise UserError(f"{key}={path} is no file ({found} does not exist); give the path of a state dict that lies there")
    return found


def load_pretrained(model: nn.Module, path: str, head: str) -> None:
    """Fills `model` with the state dict in the file `path`; `head` is the dotted name of its last linear layer.

    On the meta device names and shapes are checked and nothing is filled.

    Raises:
        UserError: no such file, no state dict in it, or names or shapes that are not the network's.
    """
    file = weights_file(path)
    state = dict(_read(file, model))  # a plain one: torch then takes published files of earlier versions of its layers too
    own, given = model.get_parameter(f"{head}.weight"), state.get(f"{head}.weight")
    fresh = [f"{head}.weight", f"{head}.bias"] if given is not None and given.shape[1:] == own.shape[1:] and len(given) != len(own) else []
    for name in fresh:
        state.pop(name, None)
    try:
        with warnings.catch_warnings():
            if own.is_meta:
                warnings.simplefilter("ignore")  # of having no effect there
            keys = model.load_state_dict(state, strict=False)
    except RuntimeError as error:  # one line per shape that differs
        odd = [line.strip() for line in str(error).splitlines()[1:]]
        raise UserError(f"{file} holds weights of another network than {type(model).__name__}: {_some(odd, '; ')}") from error
    lacking = [name for name in keys.missing_keys if name not in fresh and not name.endswith("num_batches_tracked")]
    if lacking or keys.unexpected_keys:
        raise UserError(
            f"{file} holds weights of another network than {type(model).__name__}: it lacks {_some(lacking)}, and has besides "
            f"{_some(keys.unexpected_keys)}; give the state dict of the same network"
        )
    if fresh and given is not None:
        warnings.warn(f"{file} has a head for {len(given)} classes; the head for {len(own)} starts freshly initialised", stacklevel=2)


def load_whole(model: nn.Module, path: str, key: str = "weights") -> None:
    """Fills `model` with the state dict in the file `path`, which the setting `key` names; every name and shape must be the network's.

    Raises:
        UserError: no such file, no state dict in it, or names or shapes that are not the network's.
    """
    file = weights_file(path, key)
    try:
        model.load_state_dict(_read(file, model))
    except RuntimeError as error:  # one line per name or shape that differs
        odd = [line.strip().rstrip(". ") for line in str(error).splitlines()[1:]]
        raise UserError(f"{file} holds weights of another network than {type(model).__name__}: {_some(odd, '; ')}") from error


def _read(file: Path, model: nn.Module) -> Mapping[str, Tensor]:
    """The state dict in a file, under the names of `model`."""
    try:
        found: Any = load_file(file) if file.suffix == ".safetensors" else torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a reader may say of bytes that it cannot make sense of
        said = str(error).strip().split("\n", 1)[0]
        raise UserError(f"{file} cannot be read as weights ({said}); give a file of tensors alone, by torch.save or safetensors") from error
    state, key = _state_in(found, file)
    wrapped = all(name.startswith(_WRAPPED) for name in state) and not all(name.startswith(_WRAPPED) for name in model.state_dict())
    if wrapped:
        state = {name.removeprefix(_WRAPPED): value for name, value in state.items()}
    taken = [f"under its key '{key}'"] * (key is not None) + [f"with '{_WRAPPED}' dropped from their names"] * wrapped
    if taken:
        warnings.warn(f"{file}: the weights are those {' and '.join(taken)}", stacklevel=2)
    return state


def _state_in(found: Any, file: Path) -> tuple[Mapping[str, Tensor], str | None]:
    """The state dict that a file holds, and the key under which it lies; None where it is the whole file."""
    if _is_state(found):
        return found, None
    keys = [key for key, value in found.items() if _is_state(value)] if isinstance(found, Mapping) else []
    if len(keys) == 1:
        return found[keys[0]], str(keys[0])
    if keys:
        raise UserError(
            f"{file} holds {len(keys)} state dicts, under the keys {_some([repr(key) for key in keys])}, and which one is meant cannot be "
            f"known; save that one by itself"
        )
    raise UserError(f"{file} holds no state dict (names and tensors), neither whole nor under a key; save the state dict by itself")


def _is_state(value: Any) -> bool:
    """Names and tensors, and at least one."""
    return isinstance(value, Mapping) and bool(value) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())


def _some(names: Sequence[str], between: str = ", ") -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return between.join(names[:3]) + more if names else "nothing"

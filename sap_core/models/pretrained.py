"""Loading of pretrained weights from a local file; nothing is downloaded.

A file is a state dict as published by torchvision or timm: written by `torch.save` and read with `weights_only=True`, so that no code of it
can run, or safetensors. Training scripts often store it under a key of a larger dict ("state_dict", "model", "net"), and DataParallel puts
"module." before every name: a single such key is used and the prefix is removed, with a warning. A head for another number of classes keeps
its initialisation, with a warning; any other mismatch is refused by name. Ids contain the SHA-256 of the file, not its path.
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
"""Prefix that DataParallel puts before every name."""


def weights_file(path: str, key: str = "weights") -> Path:
    """Return the path of the file that the option `key` names.

    Raises:
        UserError: the file does not exist.
    """
    # An absolute path replaces HOME; a relative one means the same in every working directory.
    found = HOME / Path(path).expanduser()
    if not found.is_file():
        raise UserError(f"{key}={path} is not a file ({found} does not exist); set it to the path of a state dict")
    return found


def load_pretrained(model: nn.Module, path: str, head: str) -> None:
    """Load a state dict into `model`, except for a head with another number of classes.

    On the meta device only names and shapes are checked.

    Args:
        model: the network.
        path: path of the file.
        head: dotted name of the last linear layer.

    Raises:
        UserError: the file does not exist, contains no state dict, or its names or shapes are not those of the network.
    """
    file = weights_file(path)
    # A plain dict without _metadata, so that torch also loads files of earlier versions of its layers.
    state = dict(read_state(file, model))
    own, given = model.get_parameter(f"{head}.weight"), state.get(f"{head}.weight")
    # Fine-tuning for other classes: only the number of outputs may differ, not the number of features.
    fresh = [f"{head}.weight", f"{head}.bias"] if given is not None and given.shape[1:] == own.shape[1:] and len(given) != len(own) else []
    # Left out of the state, so that the head keeps the initialisation of the run's seed.
    for name in fresh:
        state.pop(name, None)
    try:
        with warnings.catch_warnings():
            if own.is_meta:
                # torch warns that loading has no effect on the meta device, where only names and shapes are checked.
                warnings.simplefilter("ignore")
            # Not strict, because the head may be absent; what else is missing or surplus is refused below.
            keys = model.load_state_dict(state, strict=False)
    except RuntimeError as error:  # one line per shape that differs
        odd = [line.strip() for line in str(error).splitlines()[1:]]
        raise UserError(f"{file} contains weights of another network than {type(model).__name__}: {_some(odd, '; ')}") from error
    # Files of early torch versions lack the counters of batch norm, which are used only by norms with a cumulative average.
    lacking = [name for name in keys.missing_keys if name not in fresh and not name.endswith("num_batches_tracked")]
    if lacking or keys.unexpected_keys:
        raise UserError(
            f"{file} contains weights of another network than {type(model).__name__}: it lacks {_some(lacking)}, and additionally has "
            f"{_some(keys.unexpected_keys)}; use a state dict of this network"
        )
    if fresh and given is not None:
        warnings.warn(f"{file} has a head for {len(given)} classes; the head for {len(own)} classes keeps its initialisation", stacklevel=2)


def load_state_strictly(model: nn.Module, path: str, key: str = "weights") -> None:
    """Load a complete state dict into `model`; all names and shapes must be those of the network.

    Args:
        model: the network.
        path: path of the file.
        key: option that names the file, for messages.

    Raises:
        UserError: the file does not exist, contains no state dict, or its names or shapes are not those of the network.
    """
    file = weights_file(path, key)
    try:
        # Strict: this file replaces a whole training, so that a missing tensor would leave random weights in its place.
        model.load_state_dict(read_state(file, model))
    except RuntimeError as error:  # one line per name or shape that differs
        odd = [line.strip().rstrip(". ") for line in str(error).splitlines()[1:]]
        raise UserError(f"{file} contains weights of another network than {type(model).__name__}: {_some(odd, '; ')}") from error


def read_state(file: Path, model: nn.Module) -> Mapping[str, Tensor]:
    """Return the state dict of a file, with the names of `model`.

    Raises:
        UserError: the file cannot be read, or contains no state dict or several.
    """
    try:
        # On the CPU whatever device the file was saved from; `weights_only` lets tensors in and no code.
        found: Any = load_file(file) if file.suffix == ".safetensors" else torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # readers may raise anything on arbitrary bytes
        reason = str(error).strip().split("\n", 1)[0]
        raise UserError(
            f"{file} cannot be read as weights ({reason}); use a file that contains tensors only, written by torch.save or safetensors"
        ) from error
    state, key = _state_in(found, file)
    # Only if the network's own names do not have the prefix, too.
    wrapped = all(name.startswith(_WRAPPED) for name in state) and not all(name.startswith(_WRAPPED) for name in model.state_dict())
    if wrapped:
        state = {name.removeprefix(_WRAPPED): value for name, value in state.items()}
    changes = [f"under its key '{key}'"] * (key is not None) + [f"with '{_WRAPPED}' removed from their names"] * wrapped
    if changes:
        warnings.warn(f"{file}: using the weights {' and '.join(changes)}", stacklevel=2)
    return state


def _state_in(found: Any, file: Path) -> tuple[Mapping[str, Tensor], str | None]:
    """Return the state dict in the content of a file, and its key; None if the content itself is the state dict."""
    # The file's own level first; a wrapper is looked for only if it is no state dict itself.
    if _is_state(found):
        return found, None
    keys = [key for key, value in found.items() if _is_state(value)] if isinstance(found, Mapping) else []
    # With several, such as a network and its moving average, it is not known which one is meant.
    if len(keys) == 1:
        return found[keys[0]], str(keys[0])
    if keys:
        raise UserError(
            f"{file} contains {len(keys)} state dicts, under the keys {_some([repr(key) for key in keys])}; "
            f"save the one to use as a separate file"
        )
    raise UserError(f"{file} contains no state dict (names and tensors); save the state dict as a separate file")


def _is_state(value: Any) -> bool:
    """Return whether a value is a dict of names and tensors with at least one entry."""
    return isinstance(value, Mapping) and bool(value) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())


def _some(names: Sequence[str], between: str = ", ") -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return between.join(names[:3]) + more if names else "nothing"

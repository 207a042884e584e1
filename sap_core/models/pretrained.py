"""Loading of weights from a local file into a network; nothing is downloaded, and no code of a file runs.

A file holds a state dict in one of the formats of `weight_files`, at its top level or under any key of a larger dict, with the network's
names or with what training programs and wrappers put before them (`state_names`). Its tensors are converted to the network's types; weights
that are not finite, and names and shapes that are not the network's, are refused. Ids contain the SHA-256 of the file, not its path.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from sap_core.command_line import home_expanded
from sap_core.errors import UserError, unknown
from sap_core.location import HOME
from sap_core.models.mismatch import OTHER_NETWORK, explain_mismatch, some
from sap_core.models.state_names import Candidate, find_candidates, is_of_training
from sap_core.models.weight_files import read_weights
from sap_core.models.weights_path import check_exists


def weights_file(path: str, key: str = "weights") -> Path:
    """Return the path of the file that the option `key` names.

    Raises:
        UserError: the file does not exist.
    """
    # An absolute path replaces HOME; a relative one means the same in every working directory.
    found = HOME / home_expanded(path)
    if found.is_dir():
        # Its message says which file of the folder to name.
        read_weights(found, key)
    check_exists(path, key)
    return found


def load_pretrained(model: nn.Module, path: str, head: str) -> None:
    """Load a state dict into `model`, except for a head with another number of classes.

    On the meta device names, shapes and values are checked, and nothing is loaded.

    Args:
        model: the network.
        path: path of the file.
        head: dotted name of the last linear layer.

    Raises:
        UserError: the file does not exist, contains no state dict, its names or shapes are not those of the network, or its weights are
            not finite.
    """
    state = read_state(path, model)
    own, given = model.get_parameter(f"{head}.weight"), state.get(f"{head}.weight")
    # Fine-tuning for other classes: only the number of outputs may differ, not the number of features.
    fresh = [f"{head}.weight", f"{head}.bias"] if given is not None and given.shape[1:] == own.shape[1:] and len(given) != len(own) else []
    # Left out of the state, so that the head keeps the initialisation of the run's seed.
    for name in fresh:
        state.pop(name, None)
    _load(model, state, weights_file(path), optional=fresh)
    if fresh and given is not None:
        warnings.warn(
            f"{weights_file(path)} has a head for {len(given)} classes; the head for {len(own)} classes keeps its initialisation",
            stacklevel=2,
        )


def load_state_strictly(model: nn.Module, path: str, option: str = "weights", key: str | None = None) -> None:
    """Load a complete state dict into `model`; all names and shapes must be those of the network.

    On the meta device names, shapes and values are checked, and nothing is loaded.

    Args:
        model: the network.
        path: path of the file.
        option: option that names the file, for messages.
        key: which weights of the file, if it contains several; see `read_state`.

    Raises:
        UserError: the file does not exist, contains no state dict, its names or shapes are not those of the network, or its weights are
            not finite.
    """
    # Nothing is optional: this file replaces a whole training, and a missing tensor would leave random weights in its place.
    _load(model, read_state(path, model, option, key), weights_file(path, option))


def read_state(path: str, model: nn.Module, option: str = "weights", key: str | None = None) -> dict[str, Tensor]:
    """Return the state dict of a file, on the CPU, with the names of a network; warns of what was changed.

    Args:
        path: path of the file.
        model: the network; only its names are used, so that the file may have another number of classes.
        option: option that names the file, for messages.
        key: key of the file's dict, or prefix of its names, of the weights to use; needed if several could be meant, such as `state_dict`
            and `state_dict_ema`.

    Raises:
        UserError: the file does not exist or cannot be read, or contains no weights of this network, or several.
    """
    file = weights_file(path, option)
    content = read_weights(file, option)
    names = list(model.state_dict())
    found = find_candidates(content, names)
    if not found:
        keys = f"; its keys are {some([repr(each) for each in content])}" if isinstance(content, Mapping) and content else ""
        raise UserError(f"{file} contains no state dict (names and tensors{keys}); save the state dict as a separate file")
    chosen = _with_key(found, key, file, option) if key is not None else _only(found, model, file, option)
    if not chosen.matching:
        raise UserError(
            f"{file} contains weights of another network than {type(model).__name__}: none of its {len(chosen.tensors)} names "
            f"({some(list(chosen.tensors))}) is one of the network's ({some(names)}); {OTHER_NETWORK}"
        )
    return _without_others(chosen, names, file, option, asked=key is not None)


def _with_key(found: Sequence[Candidate], key: str, file: Path, option: str) -> Candidate:
    # A dict may hold a network below a prefix, such as Lightning's; the key alone then suffices.
    for one in found:
        if key in (one.label, ".".join(one.keys), one.prefix):
            return one
    raise unknown("key", key, dict.fromkeys(one.label for one in found if one.matching), f"{_key_option(option)} for {file}")


def _only(found: Sequence[Candidate], model: nn.Module, file: Path, option: str) -> Candidate:
    """The candidate with the most names of the network; refuses if others contain all of its parameters, with other values."""
    parameters, names = [name for name, _ in model.named_parameters()], list(model.state_dict())
    first = found[0]
    complete = [one for one in found if one.matching and all(name in one.tensors for name in parameters)]
    # One dict may be read in two ways: with DataParallel's part of its names as a prefix, or inside them.
    distinct = [one for i, one in enumerate(complete) if not any(_are_same(one, other, names) for other in complete[:i])]
    if len(distinct) > 1:
        labels = [one.label for one in distinct]
        choices = " or ".join(f"{_key_option(option)}={label or repr('')}" for label in labels)
        # Networks with a file of weights have no such option.
        remedy = f"choose with {choices}" if _has_key(option) else "save the one to use as a separate file"
        raise UserError(
            f"{file} contains {len(labels)} state dicts of the network (such as raw and averaged weights), under the keys "
            f"{some([repr(label) for label in labels])}; {remedy}"
        )
    return first


def _are_same(one: Candidate, other: Candidate, names: Sequence[str]) -> bool:
    """Return whether two candidates have the same values, as the best and the last weights of a training may."""
    pairs = [(one.tensors.get(name), other.tensors.get(name)) for name in names]
    # `torch.equal` compares tensors of one type only.
    return all(a is b or (a is not None and b is not None and a.dtype == b.dtype and torch.equal(a, b)) for a, b in pairs)


def _without_others(chosen: Candidate, names: Sequence[str], file: Path, option: str, asked: bool) -> dict[str, Tensor]:
    """The tensors of a candidate without those of losses and metrics, which are named in the warning about what was changed."""
    own = set(names)
    state = {name: tensor for name, tensor in chosen.tensors.items() if name in own or not is_of_training(name)}
    ignored = [*(name for name in chosen.tensors if name not in state), *chosen.others]
    # Matrices beside the network are layers, without which it might not be the network that was trained.
    layers = [name for name, tensor in chosen.others.items() if tensor.ndim > 1 and not is_of_training(name)]
    if layers and not asked:
        remedy = f"set {_key_option(option)}={chosen.label}" if _has_key(option) else "save those of the network as a separate file"
        raise UserError(
            f"{file} contains other weights beside those under '{chosen.prefix}.', such as {some(layers)}; if the network does not need "
            f"them, {remedy}"
        )
    changes = [f"under its key '{'.'.join(chosen.keys)}'"] * bool(chosen.keys)
    changes += [f"with {some([repr(each) for each in chosen.removed])} removed from their names"] * bool(chosen.removed)
    changes += [f"without {some(ignored)}"] * bool(ignored)
    if changes:
        warnings.warn(f"{file}: using the weights {', '.join(changes)}", stacklevel=4)
    return state


def _has_key(option: str) -> bool:
    return option == "trainer.checkpoint"


def _key_option(option: str) -> str:
    """The option that chooses among the weights of the file that `option` names: trainer.key."""
    return f"{option.rpartition('.')[0]}.key".lstrip(".")


def _load(model: nn.Module, state: Mapping[str, Tensor], file: Path, optional: Sequence[str] = ()) -> None:
    """Check names, shapes and values, convert to the network's types, and copy into `model`, unless it is on the meta device."""
    own = model.state_dict(keep_vars=True)
    wrong = {name: value for name, value in state.items() if name in own and _fitted(value, own[name]).shape != own[name].shape}
    if wrong:
        raise UserError(f"{file} contains weights of another network than {type(model).__name__}: {explain_mismatch(wrong, own, state)}")
    # A plain dict without _metadata, so that torch also loads files of earlier versions of its layers.
    ready = {name: _converted(name, _fitted(value, own[name]), own[name], file) if name in own else value for name, value in state.items()}
    types = sorted(
        {str(state[name].dtype).removeprefix("torch.") for name in ready if name in own and state[name].dtype != own[name].dtype}
    )
    with warnings.catch_warnings():
        if any(tensor.is_meta for tensor in own.values()):
            # torch warns that loading has no effect on the meta device, where only names, shapes and values are checked.
            warnings.simplefilter("ignore")
        try:
            # Not strict, because layers rename what earlier versions of them saved; what is missing or surplus is refused below.
            keys = model.load_state_dict(ready, strict=False)
        except RuntimeError as error:  # one line per tensor
            odd = [line.strip().rstrip(". ") for line in str(error).splitlines()[1:]]
            raise UserError(f"{file} contains weights of another network than {type(model).__name__}: {some(odd, '; ')}") from error
    # Of tied weights a file holds one name. Files of early torch versions lack the counters of batch norm.
    given = {id(own[name]) for name in ready if name in own}
    lacking = [
        name
        for name in keys.missing_keys
        if name not in optional and not name.endswith("num_batches_tracked") and id(own.get(name)) not in given
    ]
    if lacking or keys.unexpected_keys:
        matching = len(own.keys() & ready.keys())
        raise UserError(
            f"{file} contains weights of another network than {type(model).__name__}: it lacks {some(lacking)}, and additionally has "
            f"{some(keys.unexpected_keys)} ({matching} of {len(own)} names match); {OTHER_NETWORK}"
        )
    if types:
        warnings.warn(f"{file}: its weights were converted from {', '.join(types)} to the network's types", stacklevel=3)


def _fitted(value: Tensor, own: Tensor) -> Tensor:
    # Files of early torch versions hold counters as vectors of one element.
    return value.reshape(own.shape) if own.ndim == 0 and value.numel() == 1 else value


def _converted(name: str, value: Tensor, own: Tensor, file: Path) -> Tensor:
    """A tensor of the file in the type of the network's.

    Raises:
        UserError: it is quantised or sparse, not of the same kind (integer, real, complex) as the network's, or not finite.
    """
    kind = str(value.dtype).removeprefix("torch.")
    if value.is_quantized or value.layout != torch.strided:
        raise UserError(f"{file}: '{name}' is {'quantised' if value.is_quantized else 'sparse'} ({kind}); save dequantised, dense weights")
    if value.is_meta:
        raise UserError(f"{file}: '{name}' has no values (device meta); save the weights after they were loaded")
    if own.is_floating_point() and not value.is_floating_point():
        raise UserError(f"{file}: '{name}' contains {kind} numbers where the network has real ones; save the weights before quantisation")
    found = value.to(own.dtype)
    # After the conversion, because numbers may exceed the range of the network's type.
    if found.is_floating_point() or found.is_complex():
        bad = ~torch.isfinite(found)
        if bool(bad.any()):
            cause = "" if bool((~torch.isfinite(value.double())).any()) else f" in {str(own.dtype).removeprefix('torch.')}"
            raise UserError(
                f"{file}: {int(bad.sum())} of {bad.numel()} numbers of '{name}' are not finite{cause} (NaN or infinity), so the training "
                f"that saved them diverged; give an earlier checkpoint"
            )
    elif not torch.equal(found.to(value.dtype), value):
        raise UserError(f"{file}: '{name}' contains {kind} numbers that are no {str(own.dtype).removeprefix('torch.')}; save it again")
    return found

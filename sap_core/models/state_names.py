"""Finds a network's weights in the content of a checkpoint: the dict that contains them, and what was put before their names.

Training programs store a state dict under some key of a larger dict, beside optimisers and averaged weights, and wrappers change its names:
`torch.compile` puts `_orig_mod.` before them, DataParallel `module.`, Lightning `model.` (or the attribute's name), averaging `module.`
beside a tensor `n_averaged`. So names are compared with the network's own: a prefix is removed if the names after it are the network's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"})
"""Parts of names that only wrappers use, before or inside a name: of torch.compile, FSDP, activation checkpointing and Lightning."""

_PARALLEL = "module"
"""Part of a name that DataParallel adds, also around a part of a network (`features.module.0.weight`)."""

_AVERAGED = "n_averaged"
"""The counter of torch's AveragedModel."""

_TRAINING_ONLY = re.compile(r"(^|_)(criterion|loss|losses|loss_fn|metrics?)(_|$)|^(train|val|valid|test)_(acc|accuracy|f1|auroc)")
"""First parts of names that belong to losses and metrics, which a Lightning module stores beside its network."""

_MAX_DEPTH = 4
"""How deep dicts are searched for a state dict."""


@dataclass(frozen=True)
class Candidate:
    """Tensors of a checkpoint that may be the network's."""

    keys: tuple[str, ...]  # the keys of the dicts that they are in
    prefix: str  # what is before the network's names, such as "model.module"; "" if nothing is
    tensors: Mapping[str, Tensor]  # with the network's names
    others: Mapping[str, Tensor]  # the tensors in the same dict whose names do not begin with the prefix
    removed: tuple[str, ...]  # what was removed from names, such as ("_orig_mod.", "model.")
    matching: int  # number of `tensors` that have a name of the network

    @property
    def label(self) -> str:
        """What an option that selects these tensors is set to: `state_dict_ema`, `state_dict.teacher`; "" if they have no key or prefix."""
        return ".".join((*self.keys, *([self.prefix] if self.prefix else [])))


def find_candidates(content: Any, names: Collection[str]) -> list[Candidate]:
    """Return all dicts of tensors in a checkpoint, one entry per prefix, with the largest number of matching names first.

    Args:
        content: what was read from the file.
        names: of the network's parameters and buffers.
    """
    # The network itself may be compiled, and its names then have the parts that are removed from the file's.
    wanted = {_unwrapped(name): name for name in names}
    found = [one for keys, tensors in _dicts(content) for one in _by_prefix(keys, tensors, wanted)]
    return sorted(found, key=lambda one: -one.matching)


def is_of_training(name: str) -> bool:
    """Return whether a name belongs to a loss or metric of a training program, or counts averaged models."""
    return name.split(".")[-1] == _AVERAGED or _TRAINING_ONLY.search(name.split(".")[0]) is not None


def _dicts(content: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """(keys, tensors) of each dict that contains tensors, in dicts and lists, from the outside in; other values are left out."""
    if isinstance(content, list | tuple):
        # Such as the pair (state dict, epoch).
        content = dict(enumerate(content))
    if not isinstance(content, Mapping) or len(keys) > _MAX_DEPTH:
        return
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if tensors:
        yield keys, tensors
    for key, value in content.items():
        # Keys of optimisers are numbers; their tensors have names that are no network's.
        if isinstance(value, Mapping | list | tuple):
            yield from _dicts(value, (*keys, str(key)))


def _by_prefix(keys: tuple[str, ...], tensors: Mapping[str, Tensor], wanted: Mapping[str, str]) -> Iterator[Candidate]:
    """One candidate per prefix under which names of the network are found, or one without a prefix if none is."""
    parts = {name: _unwrapped(name).split(".") for name in tensors}
    counts: Counter[str] = Counter()
    for each in parts.values():
        for start in range(len(each)):
            if _name_in(each[start:], wanted):
                counts[".".join(each[:start])] += 1
    # A prefix that a longer one explains better, such as that of a block with a name of its own, is no reading of its own.
    best = max(counts.values(), default=0)
    for prefix in [prefix for prefix, count in counts.items() if 2 * count > best] or [""]:
        before = prefix.split(".") if prefix else []
        below = {name: each[len(before) :] for name, each in parts.items() if each[: len(before)] == before and len(each) > len(before)}
        renamed = {_name_in(each, wanted) or ".".join(each): tensors[name] for name, each in below.items()}
        others = {name: tensor for name, tensor in tensors.items() if name not in below}
        wrappers = sorted({f"{part}." for name in below for part in name.split(".") if part in _WRAPPERS})
        removed = (*wrappers, *([f"{prefix}."] if prefix else []))
        yield Candidate(keys, prefix, renamed, others, removed, counts[prefix])


def _name_in(parts: Sequence[str], wanted: Mapping[str, str]) -> str | None:
    """The network's name for the parts of a name, if necessary without DataParallel's parts inside it; a first one is a prefix."""
    return wanted.get(".".join(parts)) or wanted.get(".".join([*parts[:1], *(part for part in parts[1:] if part != _PARALLEL)]))


def _unwrapped(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)

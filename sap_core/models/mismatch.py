"""Explains why the tensors of a file do not fit a network: another number of classes, of channels, or another image size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

OTHER_NETWORK = "use a state dict of this network, or choose the network that it was saved from"
"""The remedy if no likelier cause is found."""


def explain_mismatch(wrong: Mapping[str, Tensor], own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Return which shapes differ, with the likely cause and its remedy.

    Args:
        wrong: the tensors of the file whose shapes differ from the network's, by name.
        own: all tensors of the network.
        state: all tensors of the file.
    """
    shapes = [
        f"'{name}' has shape {tuple(value.shape)} in the file and {tuple(own[name].shape)} in the network" for name, value in wrong.items()
    ]
    lacking = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    surplus = [name for name in state if name not in own]
    # A head of another size is the likely cause only if nothing else differs.
    cause = OTHER_NETWORK if lacking or surplus else _cause(wrong, own)
    names = f"; it lacks {some(lacking)}, and additionally has {some(surplus)}" if lacking or surplus else ""
    return f"{some(shapes, '; ')}{names} ({len(own.keys() & state.keys()) - len(wrong)} of {len(own)} names and shapes match); {cause}"


def some(names: Sequence[str], between: str = ", ") -> str:
    """Return the first three names and the number of the others."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return between.join(names[:3]) + more if names else "nothing"


def _cause(wrong: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    axes = {name: _differing_axes(value, own[name]) for name, value in wrong.items()}
    sizes = {(value.shape[0], own[name].shape[0]) for name, value in wrong.items() if axes[name] == [0]}
    # The head's weight and bias, and those of auxiliary heads, have one row per class.
    if len(sizes) == 1 and all(each == [0] for each in axes.values()) and any(value.ndim > 1 for value in wrong.values()):
        given, expected = sizes.pop()
        return (
            f"the file's head is for {given} classes, the network's for {expected}: set the data set's number of classes to {given} "
            f"(dataset.num_classes), or give a checkpoint for {expected} classes"
        )
    (name, value), *more = wrong.items()
    if not more and axes[name] == [1] and value.ndim == 4:
        given, expected = value.shape[1], own[name].shape[1]
        return f"the file's network takes {given} channels, this one {expected}: give such images, or a checkpoint for {expected} channels"
    if all("pos" in each for each in wrong):
        return "the file's network was trained on images of another size: set the data set's size (dataset.size) to that of the training"
    return OTHER_NETWORK


def _differing_axes(one: Tensor, other: Tensor) -> list[int]:
    """The axes whose sizes differ; [-1] if the tensors have different numbers of axes."""
    if one.ndim != other.ndim:
        return [-1]
    return [axis for axis, (first, second) in enumerate(zip(one.shape, other.shape, strict=True)) if first != second]

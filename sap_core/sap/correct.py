"""SAP as a library, on data sets and DataLoaders: select the trusted images, try the alphas, test the best, and return the network.

For a training loop of one's own: no configuration, no files and no other process. `library` has the parts for images in tensors.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sap_core.api import Batch
from sap_core.cost import CostMeter
from sap_core.errors import UserError
from sap_core.models.copies import copied
from sap_core.models.modes import evaluating, full_precision
from sap_core.models.outputs import returning_logits
from sap_core.models.unwrap import unwrapped
from sap_core.sap import checks, trusted
from sap_core.sap.correction import Correction
from sap_core.sap.gram import check_batch
from sap_core.sap.labelled import LabelledImages, Unpack
from sap_core.sap.loaders import overlap
from sap_core.sap.progress import Progress, progress_bar
from sap_core.sap.search import accuracy, check_alphas, examine, prepare_layers, right_predictions, search_alphas
from sap_core.seeding import random_states_kept

ALPHA16 = (
    300000.0, 250000.0, 200000.0, 150000.0, 100000.0, 70000.0, 50000.0, 40000.0, 30000.0, 20000.0, 15000.0, 10000.0, 7000.0, 5000.0,
    3000.0, 2000.0,
)  # fmt: skip
"""The 16 alphas of the space `alpha16`: the paper's number and range."""

MAX_KEPT_VALUES = 2**26
"""Validation images are kept in memory between alphas if they have at most this many values (256 MiB of float32)."""


@full_precision()
def correct(
    model: nn.Module,
    train: Any,
    val: Any,
    alphas: Iterable[float] = ALPHA16,
    num_trusted: int = 1000,
    *,
    class_balanced: bool = False,
    batch_size: int | None = None,
    unpack: Unpack | None = None,
    leave: Sequence[str] = (),
    classes: int | None = None,
    progress: bool = True,
) -> Correction:
    """Correct a trained network with SAP, with the best of several alphas, and test whether it is better than before.

    The network and the random states of Python, numpy and torch are as before afterwards. Its device and precision are those of its first
    parameter, to which batches are moved; arithmetic on weights is float64, and the corrected network has the precision of the given one.

    Args:
        model: a trained classifier that SAP supports (see `sap_project`); it is not changed.
        train: the images that it was trained on, with the labels that it was trained on: a map-style data set of (image, label), or a
            DataLoader of one. Images are floats as the network expects them, not augmented.
        val: images that it was not trained on, with labels that may be as noisy as those of training; as `train`.
        alphas: the alphas to try; repeated values count once.
        num_trusted: number of training images that SAP trusts: those with the lowest loss on their given labels; more than a fifth of all
            are warned of, because wrong labels would be among them.
        class_balanced: trust equally many images of each class, by given label.
        batch_size: images per forward pass; None: the DataLoader's, or 256 for a data set.
        unpack: returns (image, label) of an item of a data set, or (images, labels) of a batch of a DataLoader, where these are not pairs
            or dicts with the keys "pixel_values" or "image", and "label" or "labels".
        leave: see `sap_project`.
        classes: see `sap_tune`.
        progress: show progress on standard error if it is a terminal or a notebook.

    Returns:
        The corrected network and what was found; a copy of the unmodified network if no alpha has a higher validation accuracy.

    Raises:
        UserError: the network, the data or an argument is not supported.
        FloatingPointError: an output or activation of the network is not finite.
    """
    started = time.perf_counter()
    distinct = check_alphas(alphas)
    model = _checked_network(model)
    images, held_out = (LabelledImages.of(each, what, batch_size, unpack) for each, what in ((train, "training"), (val, "validation")))
    num_trusted = checks.check_num_trusted(num_trusted, len(images))
    _check_overlap(images, held_out)
    _check_share(num_trusted, len(images))
    with random_states_kept(_weight(model).device), progress_bar(progress) as bars:
        first, num_classes = _inspect(model, images, classes)
        first_held_out, _ = _inspect(model, held_out, num_classes)
        # Before the pass over all images, which may take long.
        weights = examine(model, first, leave)
        ranked = _rank(model, images, num_classes, class_balanced, bars)
        chosen = ranked.index[:num_trusted]
        done = bars.stage("activations of trusted images", num_trusted)
        # Read again by position, so that no image had to be kept while all were scored.
        trusted_batches = _moved(model, images.batches(chosen), "training", done)
        layers = prepare_layers(model, (batch.inputs for batch in trusted_batches), len(distinct), weights=weights)
        passes = _validation_passes(model, held_out, num_classes, first_held_out[0].numel())
        done = bars.stage("alphas", len(distinct) + 1)

        def right(network: nn.Module) -> Tensor:
            found = right_predictions(network, ((batch.inputs, batch.labels) for batch in passes()), num_classes)
            done(1)
            return found

        found = search_alphas(model, layers, distinct, right)
    before = found.unmodified
    return Correction(
        model=copied(model) if found.model is None else found.model,
        alpha=found.alpha,
        unmodified=accuracy(before),
        scores=found.scores,
        newly_right={alpha: int((after & ~before).sum()) for alpha, after in found.corrected.items()},
        newly_wrong={alpha: int((before & ~after).sum()) for alpha, after in found.corrected.items()},
        num_val=len(before),
        trusted_indices=chosen,
        trusted_per_class=tuple(torch.bincount(ranked.labels[:num_trusted], minlength=num_classes).tolist()),
        num_train=len(images),
        seconds=time.perf_counter() - started,
        device=str(_weight(model).device),
    )


@full_precision()
def trusted_indices(
    model: nn.Module,
    data: Any,
    n: int = 1000,
    *,
    class_balanced: bool = False,
    batch_size: int | None = None,
    unpack: Unpack | None = None,
    classes: int | None = None,
    progress: bool = True,
) -> Tensor:
    """Return the positions of the n images that SAP trusts most: those with the lowest loss on their given labels.

    Args:
        model: a trained classifier; it is not changed.
        data: its training images, as the `train` of `correct`.
        n: number of images.
        class_balanced: equally many images of each class, by given label.
        batch_size: see `correct`.
        unpack: see `correct`.
        classes: see `sap_tune`.
        progress: see `correct`.

    Returns:
        (n,) int64 positions in the data set (that of the DataLoader, if one was given), most trusted first.

    Raises:
        UserError: the data or an argument is not supported.
        FloatingPointError: an output of the network is not finite.
    """
    model = _checked_network(model)
    images = LabelledImages.of(data, "training", batch_size, unpack)
    n = checks.check_num_trusted(n, len(images))
    with random_states_kept(_weight(model).device), progress_bar(progress) as bars:
        _, num_classes = _inspect(model, images, classes)
        return _rank(model, images, num_classes, class_balanced, bars).index[:n]


@dataclass(frozen=True)
class _Ranked:
    """Positions and given labels of the training images in order of trust."""

    index: Tensor
    labels: Tensor


@dataclass
class _Scored:
    """Batches for the score, whose positions and labels are noted as they pass, since the data set is read once."""

    of: Callable[[], Iterator[Batch]]
    index: list[Tensor] = field(default_factory=list)
    labels: list[Tensor] = field(default_factory=list)

    def batches(self, size: int) -> Iterator[Batch]:
        for batch in self.of():
            self.index.append(batch.index)
            self.labels.append(batch.labels.cpu())
            yield batch


def _rank(model: nn.Module, images: LabelledImages, num_classes: int, class_balanced: bool, bars: Progress) -> _Ranked:
    """Algorithm 1, line 1."""
    done = bars.stage("losses of training images", len(images))
    scored = _Scored(lambda: _moved(model, images.batches(num_outputs=num_classes), "training", done))
    with returning_logits(model, num_classes):
        score = trusted.fit_error(model, scored, "classification", images.batch_size, CostMeter())
    index, labels = torch.cat(scored.index), torch.cat(scored.labels)
    order = trusted.lowest_first(score, index)
    order = trusted.balanced(order, labels) if class_balanced else order
    return _Ranked(index[order], labels[order])


def _inspect(model: nn.Module, images: LabelledImages, classes: int | None) -> tuple[Tensor, int]:
    """Read the first images, warn if they are random, and return them as the network expects them, and the number of classes."""
    first, random = images.first()
    if random:
        _warn(
            f"{images.what} images differ each time they are read, so that scores depend on chance; leave random augmentation out of the "
            "data set's transform here"
        )
    converted = checks.convert(first, _weight(model), images.what)
    check_batch(model, min(images.batch_size, len(images)))
    with evaluating(model), checks.shape_errors(converted, images.what):
        outputs = model(converted)
    return converted, checks.logits(outputs, len(converted), images.what, classes).shape[1]


def _validation_passes(model: nn.Module, images: LabelledImages, num_classes: int, values: int) -> Callable[[], Iterator[Batch]]:
    """Return a function that iterates over the validation images, each time it is called; small sets are kept in memory."""
    # Read and decoded once, if memory suffices; larger sets are read again for each alpha.
    if values * len(images) <= MAX_KEPT_VALUES:
        kept = list(images.batches(num_outputs=num_classes))
        return lambda: _moved(model, kept, images.what)
    return lambda: _moved(model, images.batches(num_outputs=num_classes), images.what)


def _moved(model: nn.Module, batches: Iterable[Batch], what: str, done: Callable[[int], None] | None = None) -> Iterator[Batch]:
    """Yield batches on the device and in the precision of the network, and report the number of images."""
    weight = _weight(model)
    for batch in batches:
        yield Batch((checks.convert(batch.inputs, weight, what),), batch.labels.to(weight.device), batch.index)
        if done is not None:
            done(len(batch.labels))


def _checked_network(model: object) -> nn.Module:
    """Return the network without wrappers of torch."""
    if not isinstance(model, nn.Module):
        raise UserError(f"model must be a torch network (torch.nn.Module), not {type(model).__name__}; the order is model, train, val")
    inner = unwrapped(model)
    if not any(each.is_floating_point() for each in inner.parameters()):
        raise UserError(f"{type(inner).__name__} has no weights of floating point, so SAP has nothing to correct")
    return inner


def _check_overlap(train: LabelledImages, val: LabelledImages) -> None:
    if shared := overlap(train.dataset, train.index, val.dataset, val.index):
        _warn(
            f"{shared} of the {len(val)} validation images are training images, on which a network that memorised its labels looks better "
            "than it is; hold images out of training"
        )


def _weight(model: nn.Module) -> Tensor:
    return next(each for each in model.parameters() if each.is_floating_point())


def _check_share(num_trusted: int, num_train: int) -> None:
    """Warn if more than a fifth of the images are trusted, because wrong labels are then among them."""
    fifth = num_train // 5
    if num_trusted > max(fifth, 1):
        _warn(
            f"num_trusted={num_trusted} of {num_train} training images trusts images with wrong labels, too; "
            f"num_trusted={fifth} is a fifth of them, and the paper trusts a fiftieth"
        )


def _warn(text: str) -> None:
    # The level of the caller of `correct` or `trusted_indices`, beyond their decorator.
    warnings.warn(text, UserWarning, stacklevel=5)

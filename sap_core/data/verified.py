"""True labels, and the verified samples that are served from them.

True labels are read by this module and `sap_core.evaluation.evaluator` only. A method obtains verified samples through `Task.verified`,
after declaring what it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sap_core.api import Need, SampleCount
from sap_core.data.samples import SampleView, resolve_count
from sap_core.errors import UserError
from sap_core.seeding import Stream


@dataclass(frozen=True, eq=False)
class Truth:
    """True labels of the universe.

    Attributes:
        labels: (universe,) true labels; None if they are unknown.
        audited: (universe,) int64 labels that the user verified, -1 for all others (see `audit`). They verify samples, but no score uses
            them, because they are a selection.
    """

    labels: Tensor | None = field(repr=False)
    audited: Tensor | None = field(default=None, repr=False)

    @property
    def known(self) -> bool:
        """Whether the true label of every sample is known."""
        return self.labels is not None

    def right(self, index: Tensor, given: Tensor) -> Tensor:
        """Return (N,) bool, whether the given labels of the samples at universe positions `index` (N,) are true."""
        return self.of(index) == given

    def of(self, index: Tensor) -> Tensor:
        """Return the (N,) true labels of the samples at universe positions `index` (N,).

        Raises:
            UserError: true labels are unknown.
        """
        if self.labels is None:
            raise UserError(
                "the true labels of this data set are unknown, so no sample can be verified; use methods that need no verified samples "
                "(sap), or set dataset.verified to a file of verified labels"
            )
        return self.labels[index]


def verified_source(train: SampleView, truth: Truth, rng: Stream) -> Callable[[Need, SampleCount], SampleView]:
    """Return the source of `Task.verified`: samples of the training split in one fixed random order per need."""

    def serve(need: Need, n: SampleCount) -> SampleView:
        # The whole split with its true labels in the place of the given ones: the samples keep their positions.
        if need is Need.TRUE_LABELS:
            return train.relabel(truth.of(train.index))
        # An audit covers a selection of samples; all others count as unverified, not as wrong. If the truth is known, it goes first.
        if truth.audited is not None and not truth.known:
            true = truth.audited[train.index]
            pool = torch.nonzero((true >= 0) & ((true == train.labels) == (need is Need.RETAIN))).flatten()
        else:
            # Positions within the training split; validation samples are never served.
            pool = torch.nonzero(truth.right(train.index, train.labels) == (need is Need.RETAIN)).flatten()
        # A fraction refers to the samples that can be verified, as the partly known forget set of the benchmark does.
        count = resolve_count(n, len(pool))
        if count > len(pool):
            raise UserError(
                f"{count} verified samples of kind '{need}' were requested, but the training split has only {len(pool)}; request fewer"
            )
        # One order per need, keyed by seed and data set: budgets are nested, and methods get the same samples.
        return train.subset(pool[rng.child(str(need)).permutation(len(pool))][:count])

    return serve

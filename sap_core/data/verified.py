"""What an oracle knows: which given labels are true. Only this module and `sap_core.evaluation.evaluator` read it.

A method reaches it through `Task.verified` alone, after declaring what it needs.
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
    """The true label of every sample of the universe; None where the data set does not know them.

    Then somebody may have looked up some of them (see audit.py): these verify samples, and no score is made from them.
    """

    labels: Tensor | None = field(repr=False)  # (universe,)
    audited: Tensor | None = field(default=None, repr=False)  # (universe,) -1 where nobody looked

    @property
    def known(self) -> bool:
        return self.labels is not None

    def right(self, index: Tensor, given: Tensor) -> Tensor:
        """(N,) bool: is the given label of the sample at universe position `index` the true one?"""
        return self.of(index) == given

    def of(self, index: Tensor) -> Tensor:
        """(N,) true labels of the samples at universe positions `index`."""
        if self.labels is None:
            raise UserError(
                "the true labels of this data set are unknown, so nothing can be verified; choose methods that need none (sap), "
                "or name a file of labels that were looked up with dataset.verified"
            )
        return self.labels[index]


def verified_source(train: SampleView, truth: Truth, rng: Stream) -> Callable[[Need, SampleCount], SampleView]:
    """Serves verified samples of the training split in one fixed random order per need, so that smaller sets are nested."""

    def serve(need: Need, n: SampleCount) -> SampleView:
        if need is Need.TRUE_LABELS:
            return train.relabel(truth.of(train.index))
        if truth.audited is not None and not truth.known:
            true = truth.audited[train.index]
            pool = torch.nonzero((true >= 0) & ((true == train.labels) == (need is Need.RETAIN))).flatten()
        else:
            pool = torch.nonzero(truth.right(train.index, train.labels) == (need is Need.RETAIN)).flatten()
        count = resolve_count(n, len(pool))
        if count > len(pool):
            raise UserError(
                f"{count} verified samples of kind '{need}' were asked for, but the training split has only {len(pool)}; ask for fewer"
            )
        return train.subset(pool[rng.child(str(need)).permutation(len(pool))][:count])

    return serve

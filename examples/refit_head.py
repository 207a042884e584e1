"""Refit the head: fits the last linear layer by ridge regression on the samples that the network itself trusts.

    1  T <- the `num_trusted` training samples with the lowest loss on their given labels
    2  H <- their features, the inputs of the last linear layer, and a column of ones
    3  W <- (H^T H + ridge N I)^-1 H^T Y,  Y one-hot given labels

An example of adding a method (docs/adding.md), not a published one. Steps 1 and 2 are shared by all values of `ridge`.

Shapes: N trusted samples, D features (the column of ones included), C classes.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from sap_core.api import TRUSTED_COUNT, Need, Passes, Run, Samples, Sizes, Task
from sap_core.errors import UserError
from sap_core.models.modes import evaluating
from sap_core.sap.trusted import fit_error, lowest_first


def last_linear(model: nn.Module) -> nn.Linear:
    """Returns the last linear layer in the order of definition.

    Raises:
        UserError: the network has none, or it has no bias.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not layers or layers[-1].bias is None:
        raise UserError("method 'refit_head' needs a network whose last linear layer has a bias; choose another network")
    return layers[-1]


def features(model: nn.Module, samples: Samples, size: int) -> Tensor:
    """Returns H (N, D) float64: the inputs of the last linear layer, and a column of ones."""
    captured: list[Tensor] = []
    hook = last_linear(model).register_forward_pre_hook(lambda layer, inputs: captured.append(inputs[0].double()))
    try:
        with evaluating(model):
            for batch in samples.batches(size):
                model(batch.inputs)
    finally:
        hook.remove()
    h = torch.cat(captured)
    return torch.cat([h, h.new_ones(len(h), 1)], dim=1)


def ridge_weights(h_ND: Tensor, y_NC: Tensor, ridge: float) -> Tensor:
    """Returns W (D, C) of step 3."""
    system_DD = h_ND.mT @ h_ND
    system_DD.diagonal().add_(ridge * len(h_ND))
    return torch.linalg.solve(system_DD, h_ND.mT @ y_NC)


@dataclass(frozen=True)
class RefitHead:
    """A setting. Settings with the same trusted set are one family."""

    name: ClassVar[str] = "refit_head"
    version: ClassVar[int] = 1

    ridge: float = 1.0e-2
    num_trusted: int = field(default=200, metadata=TRUSTED_COUNT)
    batch_size: int = 256

    def __post_init__(self) -> None:
        if not self.ridge > 0:
            raise UserError(f"method 'refit_head' needs a ridge above 0, not {self.ridge}")

    def needs(self) -> frozenset[Need]:
        return frozenset()  # given labels only

    def selects_samples(self) -> bool:
        return True

    def family(self) -> Hashable:
        return self.num_trusted, self.batch_size

    def computation(self) -> Hashable:
        return self

    @classmethod
    def correct(cls, settings: Sequence[RefitHead], model: nn.Module, task: Task, run: Run) -> Iterator[tuple[int, nn.Module]]:
        """See `sap_core.api.Corrector.correct`.

        Raises:
            UserError: the task is a regression, or the network has no suitable head.
        """
        if task.kind != "classification":
            raise UserError("method 'refit_head' needs classes, but this task is a regression")
        first = settings[0]
        with run.meter("select"):  # step 1
            score = fit_error(model, task.train, task.kind, first.batch_size, run.meter)
            trusted = task.train.subset(lowest_first(score, task.train.index)[: first.num_trusted])
        run.report_trusted(trusted.index)
        with run.meter("collect"):  # step 2
            h_ND = features(model, trusted, first.batch_size)
            run.meter.count(forwards=len(trusted))
        y_NC = functional.one_hot(trusted.labels, task.num_outputs).to(h_ND)
        for which, setting in enumerate(settings):
            with run.meter("correct", used_by=[which]):  # step 3
                weights_DC = ridge_weights(h_ND, y_NC, setting.ridge)
                corrected = deepcopy(model)
                head = last_linear(corrected)
                with torch.no_grad():
                    head.weight.copy_(weights_DC[:-1].mT)
                    head.bias.copy_(weights_DC[-1])
            yield which, corrected

    @classmethod
    def forecast(cls, settings: Sequence[RefitHead], sizes: Sizes) -> Passes:
        return Passes(forwards=sizes.train + min(settings[0].num_trusted, sizes.train))

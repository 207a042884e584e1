"""Predictions of classifiers of points in the plane on a grid, for figures of decision boundaries; no score or selection uses them.

Series are lists of (name, step, value): `plane/x`, `plane/y`, `plane/given` and `plane/true` of each training sample, by step;
`decision/x` and `decision/y`, the coordinates of the columns and rows of a grid; `decision/class`, the predicted class at row r and
column c, as step r * SIDE + c.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sap_core.cost import CostMeter
from sap_core.evaluation.evaluator import Evaluator, Scores, predict_outputs

SIDE = 81
"""Rows and columns of the grid."""

MARGIN = 0.06
"""Margin of the grid around the training samples, as a fraction of their extent."""

Points = list[tuple[str, int, float]]


def is_planar(evaluator: Evaluator) -> bool:
    """Return whether the task is a classification of points in the plane."""
    return tuple(evaluator.prepared.dataset.shape) == (2,) and not evaluator.regression


def samples(evaluator: Evaluator) -> Points:
    """Return the preprocessed training samples with their given labels and, if they are known, the true labels."""
    train, truth = evaluator.prepared.train, evaluator.prepared.truth
    # Preprocessed, because the network's decisions are drawn in the same coordinates.
    inputs_N2 = _inputs(evaluator)
    columns = {"x": inputs_N2[:, 0], "y": inputs_N2[:, 1], "given": train.labels}
    if truth.known:
        columns["true"] = truth.of(train.index)
    return [(f"plane/{name}", step, float(value)) for name, values in columns.items() for step, value in enumerate(values.tolist())]


def decisions(model: nn.Module, evaluator: Evaluator, meter: CostMeter, which: int = 0) -> Points:
    """Return the predicted class at every point of a grid around the training samples; recorded as phase `report`."""
    # A figure only, hence no tuning cost.
    with meter("report", used_by=[which]):
        x_S, y_S = (_axis(column) for column in _inputs(evaluator).T)
        # Row-major, as the steps of `decision/class` are numbered.
        grid = torch.stack([x_S.repeat(SIDE), y_S.repeat_interleave(SIDE)], 1)
        classes = predict_outputs(evaluator.fused(model), grid.to(evaluator.prepared.task.device), meter).argmax(1)
    axes = [(f"decision/{name}", step, value) for name, axis in (("x", x_S), ("y", y_S)) for step, value in enumerate(axis.tolist())]
    return axes + [("decision/class", step, float(value)) for step, value in enumerate(classes.tolist())]


class Best:
    """Decisions of the best setting of a family: highest score on the given validation labels, the earlier setting on ties."""

    def __init__(self, evaluator: Evaluator, meter: CostMeter) -> None:
        self.which: int | None = None
        self.points: Points = []
        self._evaluator = evaluator
        self._meter = meter
        self._best = (-math.inf, 0)

    def watch(self, model: nn.Module, which: int, scores: Scores) -> None:
        """Compare a scored setting with the best so far; `model` is valid during the call only."""
        score = scores.get("val_noisy_acc")
        # The report's selection rule: higher score first, and of equal scores the earlier setting.
        if score is not None and (score, -which) > self._best:
            self._best, self.which = (score, -which), which
            # Computed now, because the corrected network may be overwritten when the next one is requested.
            self.points = decisions(model, self._evaluator, self._meter, which)


def _inputs(evaluator: Evaluator) -> Tensor:
    """(N, 2) preprocessed training samples, on the CPU."""
    return torch.cat([batch.inputs.cpu() for batch in evaluator.prepared.train.batches(evaluator.batch_size)])


def _axis(values_N: Tensor) -> Tensor:
    low, high = float(values_N.min()), float(values_N.max())
    # The margin shows how the decision continues beyond the samples.
    room = MARGIN * (high - low)
    return torch.linspace(low - room, high + room, SIDE)

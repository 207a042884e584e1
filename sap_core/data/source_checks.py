"""Checks of what a data set's `load` returns, so that a data set of a plug-in cannot give labels that would be misread."""

from __future__ import annotations

import torch
from torch import Tensor

from sap_core.data.source import DataSet, Source
from sap_core.errors import UserError


def checked(source: Source, dataset: DataSet) -> Source:
    """Return the content of a data set.

    Raises:
        UserError: inputs and labels differ in number, a label of a classification is not an integer from 0 to the number of classes - 1, or
            a target of a regression is not a finite float.
    """
    parts = (
        ("train_labels", source.train_labels, len(source.train)),
        ("test_labels", source.test_labels, len(source.test)),
        ("true_labels", source.true_labels, len(source.train)),
    )
    for field, labels, count in parts:
        if labels is not None:
            _check(labels, count, f"{field} of data set {dataset.name}", dataset)
    return source


def _check(labels: Tensor, count: int, where: str, dataset: DataSet) -> None:
    if len(labels) != count:
        raise UserError(f"{where} has {len(labels)} labels for {count} inputs; `load` must return one label per input")
    if dataset.kind == "regression":
        bad = ~labels.isfinite().reshape(count, -1).all(1)
        allowed = "finite floats"
    elif labels.ndim != 1 or labels.dtype != torch.int64:
        raise UserError(f"{where} is {labels.dtype} of shape {tuple(labels.shape)}; `load` must return classes (N,) int64")
    else:
        bad, allowed = (labels < 0) | (labels >= dataset.classes.num), f"classes 0 to {dataset.classes.num - 1}"
    if bad.any():
        first = int(torch.nonzero(bad)[0])
        raise UserError(f"{where}: label {first} is {labels[first].tolist()}, but allowed are {allowed}; fix `load`")

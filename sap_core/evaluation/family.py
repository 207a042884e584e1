"""Runs one family of settings of any corrector and scores each corrected model as it appears."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import nn

from sap_core.api import Corrector, Need, Run, Task


@dataclass(frozen=True)
class SettingResult:
    """What became of one setting: scores, or why there are none."""

    which: int
    scores: dict[str, float | None]
    diverged: str | None = None


def run_family(
    settings: Sequence[Corrector], model: nn.Module, task: Task, run: Run, score: Callable[[nn.Module, int], dict[str, float | None]]
) -> Iterator[SettingResult]:
    """Yields one outcome per setting, in the order in which the corrector finishes them.

    Args:
        settings: settings of one class and one family.
        model: the baseline, in evaluation mode; left untouched.
        task: what the method may see; its declared needs are granted here.
        run: books the costs.
        score: turns (corrected model, position) into columns of the row.
    """
    needs: frozenset[Need] = frozenset().union(*(setting.needs() for setting in settings))
    allowed = task.allow(needs)
    with closing(type(settings[0]).correct(settings, model, allowed, run)) as corrected:  # type: ignore[type-var]
        for which, candidate in corrected:
            unsound = _not_finite(candidate)
            yield SettingResult(which, {}, unsound) if unsound else SettingResult(which, score(candidate, which))


def _not_finite(model: nn.Module) -> str | None:
    """The name of the first tensor with a value that is not finite, as a sentence; None for a sound model."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return f"the corrected weights are not finite (first in '{name}')"
    return None

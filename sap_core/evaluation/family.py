"""Run one family of settings of a corrector, and score each corrected network as soon as it is yielded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import nn

from sap_core.api import Corrector, Need, Run, Task


@dataclass(frozen=True)
class SettingResult:
    """Result of one setting.

    Attributes:
        which: position of the setting in the family.
        scores: columns of the setting's row; empty if it diverged.
        diverged: why the corrected network cannot be scored, or None.
    """

    which: int
    scores: dict[str, float | None]
    diverged: str | None = None


def run_family(
    settings: Sequence[Corrector], model: nn.Module, task: Task, run: Run, score: Callable[[nn.Module, int], dict[str, float | None]]
) -> Iterator[SettingResult]:
    """Yield one result per setting, in the order in which the corrector finishes them.

    Args:
        settings: settings of one class and one family.
        model: the baseline, in evaluation mode; it is not changed.
        task: the data that the method may see; the needs that the settings declare are granted here.
        run: records costs and selected samples.
        score: returns columns of the row for (corrected network, position of the setting).
    """
    # Of all settings together: a family shares its work, so it shares what it may read.
    needs: frozenset[Need] = frozenset().union(*(setting.needs() for setting in settings))
    allowed = task.allow(needs)
    # Closing the generator ends its shared work (and its `run.meter` blocks) even when scoring raises.
    with closing(type(settings[0]).correct(settings, model, allowed, run)) as corrected:  # type: ignore[type-var]
        for which, candidate in corrected:
            # A diverged setting is a result of the search (a failed row), and the other settings of the family go on.
            problem = _not_finite(candidate)
            yield SettingResult(which, {}, problem) if problem else SettingResult(which, score(candidate, which))


def _not_finite(model: nn.Module) -> str | None:
    """Return a message that names the first tensor with a value that is not finite, or None."""
    # Of the state dict, because running statistics can overflow while all weights are finite.
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return f"the corrected weights are not finite (first in '{name}')"
    return None

"""Correctors that go wrong in every way that one can, on request."""

from __future__ import annotations

import os
import time
from collections.abc import Hashable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import nn

from sap_core.api import Need, Passes, Run, Sizes, Task


@dataclass(frozen=True)
class GoesWrong:
    """Shrinks all weights a little; `how` says what happens instead. Every setting is a job of its own."""

    name: ClassVar[str] = "goes_wrong"
    version: ClassVar[int] = 1

    how: Literal["well", "raises", "nan", "memory", "exits", "hangs", "selects"] = "well"
    shrink: float = 0.99

    def needs(self) -> frozenset[Need]:
        return frozenset()

    def family(self) -> Hashable:
        return self

    def computation(self) -> Hashable:
        return self

    @classmethod
    def correct(cls, settings: Sequence[GoesWrong], model: nn.Module, task: Task, run: Run) -> Iterator[tuple[int, nn.Module]]:
        (setting,) = settings
        _say_where("goes_wrong")
        if setting.how == "raises":
            raise ArithmeticError("asked to raise")
        if setting.how == "memory":
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB (simulated)")
        if setting.how == "exits":
            os._exit(0)
        if setting.how == "hangs":
            time.sleep(600)
        if setting.how == "selects":
            run.report_trusted(task.train.index[:5])  # which selects_samples() does not declare: there is none
        corrected = deepcopy(model)
        with run.meter("correct"), torch.no_grad():
            for parameter in corrected.parameters():
                parameter.mul_(float("nan") if setting.how == "nan" else setting.shrink)
        yield 0, corrected

    @classmethod
    def forecast(cls, settings: Sequence[GoesWrong], sizes: Sizes) -> Passes:
        return Passes()


def _say_where(who: str) -> None:
    """Notes on which node of a cluster a job ran, where nodes have names."""
    if "STANDINS_NODE" in os.environ:
        with (Path(os.environ["STANDINS_MEMORY"]) / "nodes.log").open("a") as log:
            log.write(f"{who} {os.environ['STANDINS_NODE']}\n")


@dataclass(frozen=True)
class Hungry:
    """Runs out of memory the first so many `times`: its share of a card is too small until then."""

    name: ClassVar[str] = "hungry"
    version: ClassVar[int] = 1

    times: int = 0

    def needs(self) -> frozenset[Need]:
        return frozenset()

    def family(self) -> Hashable:
        return self

    def computation(self) -> Hashable:
        return self

    @classmethod
    def correct(cls, settings: Sequence[Hungry], model: nn.Module, task: Task, run: Run) -> Iterator[tuple[int, nn.Module]]:
        (setting,) = settings
        _say_where("hungry")
        log = Path(os.environ["STANDINS_MEMORY"]) / f"{setting.times}.log"
        before = len(log.read_text()) if log.exists() else 0
        log.write_text("x" * (before + 1))
        if before < setting.times:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB (simulated)")
        yield 0, deepcopy(model)

    @classmethod
    def forecast(cls, settings: Sequence[Hungry], sizes: Sizes) -> Passes:
        return Passes()

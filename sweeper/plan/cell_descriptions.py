"""Says in words what a plan runs: data, noise, network, trainer, methods and search spaces of each cell."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from analysis.store.labels import counted
from sweeper.config.component import Component
from sweeper.jobs.job import Job
from sweeper.plan.cell import Cell

_TRAINER_SETTINGS = ("epochs", "batch_size", "learning_rate")
"""Settings that are named where a trainer has them; `--cfg job` prints all."""


def describe_cells(cells: Sequence[Cell], jobs: Iterable[Job]) -> list[str]:
    """The lines of a dry run.

    Args:
        cells: the checked cells.
        jobs: those that `only=` leaves; cells and methods without a job are left out.
    """
    wanted: dict[int, set[tuple[str, str]]] = {}
    for job in jobs:
        for number in job.cells:
            wanted.setdefault(number, set()).add((job.labels["method"], job.labels["space"]))
    lines, before = [], ""
    for number, searches in sorted(wanted.items()):
        cell = cells[number]
        lines.append(f"cell {number + 1}: {_baseline(cell)}")
        methods = ", ".join(_methods(cell, searches)) or "none, only baselines are trained"
        # Most experiments run the same methods in every cell.
        lines.append("  methods as above" if methods == before else f"  methods: {methods}")
        before = methods
    return lines


def _baseline(cell: Cell) -> str:
    train, val, test = cell.sizes
    noise = "no added noise" if cell.noise.name == "none" else f"noise {_with_settings(cell.noise, _amounts(cell.noise))}"
    parts = [
        f"{cell.dataset.name} ({train} training, {val} validation, {test} test samples)",
        noise,
        f"network {cell.model.name}",
        # A network that is given has a file in place of epochs.
        f"trainer {_with_settings(cell.trainer, _TRAINER_SETTINGS if 'epochs' in cell.trainer.settings else ('checkpoint',))}",
    ]
    if cell.pruner is not None:
        parts.append(f"pruner {cell.pruner.name} keeping {cell.keep_fraction:g}")
    return ", ".join(parts)


def _amounts(noise: Component) -> list[str]:
    """The names of the settings that are numbers, such as the rate."""
    return [name for name, value in noise.settings.items() if isinstance(value, int | float) and not isinstance(value, bool)]


def _with_settings(component: Component, names: Collection[str]) -> str:
    """`symmetric (rate=0.25)`"""
    shown = [f"{name}={component.settings[name]}" for name in names if component.settings.get(name) not in (None, "", [])]
    return f"{component.name} ({', '.join(shown)})" if shown else component.name


def _methods(cell: Cell, wanted: Collection[tuple[str, str]]) -> Iterator[str]:
    for grid in cell.searches:
        if (grid.method, grid.space) in wanted:
            yield f"{grid.name} ({counted(len(grid.settings), 'setting')})"
    for sampled in cell.trial_searches:
        if (sampled.method, sampled.space) in wanted:
            yield f"{sampled.method}@{sampled.space} ({sampled.name}, {counted(sampled.budget, 'trial')}, search seed {sampled.seed})"

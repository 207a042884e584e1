"""Runs the contract checks of one trainer, pruner or method on synthetic data: `sap-sweep check`.

The project's own tests apply the same checks to every shipped component.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from sap_core.api import Corrector, Fitted, Pruner, Task, Trainer
from sap_core.errors import UserError, unknown
from sap_core.roles import sample_counts, trainer_fields
from sap_core.run import PlainRun
from sweeper.config.component import Component, parse_component
from sweeper.config.compose import compose_all
from sweeper.config.search_space import SearchSpace
from sweeper.config.target import resolve_class
from sweeper.contracts import toys
from sweeper.contracts.common import Check, CheckFailed
from sweeper.contracts.correctors import CORRECTOR_CHECKS, CorrectorCase
from sweeper.contracts.pruners import PRUNER_CHECKS, PrunerCase
from sweeper.contracts.small import families_to_try, small_recipe, small_settings
from sweeper.contracts.trainers import TRAINER_CHECKS, TrainerCase
from sweeper.plan.method_files import check_method_file

GROUPS = ("method", "pruner", "trainer")
"""Groups of the components that have checks. If several are given, the first of them is checked and the others are its context."""

_USAGE = "give trainer=NAME, pruner=NAME or method=NAME, as in sap-sweep check method=scrub"

Cases = Sequence[tuple[str, Any]]
"""(name of the network or space, case)"""


def run_checks(arguments: Sequence[str]) -> int:
    """Checks the component that the overrides name; prints one line per check and returns 1 if one fails.

    Raises:
        UserError: no component is named, it does not exist, or its settings are invalid.
    """
    # One and two threads give different bits, and the checks compare bits.
    torch.set_num_threads(1)
    # The arguments are the overrides of a sweep, so that a component is checked exactly as a sweep would configure it.
    named = {argument.partition("=")[0]: argument.partition("=")[2] for argument in arguments}
    group = next((group for group in GROUPS if named.get(group)), None)
    if group is None:
        raise UserError(f"sap-sweep check needs a component; {_USAGE}")
    # An empty cell composes the groups of the command line alone; a method is not a group but is composed in every cell.
    composed = compose_all([*(argument for argument in arguments if not argument.startswith("method=")), "cells=[{}]"])
    (cell,) = composed.cells
    plugins = composed.config.plugins
    # What the user sets is tested as set; only the defaults are scaled down.
    kept = [key.removeprefix("trainer.") for key in named if key.startswith("trainer.")]
    recipe = _recipe(cell["trainer"], plugins, kept)
    checks: Sequence[Check[Any]]
    if group == "method":
        checks, cases = CORRECTOR_CHECKS, _method_cases(named["method"], cell["method"], recipe, plugins)
    elif group == "pruner":
        checks, cases = PRUNER_CHECKS, _pruner_cases(cell["pruner"], recipe, plugins)
    else:
        checks, cases = TRAINER_CHECKS, _trainer_cases(recipe)
    # All checks run even if one fails, so that one call shows everything that is wrong.
    lines = [_line(check, cases) for check in checks]
    print("\n".join(lines))
    failed = sum(line.startswith("failed") for line in lines)
    print(f"{group}={named[group]}: {len(lines) - failed} of {len(lines)} checks passed on 80 synthetic images")
    return 1 if failed else 0


def _recipe(config: Mapping[str, Any], plugins: list[str], kept: Sequence[str]) -> Component:
    """The trainer, scaled down except for the fields that the command line sets."""
    # Preprocessing is no field of the trainer; the synthetic images have their own.
    fields = {name: value for name, value in config.items() if name != "preprocess"}
    return parse_component(small_recipe(fields, kept), "trainer", Trainer, plugins)


def _trainer_cases(recipe: Component) -> Cases:
    trainer = recipe.instance
    return [(net, TrainerCase(trainer, toys.make_task(net, augment="flip"))) for net in toys.nets_for(trainer)]


def _method_cases(name: str, methods: Mapping[str, Any], recipe: Component, plugins: list[str]) -> Cases:
    """One case per space of the method, or only the space of NAME@SPACE."""
    method, _, selected = name.partition("@")
    if method not in methods:
        raise unknown("method", method, methods, "sap-sweep check")
    spaces, corrector = check_method_file(methods[method], method)
    if selected and selected not in spaces:
        raise unknown("space", selected, spaces, f"method {method}")
    # Batch norm has running statistics that a method could modify, and augmentation draws random numbers.
    task = toys.make_task("batch_norm", augment="flip")
    return [
        # Parsed as in a sweep, so that a mistake in a space is refused here, too.
        (space, corrector_case(corrector, SearchSpace.parse(space, spaces[space] or {}), recipe, task, plugins))
        for space in spaces
        if selected in ("", space)
    ]


def corrector_case(
    corrector: Mapping[str, Any], space: SearchSpace, recipe: Component, task: Task, plugins: Sequence[str] = ()
) -> CorrectorCase:
    """Settings spread over a space, and a network trained on the given labels."""
    where = "corrector"
    cls = resolve_class(corrector.get("_target_"), where, plugins)
    # As the planner does: methods that retrain receive the trainer of the cell.
    extra = dict.fromkeys(trainer_fields(cls), recipe.entry)
    small = small_settings(corrector, space, sample_counts(cls))
    settings = [parse_component(setting, where, Corrector, plugins, extra).instance for setting in small]
    return CorrectorCase(families_to_try(settings), toys.noisy(task), task)


def _pruner_cases(config: Mapping[str, Any], recipe: Component, plugins: list[str]) -> Cases:
    """The pruner, with a network trained by the trainer of the same command."""
    if config.get("name") is None:
        raise UserError(f"pruner=none selects nothing, so there is nothing to check; {_USAGE}")
    pruner: Pruner = parse_component(config, "pruner", Pruner, plugins).instance
    task = toys.make_task("batch_norm", augment="flip")
    # Trained by the trainer of the command line, because some selectors read what it recorded (forgetting events).
    warmup: Fitted = recipe.instance.fit(task, PlainRun())
    return [("batch_norm", PrunerCase(pruner, warmup, task))]


def _line(check: Check[Any], cases: Cases) -> str:
    """`passed` or `failed`, the requirement, and the error or the remarks."""
    remarks: dict[str, list[str]] = {}
    for where, case in cases:
        try:
            remark = check.run(case)
        except CheckFailed as failure:
            return f"failed  {check}: {failure} ({where})"
        except Exception as error:  # an error of the component fails the check, too
            frame = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__}: {error}".strip(": ")
            return f"failed  {check}: {text} ({Path(frame.filename).name}:{frame.lineno}; {where})"
        if remark:
            # Equal remarks of several cases are printed once.
            remarks.setdefault(remark, []).append(where)
    texts = [remark if len(names) == len(cases) else f"{', '.join(names)}: {remark}" for remark, names in remarks.items()]
    return f"passed  {check}" + (f" ({'; '.join(texts)})" if texts else "")

"""`sap-sweep check trainer=NAME | pruner=NAME | method=NAME`: tests a component against its interface's promises, on toy data, in seconds.

The promises are those of `sweeper.contracts`, which the project's own tests apply to every shipped component.
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
from sweeper.config.target import resolve_class
from sweeper.contracts import toys
from sweeper.contracts.common import CheckFailed, Promise
from sweeper.contracts.correctors import CORRECTOR, CorrectorCase
from sweeper.contracts.pruners import PRUNER, PrunerCase
from sweeper.contracts.small import families_to_try, small_recipe, small_settings
from sweeper.contracts.trainers import TRAINER, TrainerCase

KINDS = ("method", "pruner", "trainer")
"""What can be checked; of several that are named the first is, with the others around it."""

_USAGE = "sap-sweep check takes trainer=NAME, pruner=NAME or method=NAME, with plugins=[...] and --config-dir for your own"

Cases = Sequence[tuple[str, Any]]
"""(where it is tried, the case)"""


def check(words: Sequence[str]) -> int:
    """Checks the part that is named; returns 1 when a promise is broken.

    Raises:
        UserError: nothing is named, there is no such part, or its settings are wrong.
    """
    torch.set_num_threads(1)
    named = {word.partition("=")[0]: word.partition("=")[2] for word in words}
    kind = next((kind for kind in KINDS if named.get(kind)), None)
    if kind is None:
        raise UserError(_USAGE)
    composed = compose_all([*(word for word in words if not word.startswith("method=")), "cells=[{}]"])
    (cell,) = composed.cells
    plugins = composed.config.plugins
    kept = [key.removeprefix("trainer.") for key in named if key.startswith("trainer.")]
    recipe = _recipe(cell["trainer"], plugins, kept)
    promises: Sequence[Promise[Any]]
    if kind == "method":
        promises, cases = CORRECTOR, _of_method(named["method"], cell["method"], recipe, plugins)
    elif kind == "pruner":
        promises, cases = PRUNER, _of_pruner(cell["pruner"], recipe, plugins)
    else:
        promises, cases = (
            TRAINER,
            [(net, TrainerCase(recipe.instance, toys.make_task(net, augment="flip"))) for net in toys.nets_for(recipe.instance)],
        )
    lines = [_line(promise, cases) for promise in promises]
    print("\n".join(lines))
    broken = sum(line.startswith("broken") for line in lines)
    print(f"{kind}={named[kind]}: {len(lines) - broken} of {len(lines)} promises kept, tried on 80 images")
    return 1 if broken else 0


def _recipe(given: Mapping[str, Any], plugins: list[str], kept: Sequence[str]) -> Component:
    """The trainer, small; fields that the command line gives stay as given."""
    fields = {name: value for name, value in given.items() if name != "preprocess"}
    return parse_component(small_recipe(fields, kept), "trainer", Trainer, plugins)


def _of_method(name: str, methods: Mapping[str, Any], recipe: Component, plugins: list[str]) -> Cases:
    """One case per space of the method's file, or the one that NAME@SPACE names."""
    method, _, wanted = name.partition("@")
    if method not in methods:
        raise unknown("method", method, methods, "sap-sweep check")
    spaces = methods[method].get("spaces") or {"only": {}}
    if wanted and wanted not in spaces:
        raise unknown("space", wanted, spaces, f"method {method}")
    task = toys.make_task("batch_norm", augment="flip")
    return [
        (space, corrector_case(methods[method]["corrector"], spaces[space], recipe, task, plugins))
        for space in spaces
        if wanted in ("", space)
    ]


def corrector_case(
    corrector: Mapping[str, Any], space: Mapping[str, Any] | None, recipe: Component, task: Task, plugins: Sequence[str] = ()
) -> CorrectorCase:
    """Settings from all over a space, on a network that plain training fits to the given labels."""
    where = "corrector"
    cls = resolve_class(corrector.get("_target_"), where, plugins)
    extra = dict.fromkeys(trainer_fields(cls), recipe.entry)
    small = small_settings(corrector, space, sample_counts(cls))
    settings = [parse_component(setting, where, Corrector, plugins, extra).instance for setting in small]
    return CorrectorCase(families_to_try(list(dict.fromkeys(settings))), toys.noisy(task), task)  # scaling may make two settings one


def _of_pruner(given: Mapping[str, Any], recipe: Component, plugins: list[str]) -> Cases:
    """The pruner on what the trainer of the same command makes of the toys."""
    if given.get("name") is None:
        raise UserError(f"pruner=none chooses nothing, so there is nothing to check; {_USAGE}")
    pruner: Pruner = parse_component(given, "pruner", Pruner, plugins).instance
    task = toys.make_task("batch_norm", augment="flip")
    warm: Fitted = recipe.instance.fit(task, PlainRun())
    return [("batch_norm", PrunerCase(pruner, warm, task))]


def _line(promise: Promise[Any], cases: Cases) -> str:
    """`ok` or `broken`, the promise, and what is to be said of it."""
    remarks: dict[str, list[str]] = {}
    for where, case in cases:
        try:
            remark = promise.check(case)
        except CheckFailed as broken:
            return f"broken  {promise}: {broken} ({where})"
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            said = f"{type(error).__name__}: {error}".strip(": ")
            return f"broken  {promise}: {said} ({Path(place.filename).name}:{place.lineno}; {where})"
        if remark:
            remarks.setdefault(remark, []).append(where)
    said = "; ".join(remark if len(places) == len(cases) else f"{', '.join(places)}: {remark}" for remark, places in remarks.items())
    return f"ok      {promise}" + (f" ({said})" if said else "")

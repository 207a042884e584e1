"""Resolves a `_target_` of the configuration to a class of an allowed package that declares its `name` and `version`."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Sequence
from functools import cache, partial
from typing import Any, get_type_hints

from torch import nn

from sap_core.components import PACKAGES, declared_name
from sap_core.construct import locate
from sap_core.errors import UserError
from sap_core.roles import Versioned
from sweeper.config.packages import SAMPLER, targets

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


_CHECKED: set[tuple[str, type, tuple[str, ...], type | None]] = set()
"""The classes that passed the checks below; each of the 675 settings of a grid names one."""


def resolve_class(target: Any, where: str, plugins: Sequence[str], interface: type | None = None) -> type:
    """The class that a `_target_` names, in this project's packages or in a plug-in.

    A network of a plug-in may be any class, or a function that builds one, without `name` and `version`: its identity is then its
    `__name__` and version 1.

    Raises:
        UserError: the path is not allowed or cannot be imported, or the class has no `version`, or no `name` in its own body.
    """
    # A configuration can name any importable object, and importing executes code, so only packages that the user has named are accepted.
    allowed = (*PACKAGES, *plugins)
    if target is None:
        raise UserError(f"{where} names no class; give it a _target_, the dotted path of one, or choose an entry of its group")
    if not isinstance(target, str) or target.split(".")[0] not in allowed:
        raise UserError(
            f"{where}._target_={target!r} is outside the packages that may be named ({', '.join(allowed)}); "
            f"add its package with plugins=[...]"
        )
    try:
        found = locate(target)
    except (ImportError, AttributeError, ValueError) as error:
        top = target.split(".")[0]
        # The package itself is not on Python's path.
        absent = top in plugins and isinstance(error, ModuleNotFoundError) and error.name == top
        remedy = f"name the folder of the package, as in plugins=[/path/to/{top}]" if absent else "give the dotted path of a class"
        raise UserError(f"{where}._target_={target} cannot be imported ({error}); {remedy}") from error
    except Exception as error:  # importing runs the module of a user, which may raise anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        # Components are compared and hashed, so theirs are frozen, and a subclass has to repeat it.
        frozen = "; declare the class @dataclass(frozen=True), as its parent is" if "frozen" in reason else ""
        raise UserError(f"{where}._target_={target} cannot be imported ({reason}){frozen or '; correct its module'}") from error
    checked = (target, found, tuple(plugins), interface)
    if isinstance(found, type) and checked in _CHECKED:
        return found
    # A plug-in may name a network of another library, such as torchvision, which declares no `name` or `version`.
    if interface is nn.Module and target.split(".")[0] in plugins and _builds_network(found, plugins):
        return found
    if interface is nn.Module and (other := _declared_other(found)) is not None:
        raise UserError(
            f"{where}._target_={target} builds a {other.__name__}, which is not a torch.nn.Module; name a class or function that builds one"
        )
    if not isinstance(found, type) or not (isinstance(found, Versioned) and isinstance(found.version, int)):
        raise UserError(
            f"{where}._target_={target} is not a class with an integer `version`, which is part of every id; declare "
            f"version: ClassVar[int] = 1"
        )
    _check_name(found, target, where)
    _CHECKED.add(checked)
    return found


def _builds_network(found: Any, plugins: Sequence[str]) -> bool:
    """Whether a plug-in's object is a network's class, or a function that builds one.

    A function of another package that a plug-in merely imports (`from os import system`) is none, unless it declares that it returns a
    network.
    """
    if isinstance(found, type):
        return issubclass(found, nn.Module)
    function = found.func if isinstance(found, partial) else found
    if not inspect.isroutine(function):
        return False
    declared = _declared_result(function)
    own = str(getattr(function, "__module__", "")).split(".")[0] in (*PACKAGES, *plugins)
    return own if declared is None else issubclass(declared, nn.Module)


def _declared_other(found: Any) -> type | None:
    """The class that a function declares to return, if that is not a network; None for anything else."""
    function = found.func if isinstance(found, partial) else found
    declared = _declared_result(function) if inspect.isroutine(function) else None
    return None if declared is None or issubclass(declared, nn.Module) else declared


def _declared_result(function: Any) -> type | None:
    """The class in the annotation of what a function returns; None without one, or if it is no class."""
    try:
        declared = get_type_hints(function).get("return")
    except Exception:  # annotations may name anything
        return None
    return declared if isinstance(declared, type) else None


def check_components(spec: Any, entries: Sequence[Any] = ()) -> None:
    """Check that a job's specification and its settings name components, and no other class or function of the allowed packages.

    Which packages they may name is checked when the job's file is read (`sweeper.config.packages`).

    Raises:
        UserError: an entry names something else.
    """
    for path, target in (*targets(spec), *targets(list(entries))):
        # Samplers are of Optuna and have no version; the search checks theirs.
        if path != SAMPLER:
            _check_component(target, path.split(".")[-1] == "model" and "settings" not in path.split("."))


@cache
def _check_component(target: str, network: bool) -> None:
    # The package is allowed already, so it may be named as a plug-in here.
    resolve_class(target, "the job's entry", (target.split(".")[0],), nn.Module if network else None)


def _check_name(cls: type, target: str, where: str) -> None:
    """Refuse a class without a `name` in its own body: with an inherited name, ids could not tell it from its parent."""
    name, line = declared_name(cls), f'name: ClassVar[str] = "{_snake_case(cls.__name__)}"'
    if dataclasses.is_dataclass(cls) and "name" in {item.name for item in dataclasses.fields(cls)}:
        raise UserError(
            f"{where}._target_={target} has a field `name`, but ids use `name` for the class itself; rename the field, and declare {line}"
        )
    if "name" in vars(cls) and name is None:
        raise UserError(f"{where}._target_={target} declares a `name` that is not a string; declare {line}")
    # A subclass would otherwise share the ids of its parent's rows, and stored results of one would be taken for the other's.
    parent = next((base for base in cls.__mro__[1:] if declared_name(base)), None)
    # A message of its own, because the cause is not visible in the class itself.
    if name is None and parent is not None:
        raise UserError(
            f"{where}._target_={target} inherits the name '{declared_name(parent)}' of {parent.__module__}.{parent.__qualname__}, so ids "
            f"could not tell the two apart; declare one in the body of {cls.__name__}: {line}"
        )
    if name is None:
        raise UserError(f"{where}._target_={target} declares no name, which is part of every id; add to the body of {cls.__name__}: {line}")
    if not _NAME.fullmatch(name):
        raise UserError(f"{where}._target_={target} declares the name {name!r}; use letters, digits and _.- only, as in {line}")


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()

"""The file of a method: its corrector and its search spaces. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sap_core.errors import UserError, unknown
from sweeper.config.search_space import DEFAULT_SPACE


def chosen_space(name: str, methods: Mapping[str, Any]) -> tuple[str, str, Mapping[str, Any], dict[str, Any]]:
    """(method, name of its space, its spaces, its corrector) of `method@space`; without `@space`, the first space.

    Raises:
        UserError: no such method or space, or a mistake in the method's file.
    """
    method, _, space = name.partition("@")
    if method not in methods:
        raise unknown("method", method, methods, "methods")
    spaces, corrector = check_method_file(methods[method], method)
    space = space or next(iter(spaces))
    # The one setting that the method's file and the overrides of its fields give, unless the file defines a space of this name.
    spaces = {**spaces, DEFAULT_SPACE: spaces.get(DEFAULT_SPACE, {})}
    if space not in spaces:
        raise unknown("space", space, spaces, f"methods ({method})")
    return method, space, spaces, corrector


def check_method_file(given: Any, method: str) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """(spaces, corrector) of a method's file.

    Raises:
        UserError: an unknown key, no corrector, or spaces that are no mapping.
    """
    keys = ("name", "corrector", "spaces")
    if not isinstance(given, Mapping) or not isinstance(given.get("corrector"), Mapping):
        raise UserError(f"method.{method} has no corrector; give it corrector: {{_target_: package.module.Class, ...}}")
    for key in given:
        if key not in keys:
            raise unknown("key", key, keys, f"method.{method}")
    # A method without hyperparameters is a space of one setting.
    spaces = given.get("spaces") or {"only": {}}
    if not isinstance(spaces, Mapping) or not all(isinstance(space, Mapping | None) for space in spaces.values()):
        raise UserError(f"method.{method}.spaces must map names to spaces, as in {{mine: {{alpha: {{grid: [1.0, 2.0]}}}}}}, not {spaces!r}")
    return spaces, dict(given["corrector"])

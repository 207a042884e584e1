"""Which fields of this project's components hold numbers, read from the source of their classes. Loads no torch."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from sap_core.components import PACKAGES

_NUMBERS = frozenset(f"{kind}{more}" for kind in ("float", "int", "bool") for more in ("", " | None"))


@cache
def is_number_field(target: object, name: str) -> bool:
    """Whether a field is surely a number or a truth value: its class, its bases and the parts in its fields declare it so.

    False where the source does not tell, and for classes of other packages, which are not looked for before they are known to be allowed.
    """
    found = set(_annotations(target, name, set())) if isinstance(target, str) else set()
    return bool(found) and found <= _NUMBERS


def _annotations(target: str, name: str, seen: set[str]) -> Iterator[str]:
    """The annotations of a field in a class, and in the classes of its bases and other fields."""
    module, _, cls = target.rpartition(".")
    if target in seen or target.partition(".")[0] not in PACKAGES or not module:
        return
    seen.add(target)
    classes, imported = _source(module)
    # A module may import the class from another one.
    if cls not in classes:
        if cls in imported:
            yield from _annotations(imported[cls], name, seen)
        return
    others: list[ast.expr] = list(classes[cls].bases)
    for line in classes[cls].body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            if line.target.id == name:
                yield ast.unparse(line.annotation)
            else:
                others.append(line.annotation)
    for other in others:
        if isinstance(other, ast.Name):
            yield from _annotations(imported.get(other.id, f"{module}.{other.id}"), name, seen)


@cache
def _source(module: str) -> tuple[dict[str, ast.ClassDef], dict[str, str]]:
    """The classes of a module, and the dotted paths of the names that it imports."""
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return {}, {}
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    imports = [line for line in tree.body if isinstance(line, ast.ImportFrom) and line.module]
    names = {alias.asname or alias.name: f"{line.module}.{alias.name}" for line in imports for alias in line.names}
    return {line.name: line for line in tree.body if isinstance(line, ast.ClassDef)}, names

"""Every text file is opened with an encoding: without one Python takes that of the locale, and files would differ between machines."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("sap_core", "trainers", "baselines", "sweeper", "analysis", "slurm", "examples", "benchmarks")
NO_TEXT = {"os", "Image", "tarfile", "archive"}
"""Objects whose `open` opens no text file."""


def opens_text_by_locale(call: ast.Call) -> bool:
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if "encoding" in given:
        return False
    if isinstance(text := given.get("text"), ast.Constant) and text.value:  # subprocess
        return True
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    if name in ("read_text", "write_text"):
        return not (name == "read_text" and call.args)  # importlib's
    base = function.value.id if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) else ""
    if name not in ("open", "fdopen") or (base in NO_TEXT and name == "open"):
        return False
    place = 1 if isinstance(function, ast.Name) or name == "fdopen" else 0
    mode = given.get("mode") or (call.args[place] if len(call.args) > place else None)
    return not (isinstance(mode, ast.Constant) and "b" in str(mode.value))


@pytest.mark.parametrize("package", PACKAGES)
def test_text_files_are_opened_with_an_encoding(package):
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and opens_text_by_locale(node)
    ]
    assert found == []

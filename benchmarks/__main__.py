"""`python -m benchmarks`: lists the benchmarks with one line on each."""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from pathlib import Path

from sap_core.command_line import program


def listing() -> str:
    """Returns the text that is printed: the modules that are programs, with the first line of their docstrings."""
    lines = {}
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        text = path.read_text(encoding="utf-8")
        if "ArgumentParser(" in text:
            lines[path.stem] = (ast.get_docstring(ast.parse(text)) or "").splitlines()[0]
    width = max(map(len, lines))
    return "\n".join(
        [
            "usage: python -m benchmarks.NAME [--help] [--quick] ...",
            "",
            "benchmarks (benchmarks/README.md has their results):",
            *(f"  {name:<{width}}  {line}" for name, line in lines.items()),
        ]
    )


@program
def main(arguments: Sequence[str] | None = None) -> int:
    print(listing())
    return 0


if __name__ == "__main__":
    sys.exit(main())

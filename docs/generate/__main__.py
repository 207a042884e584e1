"""Writes the generated pages of docs/reference: `make reference`, or `python -m docs.generate` in the root of the checkout.

The pages are committed, so that they can be read without a build; tests/docs compare them with what this program would write.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from docs.generate.columns import columns_page
from docs.generate.commands import commands_page
from docs.generate.components import GROUPS, group_page
from docs.generate.configuration import configuration_page
from docs.generate.experiments import experiments_page

REFERENCE = Path(__file__).parents[1] / "reference"
PAGES: dict[str, Callable[[], str]] = {
    "commands": commands_page,
    "configuration": configuration_page,
    "columns": columns_page,
    "experiments": experiments_page,
    **{name: partial(group_page, group) for group, (name, _, _) in GROUPS.items()},
}
"""Name of a page -> its text."""


def main() -> None:
    """Writes all pages."""
    # All of them first, so that a mistake leaves the old pages.
    texts = {name: text() for name, text in PAGES.items()}
    for name, text in texts.items():
        (REFERENCE / f"{name}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

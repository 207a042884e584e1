"""`sap-report STORE table NAME`: one table on the screen. NAME is a table of the program or a YAML file that describes one."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.commands.common import FORMATS, nothing, shown
from analysis.reports import generated_block as recipes
from analysis.store.load import Results
from analysis.store.selection_policy import FALLBACKS, POOLING
from analysis.store.selection_rule import RULES
from analysis.tables import spec
from analysis.tables.described import SHOWS
from analysis.tables.registry import names
from sap_core.errors import unknown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help=f"{', '.join(names())}; or a YAML file of your own")
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of a table."""
    parser.add_argument("--format", default="text", choices=FORMATS, help="how the table is printed")
    parser.add_argument(
        "--show", default="ours", choices=SHOWS, help="the store's numbers, the published ones, or both with the difference"
    )
    parser.add_argument("--width", default="two", choices=["one", "two"], help="LaTeX: columns of text that the table spans")
    parser.add_argument("--rule", choices=RULES, help="the rule of selection, in place of the table's own")
    parser.add_argument("--select", choices=POOLING, help="settings chosen seed by seed, or pooled: one setting for all seeds")
    parser.add_argument("--fallback", choices=FALLBACKS, help="strict: the unmodified model is a candidate; never: it is not")


def run(results: Results | None, options: argparse.Namespace) -> str:
    """Prints the table; as LaTeX between comments that say what it was made from, which `lint` reads."""
    recipe = recipe_of(options)
    tables = recipes.tables(recipe, results)
    if not tables:
        assert results is not None
        raise nothing(results, "table", recipe.table)
    if options.format == "latex":
        return recipes.generated(recipe, results).rstrip("\n")
    return shown(tables, options.format)


def recipe_of(options: argparse.Namespace) -> recipes.Recipe:
    """What the words and options mean.

    Raises:
        UserError: the name is neither a table of the program nor a readable YAML file.
    """
    name, text = options.name, None
    if name is not None and spec.is_path(name):
        described = spec.read(Path(name))
        name, text = described.name, described.text
    elif name not in names():
        raise unknown("table", name or "", names(), "sap-report STORE table NAME (or a YAML file)")
    return recipes.Recipe(name, options.show, options.width, options.rule, options.select, options.fallback, text)

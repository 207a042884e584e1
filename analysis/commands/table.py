"""`sap-report STORE table NAME`: prints one table. NAME is a built-in table or a YAML file that describes one."""

from __future__ import annotations

import argparse

from analysis.commands.common import add_format, format_tables, no_numbers
from analysis.reports import generated_block
from analysis.store.load import Results
from analysis.store.selection_policy import FALLBACKS, POOLING
from analysis.store.selection_rule import RULES
from analysis.tables import spec
from analysis.tables.described import SHOWS
from analysis.tables.registry import names
from sap_core.command_line import home_expanded
from sap_core.errors import UserError, unknown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help=f"one of {', '.join(names())}; or a YAML file that describes a table")
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a table."""
    add_format(parser)
    parser.add_argument(
        "--show",
        default="ours",
        choices=SHOWS,
        help="numbers of the store (ours), published numbers, or both with their difference (default: %(default)s)",
    )
    parser.add_argument(
        "--width", default="two", choices=["one", "two"], help="columns of a page that the LaTeX table spans (default: two)"
    )
    add_selection_options(parser)


def add_selection_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that replace the selection policy of a table."""
    parser.add_argument("--rule", choices=RULES, help="selection rule (default: the table's own)")
    parser.add_argument(
        "--select",
        choices=POOLING,
        help="seed: select a setting for each seed; pooled: one setting for all seeds (default: the table's own)",
    )
    parser.add_argument(
        "--fallback", choices=FALLBACKS, help="strict: the unmodified model is a candidate; never: it is not (default: the table's own)"
    )


def run(results: Results | None, options: argparse.Namespace) -> str:
    """Returns the table; LaTeX is enclosed in comment lines that `lint` reads."""
    recipe = recipe_of(options)
    tables = generated_block.tables(recipe, results)
    if not tables:
        assert results is not None
        raise no_numbers(results, "table", recipe.table)
    # The tables are built again from the recipe, exactly as `lint` will do.
    if options.format == "latex":
        return generated_block.generated_latex(recipe, results).rstrip("\n")
    return format_tables(tables, options.format)


def recipe_of(options: argparse.Namespace) -> generated_block.Recipe:
    """The recipe that the arguments and options describe.

    Raises:
        UserError: the name is missing, or is neither a built-in table nor a readable YAML file.
    """
    name, text = options.name, None
    # The recipe contains the text of the file, not its path, so that generated LaTeX can be checked on another machine.
    if name is not None and spec.is_path(name):
        described = spec.read(home_expanded(name))
        name, text = described.name, described.text
    elif name is None:
        raise UserError(f"the name of a table is missing in sap-report STORE table NAME; allowed: {', '.join(names())}, or a YAML file")
    elif name not in names():
        raise unknown("table", name, names(), "sap-report STORE table NAME (or a YAML file)")
    return generated_block.Recipe(name, options.show, options.width, options.rule, options.select, options.fallback, text)

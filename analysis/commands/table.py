"""`sap-report STORE table NAME`: prints one table. NAME is a built-in table or a YAML file that describes one."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import replace

from analysis.commands.common import add_format, add_names, format_tables, names_in, no_numbers
from analysis.commands.listing import epilog, table_lines
from analysis.reports import generated_block
from analysis.store.load import Results
from analysis.store.selection_policy import FALLBACKS, POOLING
from analysis.store.selection_rule import RULES
from analysis.tables import spec
from analysis.tables.described import SHOWS
from analysis.tables.latex_layout import WIDTHS
from analysis.tables.names import merged
from analysis.tables.print_options import FONT_SIZES, LATEX_ONLY, NOTES, PrintOptions, parse_print_options
from analysis.tables.registry import names
from analysis.tables.render import Table
from analysis.tables.short_texts import with_short_notes
from sap_core.command_line import home_expanded
from sap_core.completion import completed_by, one_of
from sap_core.errors import UserError, unknown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_table_name(parser, "NAME")
    add_options(parser)
    parser.epilog = epilog(
        "tables",
        table_lines(),
        "sap-report results/demo table comparison",
        "sap-report results/demo table comparison --format latex --columns 'test acc.'",
        "sap-report results/demo table search --format csv",
    )


def add_table_name(parser: argparse.ArgumentParser, metavar: str) -> None:
    """Adds the positional argument that names a table."""
    text = "one of the tables below, or a YAML file that describes one (docs/tables.md)"
    completed_by(parser.add_argument("name", nargs="?", metavar=metavar, help=text), one_of(table_lines()))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a table."""
    add_format(parser)
    parser.add_argument(
        "--show",
        default="ours",
        choices=SHOWS,
        help="numbers of the store (ours), published numbers, or both with their difference (default: %(default)s)",
    )
    add_width(parser)
    add_selection_options(parser)
    add_print_options(parser)


def add_width(parser: argparse.ArgumentParser) -> None:
    """Adds the option --width."""
    parser.add_argument("--width", choices=["one", "two"], help="columns of a page that the LaTeX table spans (default: two)")


def add_print_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that change how a finished table is printed (`analysis.tables.print_options`)."""
    group = parser.add_argument_group(
        "printing",
        r"Columns and rows are named as printed, columns also by their name in CSV. Names are plain text, or LaTeX code after 'latex:'.",
    )
    group.add_argument("--columns", metavar="NAME,...", action="append", help="print these columns, in this order")
    group.add_argument("--rows", metavar="NAME,...", action="append", help="print these rows, in this order")
    group.add_argument("--drop", metavar="NAME,...", action="append", help="leave out columns or rows")
    group.add_argument("--rename", metavar="OLD=NEW", action="append", help="rename a row, a column or a title; may be repeated")
    add_names(group)
    group.add_argument("--transpose", action="store_true", help="print columns as rows and rows as columns")
    group.add_argument("--decimals", type=int, metavar="N", help="decimals of all numbers that have some")
    group.add_argument("--no-spread", action="store_true", help="leave out the standard deviations")
    group.add_argument(
        "--notes", choices=tuple(NOTES), help="short: at most five lines; full: all (default: short in LaTeX, full otherwise)"
    )
    group.add_argument("--caption", metavar="TEXT", help="caption in place of the table's own")
    group.add_argument("--label", metavar="LABEL", help="LaTeX label in place of the table's own")
    group.add_argument("--body-only", action="store_true", help="LaTeX: the tabular without the float around it")
    group.add_argument("--siunitx", action="store_true", help="LaTeX: columns of numbers are S columns of siunitx")
    group.add_argument("--font-size", choices=FONT_SIZES, help="LaTeX: font size (default: the largest that fits)")


def print_options(options: argparse.Namespace) -> PrintOptions:
    """The printing options of the command line.

    Raises:
        UserError: an option is invalid, or has no effect on the format.
    """
    given: dict[str, object] = {
        name: getattr(options, name)
        for name in ("decimals", "notes", "caption", "label", "font_size")
        if getattr(options, name) is not None
    }
    given |= {name: True for name in ("transpose", "body_only", "siunitx") if getattr(options, name)}
    given |= {"spread": False} if options.no_spread else {}
    for name in ("columns", "rows", "drop"):
        if getattr(options, name):
            # A name may contain a comma if it is given alone; see `_listed`.
            given[name] = [part for text in getattr(options, name) for part in _listed(text)]
    if options.rename:
        given["rename"] = dict(_renaming(text) for text in options.rename)
    found = parse_print_options(given, "the options")
    if options.format != "latex":
        useless = [name for name in LATEX_ONLY if name in given] + (["width"] if options.width else [])
        if useless:
            raise UserError(f"--{useless[0].replace('_', '-')} changes LaTeX only; add --format latex, or omit it")
    return found if options.names is None else replace(found, names=merged(names_in(options), found.names))


def _listed(text: str) -> list[str]:
    """Splits a list at its commas; those followed by a space belong to a name, as in 'ResNet18, symmetric'."""
    return [part.strip() for part in re.split(r",(?! )", text) if part.strip()]


def _renaming(text: str) -> tuple[str, str]:
    old, sign, new = text.partition("=")
    if not (sign and old.strip() and new.strip()):
        raise UserError(f"--rename '{text}' is not of the form OLD=NEW; use for example --rename 'SAP (alpha16)=SAP'")
    return old.strip(), new.strip()


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
    return format_recipe(recipe_of(options, print_options(options)), results, options.format)


def format_recipe(recipe: generated_block.Recipe, results: Results | None, form: str) -> str:
    """Makes and formats the tables of a recipe.

    Raises:
        UserError: the store has no numbers for them.
    """
    tables = generated_block.tables(recipe, results)
    if not tables:
        assert results is not None
        raise no_numbers(results, "table", recipe.table)
    # The tables are built again from the recipe, exactly as `lint` will do.
    if form == "latex":
        return generated_block.generated_latex(recipe, results).rstrip("\n")
    return format_tables(_shortened(tables, recipe.options), form)


def _shortened(tables: Sequence[Table], options: PrintOptions) -> list[Table]:
    return [with_short_notes(table, WIDTHS["two"]) if options.notes == "short" else table for table in tables]


def recipe_of(options: argparse.Namespace, printed: PrintOptions = PrintOptions()) -> generated_block.Recipe:  # noqa: B008  # frozen
    """The recipe that the arguments and options describe.

    Raises:
        UserError: the name is missing, or is neither a built-in table nor a readable YAML file.
    """
    name, text = options.name, None
    # The recipe contains the text of the file, not its path, so that generated LaTeX can be checked on another machine.
    if name is not None and spec.is_path(name):
        described = spec.read_file(home_expanded(name))
        name, text = described.table, described.text or None
        printed = printed.over(described.print)
    elif name is None:
        raise UserError(f"the name of a table is missing in sap-report STORE table NAME; allowed: {', '.join(names())}, or a YAML file")
    if text is None and name not in (*names(), generated_block.HEADLINE):
        where = f"'table' of {options.name}" if name != options.name else "sap-report STORE table NAME (or a YAML file)"
        raise unknown("table", name, names(), where)
    return generated_block.Recipe(
        name, options.show, options.width or "two", options.rule, options.select, options.fallback, text, printed.data()
    )

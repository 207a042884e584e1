"""What a generated file was made from, said in comments at its head, so that it can be made again and compared.

A block of generated LaTeX opens with two comment lines (the recipe as JSON, the stores with their rows) and closes with one, so a block
can be found in a paper's file that it was pasted into. No path of a machine is in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from analysis.reports import macros
from analysis.store.load import Results
from analysis.store.selection_policy import FALLBACKS, POOLING
from analysis.store.selection_rule import RULES
from analysis.tables.described import SHOWS, described_tables
from analysis.tables.registry import TABLES, names
from analysis.tables.render import Table, latex
from analysis.tables.spec import TableSpec, parse, shipped, shipped_spec
from sap_core.errors import UserError, unknown

OPENS, ROWS, CLOSES = "% sap-report made this: ", "% from ", "% end of what sap-report made"
NEEDS = "% needs \\usepackage{booktabs} and \\usepackage{graphicx}"
MACROS = "macros"
_WIDTHS = ("two", "one")


@dataclass(frozen=True)
class Recipe:
    """How a table is made: its name and the options; `spec` is the text of a user's own YAML file."""

    table: str
    show: str = "ours"
    width: str = "two"
    rule: str | None = None
    over: str | None = None
    fallback: str | None = None
    spec: str | None = None

    def text(self) -> str:
        """One line of JSON, without what is left at its default."""
        return json.dumps({name: value for name, value in asdict(self).items() if value != Recipe.__dataclass_fields__[name].default})


def read(text: str) -> Recipe:
    """The recipe of a comment.

    Raises:
        UserError: it is damaged, or of another version.
    """
    try:
        data = json.loads(text)
        recipe = Recipe(**data)
    except (ValueError, TypeError) as error:
        raise UserError(f"the head of the generated block cannot be read ({text[:60]}...); make the table again") from error
    if recipe.show not in SHOWS or recipe.width not in _WIDTHS:
        raise UserError(f"the head of the generated block has options that are not known ({text[:60]}...); make the table again")
    return recipe


def described(recipe: Recipe) -> TableSpec:
    """The described table with the recipe's options.

    Raises:
        UserError: an option is not known.
    """
    spec = shipped_spec(recipe.table) if recipe.spec is None else parse(recipe.spec, recipe.table)
    policy = spec.selection
    for name, value, allowed in (("rule", recipe.rule, RULES), ("over", recipe.over, POOLING), ("fallback", recipe.fallback, FALLBACKS)):
        if value is not None and value not in allowed:
            raise unknown(f"selection.{name}", value, allowed)
        policy = policy if value is None else replace(policy, **{name: value})
    return replace(spec, selection=policy)


def tables(recipe: Recipe, results: Results | None) -> tuple[Table, ...]:
    """The tables of a recipe; none when the store has no numbers for them.

    Raises:
        UserError: the table is not known, or does not take the options.
    """
    if recipe.spec is not None or recipe.table in shipped():
        return described_tables(described(recipe), results, recipe.show, checked=recipe.spec is not None)
    if recipe.table not in TABLES:
        raise unknown("table", recipe.table, names(), "sap-report STORE table NAME (or a YAML file)")
    given = [name for name in ("rule", "over", "fallback") if getattr(recipe, name) is not None] + (
        ["show"] if recipe.show != "ours" else []
    )
    if given:
        raise UserError(
            f"the table '{recipe.table}' takes no option {', '.join(f'--{_OPTIONS.get(name, name)}' for name in given)}; "
            f"those that a YAML file describes do: {', '.join(shipped())}"
        )
    assert results is not None
    return TABLES[recipe.table](results)


_OPTIONS = {"over": "select"}


def generated(recipe: Recipe, results: Results | None) -> str:
    """The LaTeX of a recipe, between its comments. Needs the packages booktabs and graphicx."""
    body = macros.text(results) if recipe.table == MACROS and results is not None else _latex(tables(recipe, results), recipe.width)
    return block(recipe, results, body)


def block(recipe: Recipe, results: Results | None, body: str) -> str:
    """A text between the comments that say what it was made from."""
    needs = [] if recipe.table == MACROS else [NEEDS]
    return "\n".join([OPENS + recipe.text(), ROWS + rows_text(results), *needs, body.rstrip("\n"), CLOSES, ""])


def _latex(some: Sequence[Table], width: str) -> str:
    return "\n".join(latex(table, width) for table in some)


def rows_text(results: Results | None) -> str:
    """`demo: 2502 rows, sha256 1f0c...` of their run ids and what became of them; `the published numbers` without a store."""
    if results is None:
        return "the published numbers"
    rows: Any = results.rows[["run_id", "status"]].astype(str).sort_values("run_id")
    digest = hashlib.sha256("\n".join(f"{run_id} {status}" for run_id, status in zip(rows["run_id"], rows["status"], strict=True)).encode())
    return f"{', '.join(store.resolve().name for store in results.stores)}: {len(rows)} rows, sha256 {digest.hexdigest()[:16]}"

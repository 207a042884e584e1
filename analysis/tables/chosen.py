"""What every search chose, seed by seed, and how much looking that took: for stores scored in full and for races alike."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.cells import Cell as SweepCell
from analysis.cells import Search, searched
from analysis.choose import RULES, TIES, Choice, score_column
from analysis.labels import MEASURES, MISSING, method_label, number, plain
from analysis.load import Results
from analysis.render import Cell, Column, Table
from analysis.tables.notes import GAP, cell_title

FULL_RULE = "val_noisy"
"""The rule by which a search that was scored in full is read; a race has the rule it was raced under."""

SHARE = (
    "Images: share of the image evaluations of evaluation=full that were made, over the settings that did not fail; the pass of the "
    "unmodified network that opens each job of a race is not counted."
)


def chosen(results: Results) -> tuple[Table, ...]:
    """One table per cell, one row per search and seed.

    Raises:
        UserError: the store is a smoke run's, or plans nothing that a table could show.
    """
    return tuple(_table(results, cell) for cell in searched(results))


def _table(results: Results, cell: SweepCell) -> Table:
    measure = MEASURES[cell.measure]
    unit, suffix = (f" ({measure.unit})", "_percent") if measure.unit else ("", "")
    searches = [search for some in cell.methods.values() for search in some]
    choices = [(search, _rule(search), search.choose(_rule(search))) for search in searches]
    rules = dict.fromkeys(rule for _, rule, _ in choices)
    return Table(
        name="chosen",
        cell=cell.name,
        caption=f"What was chosen on {cell_title(cell)}, seed by seed.",
        columns=(
            Column("method", "Method", numeric=False),
            Column("seed", "Seed"),
            Column("chosen", "Chosen", numeric=False),
            Column("rule", "Rule", numeric=False),
            Column(f"validation{suffix}", f"Validation{unit}"),
            Column(f"test{suffix}", f"Test{unit}"),
            Column("evaluation", "Evaluation", numeric=False),
            Column("images_percent", "Images (%)"),
        ),
        rows=tuple(_row(search, rule, choice, measure.factor, measure.decimals) for search, rule, choice in choices),
        notes=(*(f"{rule}: {RULES[rule].format(score=measure.name)}." for rule in rules), TIES, SHARE, *_gaps(choices), *results.problems),
    )


def _gaps(choices: Sequence[tuple[Search, str, Choice]]) -> list[str]:
    said = []
    for search, _, choice in choices:
        who = f"{GAP} {method_label(search.method, search.space)}, seed {search.seed}"
        if choice.problem:
            said.append(f"{who}: {choice.problem}.")
        if search.missing:
            said.append(f"{who}: {search.missing} of {len(search.planned)} planned settings have no row.")
    return said


def _rule(search: Search) -> str:
    return search.race_rule or FULL_RULE


def _row(search: Search, rule: str, choice: Choice, factor: float, decimals: int) -> tuple[Cell, ...]:
    def score(column: str) -> Cell:
        value = None if choice.row is None else float(choice.row[column]) * factor
        return Cell(number(value, decimals), value)

    share = image_share(search)
    lacking = GAP if choice.row is None or search.missing else ""
    return (
        Cell(method_label(search.method, search.space), marks=lacking),
        Cell(str(search.seed), search.seed),
        Cell(_setting(search, choice)),
        Cell(rule),
        score(score_column(rule, search.measure)),
        score(score_column("test_oracle", search.measure)),
        Cell("race" if search.race_rule else "full"),
        Cell(number(None if share is None else share * 100, 1), None if share is None else share * 100),
    )


def image_share(search: Search) -> float | None:
    """Validation images looked at, as a share of what scoring every sound setting on all of them takes; None when no row says."""
    rows = search.rows[search.rows["status"] == "ok"]
    if rows.empty:
        return None
    return float(rows["images_evaluated"].sum() / rows["num_val"].sum()) if search.race_rule else 1.0


def _setting(search: Search, choice: Choice) -> str:
    """The fields in which the settings of the space differ, as chosen."""
    if choice.kept or choice.row is None:
        return "unmodified" if choice.kept else MISSING
    position = int(choice.row["position"])
    mine = next(setting for setting, place in zip(search.settings, search.planned["position"], strict=True) if place == position)
    varied = [field for field in mine if len({repr(setting.get(field)) for setting in search.settings}) > 1]
    return ", ".join(f"{field}={_plain(mine[field])}" for field in varied) or "the only setting"


def _plain(value: object) -> str:
    return plain(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)

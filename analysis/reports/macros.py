r"""Defines the main numbers of a store as LaTeX commands, such as `\SapScrubTest`, for use in a paper's prose.

A name is a prefix, a word for the cell (none in a store of one cell), a word for the method and one for the quantity, in letters only and
at most `MAX_LENGTH` of them. Prefix and words can be set. Scores and gains are those of the table `comparison`; the other numbers are
taken, as printed, from the tables of the report on tuning cost (`analysis.reports.headline_tables`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from analysis.reports.headline_tables import headline_tables
from analysis.store.labels import MEASURES, MISSING, RETRAIN, counted, method_label, number
from analysis.store.load import Results
from analysis.store.results import CellResult, cells
from analysis.store.selection_policy import Policy, select
from analysis.store.selection_rule import score_column
from analysis.store.stats import Summary, number_of, score_difference, summarise
from analysis.tables.latex import escape_latex
from analysis.tables.notes import cell_title
from analysis.tables.render import Table
from sap_core.errors import UserError, unknown
from sap_core.records import VANILLA

PREFIX = "Sap"
MAX_LENGTH = 30
"""The most letters of a name, without the backslash."""

_METHOD_LENGTH = 8
"""Letters of a method's word, which leave room for prefix, cell, space and the longest quantity."""

_DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")

_HEADLINE = {
    "default_test": "DefaultTest", "test_1": "AfterOne", "test_4": "AfterFour", "test_16": "AfterSixteen", "test_64": "AfterSixtyFour",
    "default_seconds": "DefaultCost", "default_giga_flops": "DefaultCost", "total_seconds": "Cost", "total_giga_flops": "Cost",
    "seconds_to_90": "CostNinety", "seconds_to_95": "CostNinetyFive", "seconds_to_99": "CostNinetyNine",
    "giga_flops_to_90": "CostNinety", "giga_flops_to_95": "CostNinetyFive", "giga_flops_to_99": "CostNinetyNine",
    "trials_to_90": "TrialsNinety", "trials_to_95": "TrialsNinetyFive", "trials_to_99": "TrialsNinetyNine", "best_gain_points": "BestGain",
    "settings_ratio": "RatioSettings", "cost_ratio": "RatioCost", "target_ratio": "RatioTarget", "target_interval": "RatioInterval",
    "sap_ahead_small": "AheadSmall", "sap_ahead_large": "AheadLarge", "difference_points": "Diff", "difference_interval": "DiffInterval",
    "detectable_points": "Detectable", "seeds_needed": "SeedsNeeded",
}  # fmt: skip
"""Column of the tables on tuning cost -> the quantity's word."""


def text(results: Results, policy: Policy = Policy(), prefix: str = PREFIX, words: Mapping[str, str] | None = None) -> str:  # noqa: B008
    r"""One `\newcommand` per number with an explaining comment.

    Args:
        results: the store.
        policy: the selection policy of scores and gains.
        prefix: the beginning of all names.
        words: cell, method or method/space -> the word for it in names.

    Raises:
        UserError: a prefix or word has other characters than letters or is of nothing in the store; a name is too long; or two are equal.
    """
    given = dict(words or {})
    found = cells(results)
    _check(prefix, given, found)
    by_cell: dict[str, list[Table]] = {}
    caveats: dict[str, None] = {}
    for table in headline_tables(results):
        by_cell.setdefault(table.cell, []).append(table)
        caveats |= dict.fromkeys(table.notes if table.name == "headline-cost" else ())
    lines = [f"% {escape_latex(note)}" for note in (policy.sentences()[0], *caveats)]
    seen: set[str] = set()
    for index, cell in enumerate(found):
        place = given.get(cell.name, _letters(index) if len(found) > 1 else "")
        methods = _method_words(cell, given)
        for word, quantity, value, explanation in _numbers(cell, policy, methods, by_cell.get(cell.name, [])):
            name = f"{prefix}{place}{word}{quantity}"
            _check_name(name, seen)
            lines.append(f"\\newcommand{{\\{name}}}{{{escape_latex(value)}}} % {escape_latex(explanation)}")
    return "\n".join(lines) + "\n"


def camel(name: str) -> str:
    """Joins words to a name of letters only, as LaTeX commands require; digits and decimal points are spelt out."""
    # Spelt out, because names such as table1 and table2 would become equal without their digits.
    spelt = re.sub(r"[0-9]", lambda digit: f" {_DIGITS[int(digit.group())]} ", re.sub(r"(?<=[0-9])\.(?=[0-9])", " Point ", name))
    return "".join(word[:1].upper() + word[1:] for word in re.findall(r"[A-Za-z]+", spelt))


def _check(prefix: str, words: Mapping[str, str], found: Iterable[CellResult]) -> None:
    for what, word in (("--prefix", prefix), *((f"--word {key}", word) for key, word in words.items())):
        if not re.fullmatch("[A-Za-z]+", word):
            raise UserError(f"{what} is '{word}'; names of LaTeX commands have letters only (a to z, A to Z)")
    keys = [cell.name for cell in found]
    for cell in found:
        for method, space in cell.methods:
            keys += [method, *([f"{method}/{space}"] if space else [])]
    for key in words:
        if key not in keys:
            raise unknown("cell or method", key, dict.fromkeys(keys), "--word")


def _check_name(name: str, seen: set[str]) -> None:
    if len(name) > MAX_LENGTH:
        raise UserError(
            f"the name \\{name} has {len(name)} letters and may have {MAX_LENGTH}; choose a shorter --prefix or --word KEY=WORD"
        )
    # LaTeX would refuse the second definition.
    if name in seen:
        raise UserError(
            f"two numbers would have the name \\{name}; tell them apart with --word KEY=WORD (KEY: a cell, method, method/space)"
        )
    seen.add(name)


def _letters(index: int) -> str:
    """`A` ... `Z`, `Aa` ... `Zz`: in the plan's order, with one capital, so that no two cells' names can be read as one another's."""
    first, second = divmod(index, 26)
    return chr(ord("A") + index) if index < 26 else chr(ord("A") + (first - 1) % 26) + chr(ord("a") + second)


def _method_words(cell: CellResult, given: Mapping[str, str]) -> dict[tuple[str, str | None], str]:
    """A word for each method and space of a cell; the spaces of one method differ in a letter, in the plan's order."""
    found: dict[tuple[str, str | None], str] = {}
    for method, space in cell.methods:
        spaces = [other for name, other in cell.methods if name == method]
        word = given.get(method, camel(method)[:_METHOD_LENGTH] or "Method")
        letter = _letters(spaces.index(space)) if len(spaces) > 1 else ""
        own = given.get(f"{method}/{space}", word + letter)
        # Two names may become equal when they are shortened.
        while own in found.values() and f"{method}/{space}" not in given and method not in given:
            own = own[: _METHOD_LENGTH - 1] + _letters(len(found))[:1]
            if own in found.values():
                break
        found[method, space] = own
    return found


def _numbers(
    cell: CellResult, policy: Policy, words: Mapping[tuple[str, str | None], str], tables: Iterable[Table]
) -> Iterator[tuple[str, str, str, str]]:
    """Yields (method's word, quantity's word, printed number, explanation) for each number."""
    measure, title = MEASURES[cell.measure], cell_title(cell)
    test = score_column("test_oracle", cell.measure)

    def entries_for(
        word: str, quantity: str, summary: Summary, explanation: str, sign: bool = False
    ) -> Iterator[tuple[str, str, str, str]]:
        shown = summary.times(measure.factor)
        # A number that does not exist gets no command, so that LaTeX stops where the prose would use it.
        if shown.mean is not None:
            over = f"mean over {counted(summary.n, 'seed')}, {title}"
            yield word, quantity, number(shown.mean, measure.decimals, sign), f"{explanation}, {over}"
        if shown.std is not None:
            yield word, f"{quantity}Std", number(shown.std, measure.decimals), f"{explanation}, sample standard deviation"

    before = summarise(None if baseline.row is None else number_of(baseline.row[test]) for baseline in cell.baselines)
    yield from entries_for("Vanilla", "Test", before, f"{method_label(VANILLA)}: test {measure.name}")
    yield "", "Seeds", str(len(cell.seeds)), f"seeds, {title}"
    for (method, space), searches in cell.methods.items():
        word, label = words[method, space], method_label(method, space)
        chosen = list(zip(searches, select(searches, policy), strict=True))
        scores = summarise(None if choice.row is None else number_of(choice.row[test]) for _, choice in chosen)
        gains = summarise(
            None if choice.row is None or search.vanilla is None else score_difference(choice.row, search.vanilla, test)
            for search, choice in chosen
        )
        yield from entries_for(word, "Test", scores, f"{label}: test {measure.name}")
        yield from entries_for(word, "Gain", gains, f"{label}: gain over the unmodified model, paired by seed", sign=True)
        yield word, "Settings", str(max(len(search.planned) for search in searches)), f"{label}: settings of one search"
    labels = {method_label(*key): word for key, word in words.items() if key[0] != RETRAIN}
    for table in tables:
        yield from _of_table(table, labels)


def _of_table(table: Table, words: Mapping[str, str]) -> Iterator[tuple[str, str, str, str]]:
    """The numbers of one table on tuning cost, as it prints them."""
    for row in table.rows:
        for column, cell in zip(table.columns, row, strict=True):
            if column.key not in _HEADLINE or cell.text == MISSING or row[0].text not in words:
                continue
            word, quantity = words[row[0].text], _HEADLINE[column.key]
            explanation = f"{row[0].text}: {', '.join(part for part in (column.group, column.head) if part)}"
            mean, plus_minus, std = cell.text.partition(" ± ")
            yield word, quantity, mean, explanation
            if plus_minus:
                yield word, f"{quantity}Std", std, f"{explanation}, sample standard deviation"

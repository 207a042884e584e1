r"""Defines the main numbers of a store as LaTeX commands, such as `\SapDigitsSymmetricSmallCnnSgdTest`, for use in a paper's prose."""

from __future__ import annotations

import re
from collections.abc import Iterator

from analysis.store.labels import MEASURES, RETRAIN, method_label, number
from analysis.store.load import Results
from analysis.store.results import CellResult, cells
from analysis.store.selection_policy import Policy, select
from analysis.store.selection_rule import score_column
from analysis.store.stats import Summary, summarise
from analysis.tables.latex import escape_latex
from analysis.tables.notes import cell_title
from sap_core.errors import UserError
from sap_core.records import VANILLA
from sap_core.text import one_line

_DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")


def text(results: Results, policy: Policy = Policy()) -> str:  # noqa: B008  # frozen
    r"""One `\newcommand` per number with an explaining comment: mean, standard deviation, gain, seeds and settings of every method.

    Raises:
        UserError: two numbers would have the same name.
    """
    lines, seen = [f"% {policy.sentences()[0]}"], set()
    for cell in cells(results):
        for name, value, explanation in _numbers(cell, policy):
            # Two names may become equal when their punctuation is dropped; LaTeX would then refuse the second definition.
            command = camel(f"sap {cell.name} {name}")
            if command in seen:
                raise UserError(f"two numbers would have the name \\{command}; run sap-report STORE macros for each store separately")
            seen.add(command)
            lines.append(f"\\newcommand{{\\{command}}}{{{escape_latex(value)}}} % {one_line(explanation)}")
    return "\n".join(lines) + "\n"


def camel(name: str) -> str:
    """Joins words to a name of letters only, as LaTeX commands require; digits and decimal points are spelt out."""
    # Spelt out, because names such as table1 and table2 would become equal without their digits.
    spelt = re.sub(r"[0-9]", lambda digit: f" {_DIGITS[int(digit.group())]} ", re.sub(r"(?<=[0-9])\.(?=[0-9])", " Point ", name))
    return "".join(word[:1].upper() + word[1:] for word in re.findall(r"[A-Za-z]+", spelt))


def _numbers(cell: CellResult, policy: Policy) -> Iterator[tuple[str, str, str]]:
    """Yields (name, printed number, explanation) for each number; `camel` turns the name into that of a LaTeX command."""
    measure, title = MEASURES[cell.measure], cell_title(cell)
    test = score_column("test_oracle", cell.measure)

    def entries_for(name: str, summary: Summary, explanation: str, sign: bool = False) -> Iterator[tuple[str, str, str]]:
        shown = summary.times(measure.factor)
        # A number that does not exist gets no command, so that LaTeX stops where the prose would use it.
        if shown.mean is not None:
            yield name, number(shown.mean, measure.decimals, sign), f"{explanation}, mean over {summary.n} seeds, {title}"
        if shown.std is not None:
            yield f"{name} std", number(shown.std, measure.decimals), f"{explanation}, sample standard deviation"

    before = summarise(None if baseline.row is None else float(baseline.row[test]) for baseline in cell.baselines)
    yield from entries_for("vanilla test", before, f"{method_label(VANILLA)}: test {measure.name}")
    yield "seeds", str(len(cell.seeds)), f"seeds, {title}"
    # The space is part of a name only where a method has several, so that names stay short.
    unambiguous = {method for method, _ in cell.methods if sum(name == method for name, _ in cell.methods) == 1}
    for (method, space), searches in cell.methods.items():
        name = method if method in unambiguous or method == RETRAIN else f"{method} {space}"
        label = method_label(method, space)
        chosen = list(zip(searches, select(searches, policy), strict=True))
        scores = summarise(None if choice.row is None else float(choice.row[test]) for _, choice in chosen)
        gains = summarise(
            None if choice.row is None or search.vanilla is None else float(choice.row[test]) - float(search.vanilla[test])
            for search, choice in chosen
        )
        yield from entries_for(f"{name} test", scores, f"{label}: test {measure.name}")
        yield from entries_for(f"{name} gain", gains, f"{label}: gain over the unmodified model, paired by seed", sign=True)
        yield f"{name} settings", str(max(len(search.planned) for search in searches)), f"{label}: settings of one search"

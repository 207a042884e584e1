"""Words the verdicts of significance tests (`analysis.tuning.significance`).

The sentences never conclude that two methods are equal, only that the data do not show a difference.
"""

from __future__ import annotations

from analysis.store.labels import number, p_value
from analysis.tuning.significance import LEVEL, Verdict, nonzero, smallest_wilcoxon


def p_text(p: float | None) -> str:
    """Formats a p-value: `p = .016`, `p < .0001`."""
    if p is None:
        return "no p-value"
    text = p_value(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


_TESTS = {"paired": "paired t-test over the seeds", "welch": "Welch's t-test"}


def sentence(verdict: Verdict, seeds: str) -> str:
    """One sentence with the result of the test that the verdict rests on; `seeds` is such as "three seeds"."""
    comparison = verdict.comparison
    one, other, family, cells = comparison.one, comparison.other, comparison.family, len(comparison.mean_differences)
    if not cells:
        return f"On {family}, {one} and {other} have no cell in common."
    if verdict.p is None:
        difference = number(comparison.mean_difference, 2, sign=True)
        return f"On {family}, the difference between {one} and {other} cannot be tested with {seeds} (mean difference {difference} points)."
    name = f"Wilcoxon signed-rank test over {cells} cells" if verdict.test == "wilcoxon" else _TESTS[verdict.test]
    ahead = f"; {one} ahead in {comparison.wins} of {cells}, behind in {comparison.losses}" if comparison.over_cells else ""
    difference = number(comparison.mean_difference, 2, sign=True)
    test = f"{name}, two-sided: {_p_texts(verdict)}; mean difference {difference} points{ahead}"
    over = " over the cells" if comparison.over_cells else ""
    if verdict.significant:
        # The test is two-sided, so a small p-value may speak for either method.
        verb = "beats" if verdict.direction > 0 else "is beaten by"
        return f"On {family}, {one} {verb} {other}{over} ({test})."
    return f"On {family}, {one} and {other} do not differ significantly{over} with {seeds} ({test}).{_floor(verdict)}"


def _p_texts(verdict: Verdict) -> str:
    """`p = .016, corrected by Holm for 3 tests .047`."""
    if verdict.p is None or verdict.tests < 2:
        return p_text(verdict.p)
    return f"{p_text(verdict.p)}, corrected by Holm for {verdict.tests} tests {_bare(verdict.corrected)}"


def _floor(verdict: Verdict) -> str:
    """States the smallest p-value that so few cells can give, where it could not have been significant."""
    least = smallest_wilcoxon(verdict.comparison.mean_differences) if verdict.comparison.over_cells else None
    if least is None or least * verdict.tests <= LEVEL:
        return ""
    count = len(nonzero(verdict.comparison.mean_differences))
    corrected = f", and up to {_bare(min(1.0, least * verdict.tests))} after the correction" if verdict.tests > 1 else ""
    return f" The smallest p-value possible with {count} differences that are not zero is {_bare(least)}{corrected}."


def _bare(p: float | None) -> str:
    """`.047`, `< .0001`: a p-value without its letter."""
    return p_text(p).removeprefix("p ").removeprefix("= ")

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.store.stats import Summary, summarise
from analysis.tables.verdicts import p_text, sentence
from analysis.tuning.significance import (
    CellComparison,
    MethodComparison,
    corrected_tests,
    holm,
    paired,
    smallest_wilcoxon,
    welch,
    wilcoxon,
)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values):
    corrected = holm(p_values)
    for level in (0.01, 0.05, 0.2):
        rejected, order = set(), sorted(range(len(p_values)), key=lambda place: p_values[place])
        for rank, place in enumerate(order):  # the procedure as Holm writes it, one hypothesis after the other
            if p_values[place] * (len(p_values) - rank) > level:
                break
            rejected.add(place)
        assert {place for place, p in enumerate(corrected) if p <= level} == rejected
    assert all(new >= old for new, old in zip(corrected, p_values, strict=True))


def test_holm_ignores_missing_p_values():
    assert holm([0.01, None, 0.04]) == [0.02, None, 0.04]


def test_welch_and_paired_agree_with_scipy():
    one, other = [90.1, 90.4, 89.7], [88.0, 89.1, 88.8]
    assert welch(summarise(one), summarise(other)) == pytest.approx(stats.ttest_ind(one, other, equal_var=False).pvalue)
    differences = [a - b for a, b in zip(one, other, strict=True)]
    assert paired(differences) == pytest.approx(stats.ttest_rel(one, other).pvalue)
    assert welch(Summary(1.0, None, 1), summarise(other)) is None
    assert paired([1.0]) is None
    assert paired([0.5, 0.5, 0.5]) is None


@pytest.mark.parametrize("differences", [[1.0, 2.0, -0.5, 3.0, 4.0, 0.25], [0.1, -0.2, 0.3, 0.4, -0.5, 0.6, 0.7]])
def test_wilcoxon_against_all_signs(differences):
    ranks = stats.rankdata(np.abs(differences))
    observed = min(ranks[np.array(differences) > 0].sum(), ranks[np.array(differences) < 0].sum())
    smaller = sum(ranks[np.array(signs)].sum() <= observed for signs in itertools.product([True, False], repeat=len(differences)))
    assert wilcoxon(differences) == pytest.approx(min(1, 2 * smaller / 2 ** len(differences)))


def test_wilcoxon_of_nothing():
    assert wilcoxon([0.0, 0.0]) is None
    assert wilcoxon([]) is None


def test_wilcoxon_with_ties_and_zeros_is_exact():
    """Scipy's default would take the normal approximation."""
    for differences in ([1.0, 1.0, 2.0, 3.0, -1.0], [1.0, 0.0, 1.0, 1.0, 1.0, 0.1 + 0.2 - 0.3]):
        found = np.array([difference for difference in differences if abs(difference) > 1e-9])
        ranks = stats.rankdata(np.abs(found))
        sums = [ranks[np.array(signs)].sum() for signs in itertools.product([True, False], repeat=len(found))]
        observed = ranks[found > 0].sum()
        two_sided = 2 * min(np.mean(np.array(sums) <= observed), np.mean(np.array(sums) >= observed))
        assert wilcoxon(differences) == pytest.approx(min(1.0, two_sided))


def test_the_smallest_p_value_counts_differences_that_are_not_zero():
    assert smallest_wilcoxon([1.0, -2.0, 3.0]) == 0.25
    assert smallest_wilcoxon([1.0, 0.0, 0.1 + 0.2 - 0.3, 3.0]) == 0.5
    assert smallest_wilcoxon([0.0]) is None


@pytest.mark.parametrize("differences", [[0.3, 0.1 + 0.2, 0.3], [0.0, 0.0, 0.0]])
def test_differences_that_are_equal_up_to_rounding_have_no_p_value(differences):
    assert paired(differences) is None


def pairs(differences):
    return tuple(
        CellComparison(
            f"cell {n}", Summary(80 + difference, 0.1, 3), Summary(80.0, 0.1, 3), (difference, difference + 0.1, difference - 0.1)
        )
        for n, difference in enumerate(differences)
    )


def said(*differences, seeds="three seeds"):
    """The sentences about comparisons with several opponents, one list of differences each."""
    compared = [MethodComparison("X", "SAP", f"OTHER{n}", pairs(some)) for n, some in enumerate(differences)]
    return [sentence(verdict, seeds) for verdict in corrected_tests(compared).verdicts]


def test_the_sentence_reports_the_result_of_the_test():
    (beats,) = said([1, 2, 3, 4, 5, 6])
    assert beats.startswith("On X, SAP beats OTHER0 over the cells (Wilcoxon signed-rank test over 6 cells, two-sided: p = .031;")
    assert "SAP is beaten by OTHER0" in said([-1, -2, -3, -4, -5, -6])[0]
    (few,) = said([1, 2, 0, 3])
    assert few.startswith("On X, SAP and OTHER0 do not differ significantly over the cells with three seeds (Wilcoxon")
    assert "SAP ahead in 3 of 4, behind in 0" in few
    assert few.endswith("The smallest p-value possible with 3 differences that are not zero is .250.")
    assert said([1])[0].startswith("On X, SAP beats OTHER0 (paired t-test over the seeds, two-sided: p = .003;")
    assert "no cell in common" in said([])[0]


def test_verdicts_rest_on_p_values_corrected_for_all_opponents():
    """Alone p = .031; with two more opponents .094."""
    alone, *others = said([1, 2, 3, 4, 5, 6], [-1, 2, -3, 4, -5, 6], [1, -2, 3, -4, 5, -6])
    assert "do not differ significantly" in alone
    assert "p = .031, corrected by Holm for 3 tests .094" in alone
    assert alone.endswith("not zero is .031, and up to .094 after the correction.")
    assert all("do not differ significantly" in other for other in others)


def test_tests_over_seeds_are_corrected_for_opponents_times_cells():
    compared = [MethodComparison("X", "SAP", name, pairs(some)) for name, some in (("A", [1, 2]), ("B", [0.2, -1]))]
    found = corrected_tests(compared)
    flat = [p for comparison in compared for p in comparison.paired()]
    assert [p for group in found.paired_holm for p in group] == holm(flat)
    assert [p for group in found.welch_holm for p in group] == holm([p for comparison in compared for p in comparison.welch()])
    # one cell against the first opponent is significant alone and among its own cells, not among all four
    assert found.verdicts[0].tests == 2


def test_the_verdict_has_the_direction_of_the_ranks():
    """One large loss turns the mean, and not the signed-rank test."""
    (verdict,) = corrected_tests([MethodComparison("X", "SAP", "B", pairs([1, 2, 3, 4, 5, 6, 7, 0.5, 8, -40]))]).verdicts
    assert verdict.comparison.mean_difference < 0
    assert verdict.direction == 1


def test_p_values_are_formatted():
    assert [p_text(p) for p in (0.0156, 0.0001, 0.00009, None)] == ["p = .016", "p = .0001", "p < .0001", "no p-value"]


@pytest.mark.parametrize("values", [(80.0,), (80.0, 80.0)], ids=["one seed", "equal differences"])
def test_no_verdict_without_a_test(values):
    one, other = summarise(values), summarise(value - 3 for value in values)
    pair = CellComparison("cell", one, other, tuple(3.0 for _ in values))
    (verdict,) = corrected_tests([MethodComparison("Digits", "SAP", "SCRUB", (pair,))]).verdicts
    assert sentence(verdict, "so few seeds") == (
        "On Digits, the difference between SAP and SCRUB cannot be tested with so few seeds (mean difference +3.00 points)."
    )

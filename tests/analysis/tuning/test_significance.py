import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.store.stats import Summary, summarise
from analysis.tuning.significance import CellComparison, MethodComparison, holm, interval, p_text, paired, sentence, welch, wilcoxon


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


def test_interval_covers_the_mean_and_repeats():
    differences = [1.0, 2.0, 3.0, 4.0]
    low, high = interval(differences)
    assert 1.0 <= low < 2.5 < high <= 4.0
    assert interval(differences) == (low, high)
    assert interval([1.0]) is None
    assert interval([2.0, 2.0]) == (2.0, 2.0)


def pairs(differences):
    return tuple(
        CellComparison(
            f"cell {n}", Summary(80 + difference, 0.1, 3), Summary(80.0, 0.1, 3), (difference, difference + 0.1, difference - 0.1)
        )
        for n, difference in enumerate(differences)
    )


def test_the_sentence_reports_the_result_of_the_test():
    beats = sentence(MethodComparison("X", "SAP", "SCRUB", pairs([1, 2, 3, 4, 5, 6])), "three seeds")
    assert beats.startswith("On X, SAP beats SCRUB over the cells (Wilcoxon signed-rank test over 6 cells, two-sided: p = .031;")
    beaten = sentence(MethodComparison("X", "SAP", "SCRUB", pairs([-1, -2, -3, -4, -5, -6])), "three seeds")
    assert "SAP is beaten by SCRUB" in beaten
    few = sentence(MethodComparison("X", "SAP", "SCRUB", pairs([1, 2, 3])), "three seeds")
    assert few.startswith("On X, SAP and SCRUB do not differ significantly over the cells with three seeds (Wilcoxon")
    assert "The smallest value possible with 3 cells is p = .250." in few
    one = sentence(MethodComparison("X", "SAP", "SCRUB", pairs([1])), "three seeds")
    assert one.startswith("On X, SAP beats SCRUB (paired t-test over the seeds, two-sided: p = .003")
    assert "no cell in common" in sentence(MethodComparison("X", "SAP", "SCRUB", ()), "three seeds")


def test_p_values_are_formatted():
    assert [p_text(p) for p in (0.0156, 0.0001, None)] == ["p = .016", "p < .001", "no p-value"]

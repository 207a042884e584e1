import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.store.load import load
from analysis.store.results import cells
from analysis.store.selection_rule import BoundaryValue, best, boundary_values, score_column
from sap_core.errors import UserError

NAN = math.nan


@pytest.mark.parametrize(
    ("unmodified", "scores", "winner"),
    [
        (0.5, [0.4, 0.6, 0.7], 2),
        (0.5, [0.7, 0.6, 0.7], 0),  # a tie goes to the earlier setting
        (0.7, [0.4, 0.7, 0.6], None),  # and to the unmodified model before all
        (0.5, [NAN, 0.6, NAN], 1),
        (0.5, [NAN, NAN], None),
        (0.5, [], None),
    ],
)
def test_best(unmodified, scores, winner):
    assert best(unmodified, scores) == winner


@given(st.integers(0, 4), st.lists(st.one_of(st.just(NAN), st.integers(0, 4).map(float)), max_size=8))
def test_best_agrees_with_sorting(unmodified, scores):
    ranked = sorted([(-unmodified, -1)] + [(-score, place) for place, score in enumerate(scores) if not math.isnan(score)])
    assert best(unmodified, scores) == (None if ranked[0][1] == -1 else ranked[0][1])


def test_boundary_values_of_numeric_fields_with_several_values():
    space = [{"alpha": a, "size": 5, "pick": p, "flag": f} for a in (1, 2, 3) for p in ("x", "y") for f in (True, False)]
    assert boundary_values({"alpha": 2, "size": 5, "pick": "x", "flag": True}, space) == ()
    assert boundary_values({"alpha": 1, "size": 5, "pick": "x", "flag": True}, space) == (BoundaryValue("alpha", 1, "smallest"),)
    assert boundary_values({"alpha": 3}, space) == (BoundaryValue("alpha", 3, "largest"),)


def test_score_columns():
    assert [score_column(rule) for rule in ("val_noisy", "val_clean_part", "test_oracle")] == ["val_noisy_acc", "val_clean_acc", "test_acc"]
    assert score_column("val_noisy", "r2") == "val_noisy_r2"
    with pytest.raises(UserError, match=r"unknown selection rule 'val_nosy'.*did you mean 'val_noisy'"):
        score_column("val_nosy")


def choice(store, method, rule, seed=1):
    searches = cells(load([store.write()]))[0].methods
    return next(s.choose(rule) for key, many in searches.items() for s in many if key[0] == method and s.seed == seed)


def test_each_rule_on_a_store(small):
    assert choice(small, "sap", "val_noisy").row["position"] == 1  # 0.64 twice: the earlier one
    assert choice(small, "sap", "val_clean_part").row["position"] == 2
    assert choice(small, "sap", "val_clean_part").boundary_values == (BoundaryValue("alpha", 2000.0, "smallest"),)
    assert choice(small, "sap", "test_oracle").row["position"] == 2


def test_a_failed_setting_never_wins_even_with_a_score(small):
    small.rows = [
        replace(row, status="failed", error_type="oom") if row.run_id == "sap-alpha16-1-1" else row for row in small.rows
    ]  # fmt: skip
    assert choice(small, "sap", "val_noisy").row["position"] == 2


def test_the_unmodified_model_is_kept_when_nothing_beats_it(small):
    small.rows = [replace(row, val_noisy_acc=0.64) if row.run_id == "base-1" else row for row in small.rows]
    kept = choice(small, "sap", "val_noisy")
    assert kept.kept
    assert kept.row["method"] == "vanilla"
    assert kept.boundary_values == ()


def test_if_every_setting_failed_nothing_is_selected(small):
    kinds = iter(["diverged", "error", "diverged", None] * 100)
    small.rows = [replace(row, status="failed", error_type=next(kinds)) if row.method == "scrub" else row for row in small.rows]
    found = choice(small, "scrub", "val_noisy")
    assert found.row is None
    assert not found.kept
    assert re.fullmatch(r"every setting failed \(\d+ diverged(, \d+ error)?\)", found.problem)
    # Methods beside it are not concerned.
    assert choice(small, "sap", "val_noisy").row is not None


def test_scores_that_were_not_evaluated_are_a_problem_not_a_choice(small):
    small.rows = [replace(row, val_clean_acc=None) if row.method == "sap" else row for row in small.rows]
    assert choice(small, "sap", "val_clean_part").row is None
    assert choice(small, "sap", "val_clean_part").problem == "no setting has a val_clean_acc"
    assert choice(small, "sap", "val_noisy").row is not None


def test_no_baseline_no_choice(small):
    small.rows = [row for row in small.rows if row.run_id != "base-1"]
    assert choice(small, "sap", "val_noisy").problem == "the unmodified baseline has no row"

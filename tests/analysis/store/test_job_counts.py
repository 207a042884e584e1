"""Jobs and rows are counted by state in one place."""

from __future__ import annotations

from analysis.store.job_counts import Counts, count, count_jobs, total


def test_jobs_are_counted_by_type_and_state():
    types = {"a": "train", "b": "tune", "c": "tune", "d": "tune", "e": "tune"}
    found = count_jobs(types, {"a": "ok", "b": "failed", "c": "failed", "elsewhere": "ok"}, given_up={"c", "d", "elsewhere"})
    assert found == (Counts("train", 1, done=1), Counts("tune", 4, failed=2, given_up=1))
    assert [(one.missing, one.to_do) for one in found] == [(0, 0), (2, 3)]
    assert total(found) == Counts("all", 5, done=1, failed=2, given_up=1)


def test_rows_are_counted_in_the_plans_order():
    found = count(["tune", "train", "tune"], [("tune", "ok"), ("tune", "failed")])
    assert found == (Counts("tune", 2, done=1, failed=1), Counts("train", 1))
    assert found[1].missing == 1


def test_nothing_planned():
    assert count([], []) == ()
    assert total([]) == Counts("all")

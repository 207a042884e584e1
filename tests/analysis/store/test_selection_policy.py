import pytest

from analysis.store.load import load
from analysis.store.results import cells
from analysis.store.selection_policy import Policy, select
from analysis.tables.optimism import optimism

ALPHAS = [{"alpha": 3.0}, {"alpha": 2.0}, {"alpha": 1.0}]


def searches(maker, *scores, vanilla=0.60):
    """SAP on one seed after the other; every entry of `scores` holds three validation scores (None: failed)."""
    for seed, values in enumerate(scores, start=1):
        maker.baseline(seed, vanilla, vanilla, 0.70)
        maker.search("sap", "alpha16", seed, ALPHAS, [None if value is None else (value, value, value + 0.1) for value in values])
    (cell,) = cells(load([maker.write()]))
    return cell.methods["sap", "alpha16"]


def alphas(choices):
    return [None if choice.row is None else choice.row["settings"] if not choice.kept else "kept" for choice in choices]


def test_each_seed_by_itself_or_one_setting_for_all(maker):
    found = searches(maker, (0.70, 0.69, 0.61), (0.50, 0.68, 0.69))
    assert alphas(select(found, Policy())) == ['{"alpha": 3.0}', '{"alpha": 1.0}']
    assert alphas(select(found, Policy(over="pooled"))) == ['{"alpha": 2.0}'] * 2  # means 0.60, 0.685, 0.65


def test_a_pooled_tie_goes_to_the_earlier_setting(maker):
    found = searches(maker, (0.6, 0.7, 0.8), (0.6, 0.8, 0.7))
    assert alphas(select(found, Policy(over="pooled"))) == ['{"alpha": 2.0}'] * 2


def test_a_setting_that_failed_on_one_seed_is_not_pooled(maker):
    found = searches(maker, (0.9, 0.7, 0.65), (None, 0.65, 0.69))
    assert alphas(select(found, Policy(over="pooled"))) == ['{"alpha": 2.0}'] * 2


def test_the_unmodified_model_is_kept_or_is_no_candidate(maker):
    found = searches(maker, (0.60, 0.59, 0.58), (0.50, 0.52, 0.51))
    assert alphas(select(found, Policy())) == ["kept", "kept"]
    assert alphas(select(found, Policy(fallback="never"))) == ['{"alpha": 3.0}', '{"alpha": 2.0}']
    assert alphas(select(found, Policy(over="pooled"))) == ["kept", "kept"]
    assert alphas(select(found, Policy(over="pooled", fallback="never"))) == ['{"alpha": 2.0}'] * 2


def test_without_a_fallback_nothing_may_be_left(maker):
    found = searches(maker, (None, None, None))
    (choice,) = select(found, Policy(fallback="never"))
    assert choice.row is None
    assert "every setting failed" in choice.problem


def test_nothing_is_pooled_over_a_seed_without_a_baseline(maker):
    for seed in (1, 2):
        maker.baseline(seed, 0.6, 0.6, 0.7, run=seed == 1)
        maker.search("sap", "alpha16", seed, ALPHAS, [(0.7, 0.7, 0.8)] * 3)
    (cell,) = cells(load([maker.write()]))
    chosen = select(cell.methods["sap", "alpha16"], Policy(over="pooled"))
    assert [choice.row for choice in chosen] == [None, None]
    assert "seed 2: the unmodified baseline has no row" in chosen[0].problem


def test_optimism_is_validation_less_test(small):
    (table,) = optimism(load([small.write()]))
    keys = [column.key for column in table.columns]
    first = dict(zip(keys, table.rows[0], strict=True))
    assert table.titles[0] == "val_noisy, selected per seed"
    assert first["method"].text == "SAP (alpha16)"
    assert first["validation_percent"].value == pytest.approx(64.0)
    assert first["test_percent"].value == pytest.approx(81.0)
    assert first["optimism_points"].value == pytest.approx(-17.0)
    assert first["unmodified_points"].value == pytest.approx(-15.0)  # 0.60 on validation, 0.75 on test
    assert list(table.titles.values()) == [
        "val_noisy, selected per seed", "val_noisy, pooled over the seeds", "val_clean_part, selected per seed",
        "val_clean_part, pooled over the seeds",
    ]  # fmt: skip

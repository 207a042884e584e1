import math
import re
from dataclasses import replace

import numpy as np
import pytest

from analysis.__main__ import main
from analysis.reports.headline_tables import headline_tables
from analysis.reports.headline_text import sentences
from analysis.store.labels import MINUS
from analysis.store.load import load
from analysis.tables.render import markdown, terminal
from analysis.tuning.headline import headlines
from analysis.tuning.intervals import Bounds

CONFIG = "method:\n  sap: {name: sap, corrector: {_target_: sap_core.sap.SAP, alpha: 10000.0}}\n"


@pytest.fixture
def store(small):
    """The small store with SCRUB that gains something in two seeds, and SAP's default among its settings."""
    tests = {"scrub-grid_a-1-1": 0.86, "scrub-grid_a-2-1": 0.85}
    small.rows = [replace(row, test_acc=tests[row.run_id]) if row.run_id in tests else row for row in small.rows]
    path = small.write()
    (path / "config.yaml").write_text(CONFIG)
    return small


def test_numbers_of_the_headline(store):
    (headline,) = headlines(load([store.write()]))
    assert (headline.unit, headline.device, headline.validation, headline.by_phase) == ("seconds", "cpu, 1 thread a job", 300, False)
    sap, scrub = headline.summaries
    assert headline.sap is sap
    np.testing.assert_allclose(sap.by_trials[0], (0.80 + 0.82) / 2)
    assert sap.by_trials[1:] == (None, None, None)
    assert sap.bands[0] == (0.78, 0.84)
    assert sap.default.test.mean == pytest.approx(0.81)  # 0.80 and 0.82: the second alpha
    assert sap.default.cost.mean == 4.0  # standalone
    assert scrub.default is None
    assert (sap.total, scrub.total) == (3.0, 6.0)
    assert [boundary.field for boundary in sap.boundary_values] == []
    # the best gain is the curve's highest point, two trials: 0.75 -> 0.81 + 0.02 / 3
    assert sap.best_gain.mean == pytest.approx(0.06 + 0.02 / 3)
    assert sap.trials_to == (Bounds(1, 1), Bounds(2, 2), Bounds(2, 2))
    assert sap.measured_optimism.mean == pytest.approx(0.82 - 0.81)
    (comparison,) = headline.comparisons
    assert (comparison.settings, comparison.total) == (2 / 3, 2.0)
    assert comparison.difference.mean == pytest.approx(0.855 - 0.81)
    assert (
        comparison.cost["own, preparation and baseline"].value.low < comparison.cost["own only"].value.low
    )  # what both pay brings them closer
    assert 0 <= comparison.probability_ahead[0][1].value <= 1


def test_the_common_target_is_that_of_the_smaller_gain(store):
    (headline,) = headlines(load([store.write()]))
    ratio = headline.comparisons[0].cost["own and preparation"]
    smaller = min(line.best_gain.mean for line in headline.summaries)
    assert ratio.target.mean == pytest.approx(0.95 * smaller, abs=2e-3)  # orders are drawn here


def test_sentences_contain_the_numbers(store):
    (headline,) = headlines(load([store.write()]))
    text = " ".join(sentences(headline, {}))
    ratio, needed = headline.comparisons[0].cost["own and preparation"], headline.comparisons[0].power
    for words in (
        f"SCRUB (grid_a) needs {ratio.value.low:.3g} times the seconds of SAP (alpha16)",
        "The space of SCRUB (grid_a) has 0.667 times as many settings, and its complete search costs 2 times as much.",
        "ends 4.50 points above that of SAP (alpha16) (paired over 2 seeds; 95 % interval of the difference "
        + MINUS
        + "14.56 to +23.56, Student's t",
        "the standard deviation of these differences is 2.12 points, estimated from 2 seeds (95 % interval 0.95 to 67.69, chi-square)",
        f"To detect a true difference of 4.50 points, as large as the one found, {needed.seeds} seeds would be needed (3 to ",
        "with the default setting of each method: SAP (alpha16) 81.00 (complete search 81.00)",
        "Default not in the space, or not recorded in the store: SCRUB (grid_a).",
        "SAP (alpha16): 1 of 3 alphas are within 1 point of the best (2000)",
        "cut off at the lower end of the space",
        "The unmodified model is a candidate of every search and wins ties",
        "SAP (alpha16) hash-alpha16, SCRUB (grid_a) hash-grid_a",
        "so preparation is spread over the settings",
    ):
        assert words in text, words


def test_without_a_gain_there_is_no_ratio(small):
    small.rows = [replace(row, val_noisy_acc=0.1) if row.method == "scrub" and row.status == "ok" else row for row in small.rows]
    results = load([small.write()])
    (headline,) = headlines(results)
    (comparison,), scrub = headline.comparisons, headline.summaries[1]
    # SCRUB never reaches what SAP gains: its cost, that of the complete search, is a lower bound
    assert comparison.cost["own and preparation"].value == Bounds(pytest.approx(6.0 / 2.0, rel=0.4), math.inf)
    assert (scrub.best_gain.mean, scrub.cost_to, scrub.trials_to) == (0.0, (None,) * 3, (None,) * 3)
    text = " ".join(sentences(headline, {}))
    assert "SCRUB (grid_a) needs ≥ " in text
    assert "On 2 of 2 seeds SCRUB (grid_a) gains nothing and never reaches the target" in text
    cost = headline_tables(results)[1]
    row = next(row for row in cost.rows if row[0].text.startswith("SCRUB"))
    assert [cell.text for cell in row[3:]] == ["no gain"] * 6 + ["0.00 ± 0.00"]


def test_neither_search_gains(small):
    small.rows = [replace(row, val_noisy_acc=0.1) if row.job_type == "tune" and row.status == "ok" else row for row in small.rows]
    (headline,) = headlines(load([small.write()]))
    text = sentences(headline, {})[0]
    assert text == (
        "Neither SAP (alpha16) nor SCRUB (grid_a) gains anything over the unmodified models, so costs cannot be compared at a common "
        "target."
    )


def test_equal_searches_are_not_called_ahead(small):
    small.rows = [replace(row, test_acc=0.8) if row.method in ("sap", "scrub") and row.status == "ok" else row for row in small.rows]
    (headline,) = headlines(load([small.write()]))
    text = " ".join(sentences(headline, {}))
    assert (
        "The complete search of SCRUB (grid_a) ends at the mean test score of SAP (alpha16) (paired over 2 seeds, which give no interval)."
        in text
    )
    assert "Power:" not in text  # equal differences say nothing of their spread
    assert not re.search(f"[+{MINUS}]0\\.00", text)


def test_a_method_without_numbers_is_named_with_the_reason(small):
    small.rows = [replace(row, status="failed", error_type="diverged") if row.method == "scrub" else row for row in small.rows]
    results = load([small.write()])
    (headline,) = headlines(results)
    assert [summary.method for summary in headline.summaries] == ["sap"]
    assert (
        "‡ SCRUB (grid_a): not listed and not ranked "
        "(seed 1: every setting failed (2 diverged); seed 2: every setting failed (2 diverged))." in sentences(headline, {})
    )


def test_a_missing_test_score_is_a_gap_and_never_nan(small):
    """The selected setting of one seed has none: the seed has no numbers, and the others are marked."""
    small.rows = [replace(row, test_acc=None) if row.run_id == "scrub-grid_a-1-1" else row for row in small.rows]
    tables = headline_tables(load([small.write()]))
    text = "\n".join(terminal(table) for table in tables)
    assert "nan" not in text
    assert "SCRUB (grid_a): means are over the other seeds (seed 1: a test score or the cost is missing)" in " ".join(text.split())
    assert next(row[0] for row in tables[0].rows if row[0].text.startswith("SCRUB")).marks.endswith("‡")


def test_single_seeds_are_printed_where_they_are_few(store):
    (headline,) = headlines(load([store.write()]))
    text = " ".join(sentences(headline, {}))
    assert "Test score of the complete search by seed: SAP (alpha16) 80.00, 82.00; SCRUB (grid_a) 86.00, 85.00." in text


def test_costs_on_shared_devices_are_in_flops(small):
    small.rows = [replace(row, flops=3e9, standalone_flops=4e9, jobs_on_device=3) for row in small.rows]
    results = load([small.write()])
    (headline,) = headlines(results)
    assert headline.unit == "flops"
    assert "FLOPs, because jobs shared their device" in " ".join(sentences(headline, {}))
    assert "Cost (GFLOP)" in {column.group for column in headline_tables(results)[1].columns}


@pytest.mark.parametrize("form", ["text", "markdown", "latex"])
def test_the_command_in_every_form(store, capsys, form):
    assert main([str(store.write()), "headline", "--format", form]) == 0
    printed = capsys.readouterr().out
    assert "SCRUB" in printed
    assert printed.count({"text": "What tuning", "markdown": "**What tuning", "latex": r"\begin{table*}"}[form]) >= 2


def test_bad_input(store, maker, capsys):
    assert main([str(store.write()), "headline", "costs"]) == 2
    assert "allowed: performance, cost, comparisons" in capsys.readouterr().err
    store.rows = [replace(row, debug="smoke") for row in store.rows]
    assert main([str(store.write()), "headline"]) == 2
    assert "debug=smoke" in capsys.readouterr().err


def test_a_store_without_searches(maker, capsys):
    maker.baseline(1, 0.6, 0.7, 0.7)
    assert main([str(maker.write()), "headline"]) == 2
    assert "has no numbers for the table 'headline'" in capsys.readouterr().err


def test_costs_that_are_zero_or_unknown_are_not_printed_as_nan(store):
    """SAP's seconds are zero; then, in FLOPs, the baselines' cost is unknown, which concerns only ratios that count it."""
    rows = store.rows
    store.rows = [replace(row, tuning_seconds=0.0) if row.method == "sap" else row for row in rows]
    tables = headline_tables(load([store.write()]))
    # Neither `nan` nor an exponent, as of a Monte-Carlo error of 2e+01 %.
    assert not [text for table in tables for text in (markdown(table), terminal(table)) if re.search(r"\bnan\b|\de\+", text)]
    flops = {"sap": 1e9, "scrub": 3e9}
    store.rows = [replace(row, jobs_on_device=9, flops=flops.get(row.method), standalone_flops=flops.get(row.method)) for row in rows]
    (headline,) = headlines(load([store.write()]))
    comparison = next(one for one in headline.comparisons if one.method == "scrub")
    main, *_, with_baseline = comparison.cost.values()
    assert main.value.low > 1
    assert main.value.exact
    assert (with_baseline.value.low, with_baseline.value.high) == (0.0, math.inf)
    assert "nan" not in " ".join(sentences(headline, {}))

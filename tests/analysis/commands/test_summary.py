"""The default of `sap-report STORE`: a small table, the finding in words, and commands that work."""

import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.__main__ import main
from analysis.reports.finding import Finding, find, ratio_number
from analysis.store.labels import MISSING
from analysis.store.load import load
from analysis.store.results import cells

DEMO = Path(__file__).parents[3] / "examples/demo"


def printed(store, capsys):
    assert main([str(store)]) == 0
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return shutil.copytree(DEMO, tmp_path_factory.mktemp("stores") / "demo", ignore=shutil.ignore_patterns("report"))


def test_the_demo_fits_twelve_lines(demo, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    lines = printed(demo, capsys).splitlines()
    assert len(lines) == 12
    # Five columns and five rows, with the numbers of the complete table.
    assert "SCRUB (grid_a)   675            89.00 ± 2.72   +8.06 ± 2.59             9.29" in lines
    text = " ".join(lines)
    assert "Finetune, SCRUB and SAP improve on the unmodified model; SSD shows no significant gain; SAP beats SSD;" in text
    assert (
        "4 seeds do not separate SAP from Finetune and SCRUB; tuning costs 139 (SCRUB), 11.5 (Finetune) and 3.26 (SSD) times that of"
        in text
    )
    assert not (demo / "report").exists()


@pytest.mark.slow
def test_its_commands_work_as_typed(small, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = shutil.copytree(small.write(), tmp_path / "my results")
    lines = [line for line in printed("my results", capsys).splitlines() if line.startswith("  ")]
    words = [shlex.split(line, comments=True) for line in lines]
    assert [Path(line[0]).name for line in words] == ["sap-report"] * 3
    for line in words:
        # What is missing in this store gives the exit code of a report, not of a mistake.
        assert main(line[1:]) == 0
    assert (store / "report/report.html").exists()


def test_rows_that_are_missing_or_failed_are_named(small, capsys):
    small.rows = [row for row in small.rows if row.run_id != "sap-alpha16-2-0"]
    text = printed(small.write(), capsys)
    assert "Of 14 planned rows 1 missing and 2 failed;" in text
    assert "SAP (alpha16)‡" in text
    assert "status  " in text
    # The choice of an unfinished search may change, so that nothing is concluded from it.
    assert "SAP gain" not in text
    assert "No search of a method is complete" not in text


def test_one_seed_is_not_tested(small, capsys):
    small.rows = [row for row in small.rows if row.seed == 1]
    small.plan = [line for line in small.plan if line.seed == 1]
    text = " ".join(printed(small.write(), capsys).split())
    assert "SAP and SCRUB cannot be tested on 1 seed; tuning costs" in text
    assert "beats" not in text


def test_the_same_scores_are_called_the_same(small, capsys):
    small.rows = [replace(row, test_acc=0.74, val_noisy_acc=0.6 + 0.001 * row.position) for row in small.rows]
    text = " ".join(printed(small.write(), capsys).split())
    assert "SAP and SCRUB change no score; SAP scores the same as SCRUB" in text


def test_several_cells_are_averaged_where_all_have_the_number(small, capsys):
    other = "digits/symmetric-0.1/small_cnn/sgd"
    for run in range(2):
        for line, row in zip(list(small.plan), list(small.rows), strict=True):
            if line.cell == small.plan[0].cell:
                base = f"{line.baseline_id}-{run}"
                same = {"run_id": f"{line.run_id}-{run}", "job_id": f"{run}{line.job_id[1:]}", "baseline_id": base}
                if line.method == "vanilla":
                    same["run_id"] = base
                small.plan.append(replace(line, cell=f"{other}{run}", **same))
                small.rows.append(replace(row, test_acc=None if row.test_acc is None else row.test_acc + 0.03, **same))
    text = printed(small.write(), capsys)
    assert text.startswith("Mean over 3 cells.\n")
    # 0.75 once and 0.78 twice
    assert f"Vanilla  {MISSING}                     77.00" in text
    assert "SAP (" not in text.split("\n")[3]
    assert "3 cells do not separate SAP from SCRUB" in " ".join(text.split())


def test_a_method_that_is_finished_in_one_of_two_cells_is_said(small, capsys):
    for line, row in zip(list(small.plan), list(small.rows), strict=True):
        if line.cell == small.plan[0].cell:
            base = f"{line.baseline_id}-2"
            same = {
                "run_id": base if line.method == "vanilla" else f"{line.run_id}-2",
                "job_id": f"9{line.job_id[1:]}",
                "baseline_id": base,
            }
            small.plan.append(replace(line, cell="digits/symmetric-0.1/small_cnn/sgd", **same))
            small.rows.append(replace(row, **same))
    small.rows = [row for row in small.rows if row.run_id != "sap-alpha16-2-0"]
    text = printed(small.write(), capsys)
    assert "SAP‡" in text.split("\n")[3]
    assert "SAP (in 1 of 2 cells)" in " ".join(text.split())


def test_a_method_with_scores_on_some_seeds_is_said():
    results = load([DEMO])
    last = max(results.rows["seed"])
    failed = (results.rows["method"] == "scrub") & (results.rows["seed"] == last)
    results.rows.loc[failed, ["status", "error_type", "error", "val_noisy_acc", "test_acc"]] = ["failed", "diverged", "NaN", None, None]
    sentence = find(cells(results)).sentence()
    assert "SCRUB (on 3 of 4 seeds)" in sentence
    assert "Finetune (on" not in sentence


def test_a_store_without_tuned_methods_shows_its_first_table(small, capsys):
    small.rows = [row for row in small.rows if row.method == "vanilla"]
    small.plan = [line for line in small.plan if line.method == "vanilla"]
    text = printed(small.write(), capsys)
    assert "Vanilla" in text
    assert "No row is ranked." in text


def test_methods_that_lose_and_win_are_named_as_such():
    gains = {"SAP": "ahead", "SCRUB": "behind", "SSD": "behind", "CF-k": "undecided"}
    found = Finding(gains, "SAP", {"SCRUB": "behind", "SSD": "ahead", "CF-k": "equal"}, {"SCRUB": 0.0123, "SSD": 1234.5}, 5, 16)
    assert found.sentence() == (
        "SAP improves on the unmodified model; SCRUB and SSD are worse than the unmodified model; CF-k shows no significant gain; "
        "SAP beats SSD, is beaten by SCRUB and scores the same as CF-k; tuning costs 1,230 (SSD) and 0.0123 (SCRUB) times that of SAP."
    )


@pytest.mark.parametrize(("ratio", "text"), [(138.8, "139"), (11.49, "11.5"), (3.256, "3.26"), (0.01234, "0.0123"), (98765, "98,800")])
def test_ratios_have_three_digits(ratio, text):
    assert ratio_number(ratio) == text


def test_an_unfinished_search_has_no_outcome(small):
    small.rows = [row for row in small.rows if not row.run_id.startswith("sap-alpha16-2")]
    found = find(cells(load([small.write()])))
    assert set(found.gains) == {"SCRUB"}, "rows of all seeds are planned"

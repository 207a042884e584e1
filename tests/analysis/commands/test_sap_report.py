import json
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.commands import COMMANDS, command
from analysis.plots import tuning_cost
from analysis.plots.style import styles
from analysis.plots.tuning_cost import cost_panels
from analysis.reports import report
from analysis.reports.status import status
from analysis.store.load import load
from sap_core.records import Row


def test_plain_call_writes_the_report_and_prints_table_and_paths(small, capsys):
    store = small.write()
    assert main([str(store)]) == 0
    printed = capsys.readouterr().out
    written = sorted(path.name for path in (store / "report").iterdir())
    assert written == [
        "alpha.pdf", "alpha.png", "chosen.csv", "chosen.md", "chosen.tex", "cost.csv", "cost.md", "cost.tex",
        "memorised.pdf", "memorised.png", "optimism.csv", "optimism.md", "optimism.tex", "precision_gain.pdf", "precision_gain.png",
        "table.csv", "table.md", "table.tex", "tests.csv", "tests.md", "tests.tex",
        "tuning_cost.csv", "tuning_cost.pdf", "tuning_cost.png", "tuning_trials.csv", "tuning_trials.pdf", "tuning_trials.png",
    ]  # fmt: skip
    assert all(str(store / "report" / name) in printed for name in written)
    assert "81.00 ± 1.41*" in printed
    assert (store / "report" / "tuning_cost.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_store_gives_the_same_bytes(small, tmp_path):
    results = load([small.write()])
    for folder in ("a", "b"):
        report.write_all(results, tmp_path / folder)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_table_forms(small, capsys):
    store = str(small.write())
    for form, start in (("text", "Test accuracy"), ("markdown", "**Test"), ("latex", "% sap-report made this"), ("csv", "cell,method")):
        assert main([store, "table", "comparison", "--format", form]) == 0
        assert capsys.readouterr().out.startswith(start)
    assert main([store, "cost"]) == 0
    assert "alone / shared" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["tabel"], "unknown command 'tabel' in sap-report STORE COMMAND (did you mean 'table'?); allowed: report, table, plot, cost"),
        (["table", "comparison", "--format", "html"], "argument --format: invalid choice: 'html'"),
        (["--format", "csv", "table", "comparison"], "options stand after the command: sap-report STORE table ... --format ..."),
        (["table", "comparson"], "(did you mean 'comparison'?); allowed: comparison, trusted_size, cost, search, chosen, recommendation"),
        (["table"], "allowed: comparison, trusted_size, cost, search, chosen, recommendation"),
        (["plot", "x"], "allowed: tuning_cost, tuning_trials, alpha, trusted_size"),
        (["plot", "trusted_size"], "has no numbers for the plot 'trusted_size'"),
        (["table", "trusted_size"], "has no numbers for the table 'trusted_size'"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(small, capsys, words, told):
    assert main([str(small.write()), *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert told in said
    assert said.count("\n") == 1


def test_several_stores_are_read_as_one(small, capsys):
    store = small.write()
    assert main([str(store), str(store), "status"]) == 0
    assert "12 of 14 planned rows done, 2 failed rows." in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["--help"], ["results/none", "--help"]], ids=["nothing", "help", "store-help"])
def test_the_help_names_every_command(words, capsys):
    assert main(words) == 0
    said = capsys.readouterr().out
    assert all(f"\n  {name}" in said for name in COMMANDS)


def test_every_registered_command_is_a_module_with_both_functions():
    for name in COMMANDS:
        assert callable(command(name).add_arguments)
        assert callable(command(name).run)


def test_a_command_without_a_store_is_a_mistake(capsys):
    assert main(["table", "comparison"]) == 2
    assert "sap-report table needs a store before it" in capsys.readouterr().err


def test_no_store(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "is not a store: it has no plan.parquet" in capsys.readouterr().err


def test_a_report_folder_that_cannot_be_made(small, capsys):
    store = small.write()
    (store / "report").write_text("in the way")
    assert main([str(store)]) == 2
    assert "the report cannot be written to" in capsys.readouterr().err


def test_a_write_that_fails_midway_leaves_nothing(small, tmp_path, monkeypatch):
    results = load([small.write()])
    folder = tmp_path / "report"
    report.write_tables(results, "comparison", folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(self, *arguments, **options):
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(report.UserError, match="No space left on device"):
        report.write_tables(results, "comparison", folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_status_of_an_unfinished_sweep(small):
    small.rows = [row for row in small.rows if row.run_id != "sap-alpha16-2-0"]
    small.rows = [replace(row, error="Traceback\n  somewhere\nValueError: loss is NaN") if row.error else row for row in small.rows]
    small.add("stray", job_type="tune", method="sap", seed=1, baseline_id="base-1", planned=False)
    text = status(load([small.write()]))
    assert "11 of 14 planned rows done, 2 failed rows." in text
    assert "- Failed: 2 x SCRUB (grid_a), diverged: ValueError: loss is NaN" in text
    assert "- Missing: 1 row of SAP (alpha16) on digits/symmetric-0.25/small_cnn/sgd." in text
    assert "1 rows are in no plan" in text


def test_failures_are_grouped_and_many_groups_are_cut(small):
    failed = [replace(row, error_type="error", status="failed") for row in small.rows]
    small.rows = [replace(row, run_id=f"{row.run_id}-{n}", error=f"ValueError: {row.run_id} {n}") for n in range(2) for row in failed]
    small.plan = [replace(small.plan[0], run_id=row.run_id, method=row.method, space=row.space) for row in small.rows]
    small.plan += [replace(small.plan[0], run_id=f"gap-{place}", method="sap", space=f"s{place}") for place in range(30)]
    text = status(load([small.write()]))
    assert text.count("- Failed: 1 x") == 20
    assert "Failed: 8 more kinds of failures." in text
    assert "Missing: rows of 10 more searches." in text


def test_a_damaged_store_is_served_with_a_warning_and_exit_code_1(small, capsys):
    store = small.write()
    (store / "rows" / "job-base-1.ok.parquet").write_bytes(b"PAR1 no more")
    for words in ([], ["status"], ["table", "comparison"], ["export"]):
        assert main([str(store), *words]) == 1
        said = capsys.readouterr()
        assert said.err.startswith(f"warning: The file {store}/rows/job-base-1.ok.parquet was skipped: ")
        assert said.err.count("\n") == 1
        assert said.out.strip()


def test_rows_outside_the_plan_are_no_damage(small, capsys):
    small.add("stray", job_type="tune", method="sap", seed=1, baseline_id="base-1", planned=False)
    assert main([str(small.write()), "status"]) == 0
    assert "1 rows are in no plan" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "read"), [("rows.csv", pd.read_csv), ("rows.parquet", pd.read_parquet)], ids=["csv", "parquet"])
def test_export(small, tmp_path, capsys, name, read):
    small.add("stray", job_type="tune", method="sap", seed=1, baseline_id="base-1", planned=False)
    store, path = str(small.write()), tmp_path / "new" / name
    assert main([store, "export", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: 15 rows of {len(fields(Row)) + 2} columns\n"
    rows = read(path).set_index("run_id")
    assert len(rows) == 15
    assert rows.loc["sap-alpha16-1-0", "test_acc"] == 0.78
    assert json.loads(rows.loc["sap-alpha16-1-0", "settings"]) == {"alpha": 30000.0}
    assert rows["cell"].isna().tolist() == [False] * 14 + [True]
    assert main([store, "export", str(path), "--ok", "--planned"]) == 0
    assert set(read(path)["status"]) == {"ok"}
    assert len(read(path)) == 12


def test_export_to_another_form_is_a_mistake(small, capsys):
    assert main([str(small.write()), "export", "rows.xlsx"]) == 2
    assert "ends neither in .csv nor in .parquet" in capsys.readouterr().err


def test_a_smoke_store_shows_its_status_under_a_banner_and_writes_nothing(small, capsys):
    small.rows = [replace(row, debug="smoke") for row in small.rows]
    store = small.write()
    assert main([str(store)]) == 0
    assert capsys.readouterr().out.startswith("*** SMOKE RUN (debug=smoke): its numbers mean nothing")
    assert not (store / "report").exists()
    assert main([str(store), "table", "comparison"]) == 2
    assert main([str(store), "plot", "tuning_cost"]) == 2


def test_the_numbers_of_the_cost_figure(small):
    (panel,) = cost_panels(load([small.write()]))
    assert [curve.method for curve in panel.curves] == ["sap", "scrub"]  # references are lines, not curves
    assert (panel.vanilla.mean, panel.retrain.mean) == (0.75, 0.93)
    sap = panel.curves[0]
    assert sap.seeds == 2
    assert (panel.unit, sap.settings, sap.cost[0], sap.cost[-1]) == ("seconds", 3, 1, 3)
    # two seeds that differ by 0.02; random orders of three settings, of which any one costs a second
    exact = dict(zip((1, 2, 3), (0.81, 0.81 + 0.02 / 3, 0.81), strict=True))
    np.testing.assert_allclose(sap.mean, [exact[int(cost + 1e-9)] for cost in sap.cost], atol=2e-3)
    assert (sap.low[0], sap.high[0], sap.low[-1], sap.high[-1]) == pytest.approx((0.78, 0.84, 0.80, 0.82))


def test_the_cost_figure_is_in_flops_when_one_search_has_no_honest_seconds(small):
    small.rows = [replace(row, flops=3e9, jobs_on_device=3 if row.method == "scrub" else 1) for row in small.rows]
    results = load([small.write()])
    (panel,) = cost_panels(results)
    assert panel.unit == "flops"
    for curve in panel.curves:
        np.testing.assert_allclose(curve.cost[[0, -1]], [3, 3 * curve.settings])
    assert tuning_cost.numbers(results).startswith("cell,method,space,settings,giga_flops,expected_test,low_10,high_90\n")
    with report.ink.look():
        figure = tuning_cost.draw(results)
        said = [axis.get_xlabel() for axis in figure.axes] + [figure.legends[0].get_title().get_text()]
        report.ink.close(figure)
    assert said[0] == "Tuning cost per seed (GFLOP)"
    assert "FLOPs, because jobs shared their cores or GPU" in said[-1]


def test_spaces_of_one_method_look_different():
    given = styles(["sap", "ssd", "sap", "scrub", "finetune"])
    assert len({(style.color, style.line, style.marker) for style in given}) == 5
    assert given[0].width > given[1].width


def test_no_torch_and_no_matplotlib_before_a_figure(small):
    store = str(small.write())
    program = (
        "import sys; from analysis.__main__ import main; "
        f"assert main([{store!r}, 'status']) == 0; "
        "assert not {'torch', 'ray', 'hydra', 'sweeper', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)

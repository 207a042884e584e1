from dataclasses import replace
from pathlib import Path

import pytest

from analysis.reports.report import make_tables
from analysis.store.labels import MISSING
from analysis.store.load import load
from analysis.tables.comparison import comparison
from analysis.tables.cost import cost
from analysis.tables.render import markdown
from sap_core.errors import UserError

GOLDEN = Path(__file__).parent / "golden"


def table(store, **options):
    (one,) = comparison(load([store.write()]), **options)
    return one


def cell(made, method, key):
    column = [column.key for column in made.columns].index(key)
    return next(row[column] for row in made.rows if row[0].text == method)


def test_the_table_equals_the_golden_file(small):
    assert markdown(table(small)) == (GOLDEN / "table.md").read_text(encoding="utf-8")


def test_what_was_not_searched_has_no_cost_of_a_search(small):
    """Retrain's own training is named in a note; shared devices of its jobs alone say nothing about the searches."""
    small.rows = [replace(row, flops=2e9, standalone_flops=3e9) for row in small.rows]
    small.rows = [replace(row, jobs_on_device=8) if row.method == "retrain" else row for row in small.rows]
    results = load([small.write()])
    for made in (comparison(results)[0], cost(results)[0]):
        keys = [column.key for column in made.columns if column.key.endswith(("_seconds", "_flops", "_forwards", "_backwards"))]
        assert {"tuning_seconds", "standalone_seconds"} <= set(keys)
        assert {(cell(made, "Retrain", key).text, cell(made, "Retrain", key).marks) for key in keys} == {(MISSING, "")}
        assert "Retrain was trained once and not searched: 2.00 GFLOP per seed, in no column of costs." in made.notes
        assert not any("§" in note for note in made.notes)


def test_a_method_on_fewer_seeds_is_marked_and_not_ranked(small):
    drop = {f"scrub-grid_a-2-{n}" for n in (0, 1)}
    small.plan = [line for line in small.plan if line.run_id not in drop]
    small.rows = [row for row in small.rows if row.run_id not in drop]
    made = table(small)
    assert cell(made, "SCRUB (grid_a)", "method").marks == "‡"
    assert {row[place].rank for row in made.rows for place in range(len(row))} == {0}
    assert "‡ SCRUB (grid_a): not planned for seed 2; means are over the other seeds, and not ranked." in made.notes


def test_numbers_by_hand(small):
    made = table(small)
    sap = cell(made, "SAP (alpha16)", "test_val_noisy_percent")
    assert (sap.text, sap.rank, sap.marks) == ("81.00 ± 1.41", 1, "")  # 0.80 and 0.82
    sap = cell(made, "SAP (alpha16)", "test_val_clean_part_percent")
    assert (sap.text, sap.rank, sap.marks) == ("83.00 ± 1.41", 1, "†")
    assert cell(made, "SAP (alpha16)", "gain_points").text == "+6.00 ± 0.00"
    scrub = cell(made, "SCRUB (grid_a)", "test_val_noisy_percent")
    assert (scrub.text, scrub.rank, scrub.marks) == ("77.00 ± 0.00", 2, "†")
    assert cell(made, "SCRUB (grid_a)", "gain_points").text == "+2.00 ± 1.41"
    assert cell(made, "SCRUB (grid_a)", "failed").text == "2 diverged"
    assert cell(made, "SCRUB (grid_a)", "information").text == "200 retain + 40 forget (oracle)"
    assert cell(made, "Vanilla", "test_val_noisy_percent").text == "75.00 ± 1.41"
    assert cell(made, "Vanilla", "mislabelled_given_percent").text == "96.0"
    assert cell(made, "SAP (alpha16)", "mislabelled_true_percent").text == "60.0"
    assert cell(made, "SAP (alpha16)", "trusted_label_precision_percent").text == "95.0"


def test_references_and_the_oracle_are_never_best(small):
    made = table(small, rules=("val_noisy", "test_oracle"))
    assert cell(made, "Retrain", "test_val_noisy_percent").rank == 0
    assert [row[5].rank for row in made.rows if made.columns[5].key == "test_test_oracle_percent"] == [0, 0, 0, 0]


def test_settings_that_are_one_computation_are_counted(small):
    small.plan = [replace(line, computation_id=0) if line.method == "sap" and line.position == 1 else line for line in small.plan]
    assert cell(table(small), "SAP (alpha16)", "settings").text == "3 (2 distinct)"


def test_a_kept_unmodified_model_is_counted(small):
    small.rows = [replace(row, val_noisy_acc=0.9) if row.run_id == "base-1" else row for row in small.rows]
    made = table(small)
    assert cell(made, "SAP (alpha16)", "unmodified_kept").text == "1 of 2"
    assert cell(made, "SAP (alpha16)", "test_val_noisy_percent").text == "78.00 ± 5.66"  # 0.74 kept, 0.82 chosen
    assert "kept in 3 of 6 searches" in " ".join(made.notes)


def test_incomplete_values_are_marked_counted_and_not_ranked(small):
    small.rows = [row for row in small.rows if not (row.method == "sap" and row.seed == 2) and row.run_id != "sap-alpha16-1-0"]
    made = table(small)
    sap = cell(made, "SAP (alpha16)", "test_val_noisy_percent")
    assert (sap.text, sap.marks, sap.rank) == ("80.00", "‡", 0)
    assert cell(made, "SCRUB (grid_a)", "test_val_noisy_percent").rank == 0, "a single contender is not ranked"
    assert "2 missing values, marked ‡." in made.caption
    assert "‡ SAP (alpha16): 4 of 6 planned settings have no row; not ranked." in made.notes
    assert "‡ SAP (alpha16), val_noisy: no setting selected for seed 2: no setting has run." in made.notes


def test_one_table_per_cell(small):
    small.baseline(3, 0.5, 0.6, 0.6, run_id="base-3", cell="digits/symmetric-0.1/small_cnn/sgd", noise_rate=0.1)
    small.search("ssd", "default", 3, [{"dampening": 1.0}], [(0.6, 0.7, 0.7)], cell="digits/symmetric-0.1/small_cnn/sgd", noise_rate=0.1)
    tables = comparison(load([small.write()]))
    assert [made.cell for made in tables] == ["digits/symmetric-0.25/small_cnn/sgd", "digits/symmetric-0.1/small_cnn/sgd"]
    assert "10 % symmetric noise" in tables[1].caption
    assert "1 seed, so without a standard deviation." in tables[1].caption
    assert cell(tables[1], "SSD", "test_val_noisy_percent").text == "70.00"


def test_a_regression_store_is_printed_in_r2(maker):
    maker.baseline(1, None, None, None, val_noisy_r2=0.5, val_clean_r2=0.5, test_r2=0.55)
    scores = {"val_noisy_r2": 0.6, "val_clean_r2": 0.6, "test_r2": 0.65}
    maker.search("sap", "alpha16", 1, [{"alpha": 1.0}], [(None, None, None)], **scores)
    made = table(maker)
    assert cell(made, "SAP (alpha16)", "test_val_noisy").text == "0.6500"
    assert "Test R²" in made.caption


def test_rows_of_a_smoke_run_are_refused(small):
    small.rows[0] = replace(small.rows[0], debug="smoke")
    with pytest.raises(UserError, match="debug=smoke, and no table or plot accepts them"):
        table(small)


def test_trusted_sizes(maker):
    maker.baseline(1, 0.60, 0.7, 0.70)
    for n, (size, val, test) in enumerate([(20, 0.5, 0.6), (20, 0.55, 0.6), (200, 0.65, 0.80), (200, 0.66, 0.78)]):
        maker.add(
            f"s{n}", job_type="tune", method="sap", seed=1, baseline_id="base-1", space="sizes", position=n, settings={"n": size},
            val_noisy_acc=val, val_clean_acc=val, test_acc=test, num_trusted=size, trusted_label_precision=1 - size / 1000,
        )  # fmt: skip
    (made,) = make_tables(load([maker.write()]), "trusted_size")
    assert [[one.text for one in row] for row in made.rows] == [
        ["20", "98.0", "70.00", "0.00", "1 of 1"],
        ["200", "80.0", "78.00", "+8.00", "0 of 1"],
    ]
    assert made.titles == {0: "SAP (sizes)"}


def test_a_store_without_sizes_has_no_size_table(small):
    assert make_tables(load([small.write()]), "trusted_size") == ()


def test_cost_table(small):
    (made,) = cost(load([small.write()]))
    assert [one.text for one in made.rows[0][:5]] == ["SAP (alpha16)", "3", "3.00", "12.0", "4.0"]
    assert "Amortised seconds as a multiple of SAP (alpha16): SCRUB (grid_a) 2 (settings 0.667)." in made.notes
    assert "Rerun" not in made.caption


def test_the_cost_table_says_which_searches_are_incomplete(small):
    small.rows = [row for row in small.rows if row.run_id != "sap-alpha16-2-1"]
    (table,) = cost(load([small.write()]))
    (note,) = [note for note in table.notes if "have no row" in note]
    assert note.startswith("SAP (alpha16): 1 of ")


def test_the_cost_table_has_amortised_and_standalone_passes_and_flops(small):
    amounts = {"sample_forwards": 10.0, "standalone_sample_forwards": 40.0, "sample_backwards": 1.0, "standalone_sample_backwards": 2.0}
    small.rows = [replace(row, flops=1e9, standalone_flops=4e9, **amounts) for row in small.rows]
    (made,) = cost(load([small.write()]))
    shown = {column.key: one.text for column, one in zip(made.columns, made.rows[0], strict=True)}
    assert {key: shown[key] for key in (*amounts, "giga_flops", "standalone_giga_flops")} == {
        "sample_forwards": "30", "standalone_sample_forwards": "120", "sample_backwards": "3", "standalone_sample_backwards": "6",
        "giga_flops": "3.00", "standalone_giga_flops": "12.0",
    }  # fmt: skip


def test_flops_replace_seconds_if_jobs_shared_their_cores(small):
    small.rows = [replace(row, flops=2e9, standalone_flops=4e9, jobs_on_device=3 if row.method == "sap" else 2) for row in small.rows]
    results = load([small.write()])
    (made,) = comparison(results)
    for key in ("tuning_seconds", "standalone_seconds"):
        sap = cell(made, "SAP (alpha16)", key)
        assert (sap.text, sap.value, sap.marks) == (MISSING, None, "§")
        assert cell(made, "SCRUB (grid_a)", key).marks == ""
    assert cell(made, "SAP (alpha16)", "giga_flops").text == "6.00"
    assert cell(made, "SCRUB (grid_a)", "standalone_giga_flops").text == "8.00"
    notes = " ".join(made.notes)
    assert "§ No seconds: jobs shared cores or a GPU" in notes
    assert "Seconds were measured with exclusive cores" in notes
    assert "training one took" in notes, "the baselines had exclusive cores"
    (costs,) = cost(results)
    assert [one.text for one in costs.rows[0][2:10]] == [MISSING] * 8
    assert "Amortised FLOPs as a multiple of SAP (alpha16): SCRUB (grid_a) 0.667 (settings 0.667)." in costs.notes


def test_rows_without_a_record_of_sharing_count_as_shared(small):
    small.rows = [replace(row, jobs_on_device=None, cores=None) for row in small.rows]
    made = table(small)
    assert cell(made, "SCRUB (grid_a)", "tuning_seconds").marks == "§"
    assert "training one took" not in " ".join(made.notes)


def test_the_cost_table_reports_reruns_on_an_exclusive_device(small):
    for job, factor in (("sap-alpha16-1-0", 0.5), ("sap-alpha16-1-1", 0.75), ("sap-alpha16-2-0", 1.0), ("base-1", 0.9)):
        small.measured_again(f"job-{job}", 2.0, 2.0 * factor)
    (made,) = cost(load([small.write()]))
    assert made.caption.endswith(
        "Rerun on an exclusive device, as a multiple of the sweep's seconds, median (range): Vanilla 0.90 (0.90; 1 job), "
        "SAP (alpha16) 0.75 (0.50\u20131.00; 3 jobs)."
    )


def test_noise_without_a_nominal_rate_is_reported_as_measured(small):
    small.rows = [replace(row, noise="human_worst", noise_rate=None, noise_rate_measured=0.402) for row in small.rows]
    made = table(small)
    assert "Digits, human (worst) noise, small CNN trained by" in made.caption
    assert "No nominal noise rate; 40.2 % of the training labels are wrong." in markdown(made)

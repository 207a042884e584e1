"""Tests of the table `corrective`: accuracy on the affected and unaffected test images under both rules, and the known samples."""

from __future__ import annotations

from analysis.__main__ import main
from analysis.reports.report import make_tables
from analysis.store.labels import MISSING
from analysis.store.load import load


def test_affected_and_rest_by_hand(maker):
    for seed in (1, 2):
        maker.baseline(seed, 0.60, 0.75, 0.74, test_affected_acc=0.10, test_unaffected_acc=0.90)
        for position, (val, clean, affected, rest) in enumerate([(0.62, 0.80, 0.30, 0.80), (0.61, 0.90, 0.50, 0.70)]):
            maker.search(
                "scrub", f"at{position}", seed, [{"alpha": 1}], [(val, clean, 0.5)], information="oracle", num_retain=20,
                num_forget=40 if position else 20, noise_rate_measured=0.1, num_train=800,
                test_affected_acc=affected + 0.1 * (seed == 2), test_unaffected_acc=rest,
            )  # fmt: skip
        maker.search(
            "sap",
            "alpha16",
            seed,
            [{"alpha": 1}],
            [(0.50, 0.90, 0.5)],
            information="scored",
            test_affected_acc=0.2,
            test_unaffected_acc=0.9,
        )
    (table,) = make_tables(load([maker.write()]), "corrective")
    keys = [column.key for column in table.columns]
    rows = {row[0].text: dict(zip(keys, row, strict=True)) for row in table.rows}
    assert {name: rows["Vanilla"][name].text for name in keys[5:9]} == {
        "test_affected_acc_val_noisy_percent": "10.00 ± 0.00", "test_unaffected_acc_val_noisy_percent": "90.00 ± 0.00",
        "test_affected_acc_val_clean_part_percent": "10.00 ± 0.00", "test_unaffected_acc_val_clean_part_percent": "90.00 ± 0.00",
    }  # fmt: skip
    assert [rows[f"SCRUB (at{place})"]["mislabelled_known_percent"].text for place in (0, 1)] == ["25", "50"]
    assert rows["SCRUB (at0)"]["test_affected_acc_val_noisy_percent"].text == "35.00 ± 7.07"
    assert rows["SCRUB (at1)"]["test_unaffected_acc_val_clean_part_percent"].text == "70.00 ± 0.00"
    sap = rows["SAP (alpha16)"]
    assert (sap["mislabelled_known_percent"].text, sap["test_affected_acc_val_noisy_percent"].value) == (MISSING, 10.0)
    assert sap["test_affected_acc_val_clean_part_percent"].value == 20.0
    assert (sap["unmodified_kept_val_noisy"].text, sap["unmodified_kept_val_clean_part"].text) == ("2 of 2", "0 of 2")


def test_other_noise_has_no_such_table(small, capsys):
    store = small.write()
    assert make_tables(load([store]), "corrective") == ()
    assert main([str(store), "table", "corrective"]) == 2
    assert "no numbers for the table 'corrective'" in capsys.readouterr().err

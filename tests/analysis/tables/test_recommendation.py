"""Tests of the table `recommendation`: the printed advice."""

from __future__ import annotations

import json

import pytest

from analysis.__main__ import main
from analysis.store.load import load
from analysis.tables.recommendation import recommendation, recommendation_for_own_data
from sap_core.mcnemar import McNemarTest


@pytest.fixture
def own(maker):
    """One baseline without added noise; SAP with two settings, of which the second is chosen, as a test sets won and lost."""

    def make(won, lost, score=0.7, noise_rate=0.0):
        maker.baseline(1, 0.6, None, 0.6, noise="none", noise_rate=noise_rate, num_val=50)
        counts = {"val_newly_right": won, "val_newly_wrong": lost, "num_val": 50, "noise": "none", "noise_rate": noise_rate}
        settings = [{"alpha": 3000.0, "num_trusted": 20}, {"alpha": 2000.0, "num_trusted": 20}]
        maker.search("sap", "alpha16", 1, settings, [(0.6, None, 0.6), (score, None, 0.7)], **counts)
        return load([maker.write()])

    return make


def words(results):
    (table,) = recommendation(results)
    (row,) = table.rows
    return {column.key: cell.text for column, cell in zip(table.columns, row, strict=True)}


def test_a_clear_gain_is_recommended(own):
    printed = words(own(won=12, lost=0))
    assert printed["recommendation"] == "use the corrected model"
    assert printed["chosen"] == "alpha=2000"
    assert (
        printed["settings_tried"],
        printed["val_samples"],
        printed["val_newly_right"],
        printed["val_newly_wrong"],
        printed["p_value"],
    ) == (
        "2",
        "50",
        "12",
        "0",
        ".0005",
    )


def test_a_gain_that_chance_could_give_is_not(own):
    printed = words(own(won=5, lost=1))
    needed = McNemarTest(1, 5, 50, 2).samples_needed
    assert printed["recommendation"] == f"keep the unmodified model; about {needed} validation samples would decide"


def test_where_no_setting_is_better_the_model_is_kept(own):
    assert words(own(won=5, lost=5, score=0.6))["recommendation"] == "keep the unmodified model: no setting is better"


def test_rows_without_counts_make_no_table(own, small):
    assert recommendation(own(won=None, lost=None)) == ()
    assert recommendation(load([small.write()])) == ()


def test_the_report_prints_it_where_no_noise_was_added(own, capsys):
    results = own(won=12, lost=0)
    store = str(results.stores[0])
    assert main([store]) == 0
    assert "use the corrected model" in capsys.readouterr().out
    assert main([store, "table", "recommendation"]) == 0
    assert "use the corrected model" in capsys.readouterr().out


def test_the_report_leaves_it_to_the_folder_where_noise_was_added(own):
    results = own(won=12, lost=0, noise_rate=0.25)
    assert recommendation_for_own_data(results) == ()
    assert len(recommendation(results)) == 1


def test_the_classes_are_named_by_the_number_of_the_output(own):
    results = own(9, 1)
    (table,) = recommendation(results)
    assert not any(note.startswith("Outputs of both models") for note in table.notes)
    name, (store,) = results.rows["dataset"].iloc[0], results.stores
    (store / "classes.json").write_text(json.dumps({name: ["cat", "dog", "caf\udce9"], "another": ["x"]}))
    assert recommendation(results)[0].notes[-1] == r"Outputs of both models: 0 = cat, 1 = dog, 2 = caf\xe9."
    (store / "classes.json").write_text(json.dumps({name: [f"class{number}" for number in range(12)]}))
    assert recommendation(results)[0].notes[-1].endswith("9 = class9, ... (12 classes, all in classes.json).")
    for damaged in ("", "[]", "{}", '{"x": 3'):
        (store / "classes.json").write_text(damaged)
        assert recommendation(results)[0].notes == table.notes


@pytest.fixture
def given_network(maker):
    """A network that was trained elsewhere, with its scores on validation and test images, and SAP with one setting that wins or not."""

    def make(val, test, val_source="drawn", chosen=0.99, train_seconds=None):
        maker.baseline(
            1, val, None, test, noise="none", noise_rate=None, train_acc=0.975, train_seconds=train_seconds, val_source=val_source,
            num_train=160, num_val=50, num_test=100,
        )  # fmt: skip
        counts = {"val_newly_right": 12, "val_newly_wrong": 0, "num_val": 50, "noise": "none", "noise_rate": None}
        maker.search("sap", "alpha16", 1, [{"alpha": 3000.0}], [(chosen, None, 0.7)], **counts)
        return load([maker.write()])

    return make


def notes(results):
    (table,) = recommendation(results)
    return " ".join(table.notes)


@pytest.mark.parametrize("chosen", [0.99, 0.5])
def test_memorised_validation_images_recommend_nothing_and_say_what_would(given_network, chosen):
    results = given_network(val=0.96, test=0.6, chosen=chosen)
    said = words(results)["recommendation"]
    assert said.startswith("no recommendation: the validation images look memorised; add about 160 images that it was not trained on")
    assert "0.975 on 160 training, 0.960 on 50 validation and 0.600 on 100 test images" in notes(results)
    assert "it has memorised them with their wrong labels" in notes(results)
    assert "val/CLASS/" in notes(results)


def test_images_that_were_trained_on_are_named_even_without_a_sign_of_memorisation(given_network):
    results = given_network(val=0.7, test=0.7)
    assert words(results)["recommendation"] == "use the corrected model; judged on images that the unmodified model was trained on"
    assert "no sign that it has memorised them" in notes(results)


def test_unseen_validation_images_are_trusted_and_doubted_in_words_only(given_network):
    results = given_network(val=0.96, test=0.6, val_source="own")
    assert words(results)["recommendation"] == "use the corrected model"
    assert "either it was trained on them" in notes(results)


@pytest.mark.parametrize(("val_source", "train_seconds"), [("own", None), ("drawn", 10.0)])
def test_validation_images_that_nobody_has_trained_on_are_not_doubted(given_network, val_source, train_seconds):
    val = 0.96 if train_seconds else 0.7
    results = given_network(val=val, test=0.6, val_source=val_source, train_seconds=train_seconds)
    assert words(results)["recommendation"] == "use the corrected model"
    assert "trained on" not in notes(results)
    assert ("If you know other numbers, check the size" in notes(results)) == (train_seconds is None)


def test_a_search_in_which_every_setting_failed_gets_no_recommendation(maker):
    maker.baseline(1, 0.6, None, 0.6, noise="none", noise_rate=0.0, num_val=50)
    settings = [{"alpha": 3000.0, "num_trusted": 20}, {"alpha": 2000.0, "num_trusted": 20}]
    failed = {"status": "failed", "error_type": "diverged", "noise": "none", "noise_rate": 0.0}
    maker.search("sap", "alpha16", 1, settings, [(0.6, None, 0.6), (0.7, None, 0.7)], **failed)
    results = load([maker.write()])
    assert words(results)["recommendation"] == "no recommendation: every setting failed (2 diverged)"
    assert len(recommendation_for_own_data(results)) == 1

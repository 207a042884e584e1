"""Tests of the table `trainers` and of the figure `kept_label_precision`."""

from __future__ import annotations

import pytest

from analysis.plots import figures
from analysis.plots import kept_label_precision as kept_label_precision
from analysis.plots.kept_label_precision import groups, kept_by_epoch
from analysis.reports.report import main_tables, make_tables
from analysis.store.load import load, series


@pytest.fixture
def two(maker):
    """Plain training and PRL-L on two seeds; PRL-L's kept samples in two epochs."""
    for name, shift in (("sgd", 0.0), ("prl_l", 0.1)):
        for seed in (1, 2):
            run_id = f"{name}-{seed}"
            where = f"digits/symmetric-0.25/small_cnn/{name}"
            maker.baseline(
                seed, 0.5, 0.6, 0.6 + shift + 0.02 * seed, run_id=run_id, cell=where, trainer=name, flops=3e9, noise_rate_measured=0.25
            )
            if name == "prl_l":
                maker.curve(run_id, [("kept_label_precision", 1, 0.75), ("kept_label_precision", 2, 0.90 + 0.02 * seed), ("loss", 1, 2.0)])
    return load([maker.write()])


def test_the_table_by_hand(two):
    (table,) = make_tables(two, "trainers")
    plain, kept = ({column.key: cell for column, cell in zip(table.columns, row, strict=True)} for row in table.rows)
    assert (plain["row"].text, kept["row"].text) == ("SGD", "PRL(L)")
    assert plain["test_percent"].value == pytest.approx(63.0)
    assert kept["test_percent"].value == pytest.approx(73.0)
    assert (plain["test_percent"].rank, kept["test_percent"].rank) == (2, 1)
    assert kept["kept_label_precision_percent"].value == pytest.approx(93.0)  # of the last epoch
    assert plain["kept_label_precision_percent"].value is None
    assert plain["training_flops_giga"].value == pytest.approx(3.0)
    assert main_tables(two)[0].name == "trainers"


def test_series_by_epoch(two):
    assert set(series(two, "kept_label_precision")["run_id"]) == {"prl_l-1", "prl_l-2"}
    (group,) = groups(two)
    curve = kept_by_epoch(two, group.trainers["prl_l"])
    assert {epoch: summary.mean for epoch, summary in curve.items()} == pytest.approx({1: 0.75, 2: 0.93})
    assert kept_by_epoch(two, group.trainers["sgd"]) == {}


def test_the_figure_has_a_line_for_each_trainer_that_keeps_samples(two):
    with figures.rc_context():
        figure = kept_label_precision.draw(two)
        (axis,) = figure.axes
        (line,) = [line for line in axis.get_lines() if line.get_label() == "prl_l"]
        assert line.get_xydata().tolist() == [pytest.approx([1, 75.0]), pytest.approx([2, 93.0])]
        reference = [line for line in axis.get_lines() if line.get_label() != "prl_l"]
        assert reference[0].get_ydata()[0] == pytest.approx(75.0)
        figures.close(figure)


def test_one_trainer_makes_neither(small):
    results = load([small.write()])
    assert make_tables(results, "trainers") == ()
    assert kept_label_precision.draw(results) is None

"""Tests of the figures: numbers against hand-computed values, and that each figure fits both widths and embeds its fonts."""

import json
from dataclasses import replace

import numpy as np
import pytest

from analysis.__main__ import main
from analysis.plots import alpha, boundaries, compute, figures, memorised, precision_gain, spectra, strategies, transition, tuning_cost
from analysis.reports import report
from analysis.store.load import load
from analysis.store.stats import summarise

SIDE = 5


@pytest.fixture
def full(small):
    """The small store with everything that a figure may show."""
    cost = {"sap": 2e9, "scrub": 4e9, "retrain": 30e9, "vanilla": 50e9}
    small.rows = [replace(row, flops=cost[row.method], standalone_flops=2 * cost[row.method]) for row in small.rows]
    for position, (trusted, skip, test) in enumerate((("loss", 0.0, 0.80), ("curvature", 0.25, 0.78), ("uniform", 0.0, 0.70))):
        for seed in (1, 2):
            small.add(
                f"strategy-{seed}-{position}", job_type="tune", method="sap", seed=seed, baseline_id=f"base-{seed}", space="strategies",
                position=position, settings={"alpha": 30000.0, "trusted": trusted, "skip": skip}, val_noisy_acc=0.65, test_acc=test,
                num_trusted=200, trusted_label_precision=0.9 - position / 10,
            )  # fmt: skip
    given = [("transition/0", 0, 90.0), ("transition/0", 1, 10.0), ("transition/1", 0, 30.0), ("transition/1", 1, 70.0)]
    grid = [("decision/x", step, step / 2) for step in range(SIDE)] + [("decision/y", step, float(step)) for step in range(SIDE)]
    samples = [(f"plane/{name}", step, float((step + (name == "true")) % 2)) for name in ("x", "y", "given", "true") for step in range(6)]
    for seed in (1, 2):
        maps = [("decision/class", step, float(step >= 10)) for step in range(SIDE**2)]
        small.curve(f"base-{seed}", [*given, *grid, *samples, *maps])
        energies = [("spectrum/features.0", 1, 0.75), ("spectrum/features.0", 3, 0.25), ("spectrum/classifier", 1, 0.5)]
        small.curve(f"sap-alpha16-{seed}-0", energies)
        small.curve(f"sap-alpha16-{seed}-1", [*grid, *maps])  # the tie goes to the earlier setting: 10000 is chosen
    return small


def results_of(store):
    return load([store.write()])


def test_alpha_curve(full):
    panel, *none = alpha.numbers(results_of(full))
    assert none == []
    (curve,), (good,) = panel.curves, panel.good
    assert (curve.space, curve.alphas, good.best) == ("alpha16", (2000.0, 10000.0, 30000.0), 2000.0)
    assert panel.vanilla.mean == pytest.approx(0.75)


def test_gains_are_paired_by_seed(full):
    (panel,) = alpha.numbers(results_of(full))
    assert panel.gains[0][10000.0] == pytest.approx((0.80 - 0.74, 0.82 - 0.76))
    (panel,) = strategies.numbers(results_of(full))
    assert [bar.gains for bar in panel.bars] == [pytest.approx((test - 0.74, test - 0.76)) for test in (0.80, 0.78, 0.70)]


def test_a_figure_has_its_text_in_the_caption_unless_titled(full):
    results = results_of(full)
    for titled in (False, True):
        page = replace(figures.ONE_COLUMN, titled=titled)
        with figures.rc_context(page):
            figure = tuning_cost.draw_trials(results, page)
            inside = [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
            caption = figures.caption_of(figure)
            sizes = {text.get_fontsize() for text in figure.findobj(lambda artist: hasattr(artist, "get_fontsize")) if text.get_text()}
            figures.close(figure)
        assert any(text.startswith("Test accuracy by number of trials") for text in inside) == titled
        assert any("Expectation over" in text for text in inside) == titled
        assert caption.startswith("Test accuracy by number of trials: Digits, 25 % symmetric noise")
        assert "selected by validation, given labels" in caption
        assert min(sizes) >= 7


def test_panels_are_told_apart_by_what_differs():
    page = figures.TWO_COLUMNS
    with figures.rc_context(page):
        figure, axes = figures.panels(2, page)
        figures.set_titles(figure, "Title", ["Digits, 10 % noise; n = 3 seeds", "Digits, 25 % noise; n = 3 seeds"], page)
        assert [axis.get_title(loc="left") for axis in axes] == ["(a) 10 % noise", "(b) 25 % noise"]
        assert figures.caption_of(figure) == "Title: (a) Digits, 10 % noise; n = 3 seeds; (b) Digits, 25 % noise; n = 3 seeds."
        figures.close(figure)


@pytest.mark.parametrize(("curves", "bands"), [(3, 3), (4, 0)])
def test_no_more_than_three_bands(curves, bands):
    line = np.linspace(0.5, 0.8, 9)
    curve = tuning_cost.CostCurve(
        "sap", "a", 3, 9, np.arange(1.0, 10), line, line - 0.1, line + 0.1, None, 8.0, 0.8, ((7.0, 0.7), (9.0, 0.9))
    )
    panel = tuning_cost.CostPanel("c", "t", "acc", "seconds", 3, summarise([0.5]), summarise([]), (curve,) * curves)
    with figures.rc_context():
        figure, (axis,) = figures.panels(1)
        tuning_cost.draw_panel(axis, panel)
        assert len([one for one in axis.collections if type(one).__name__ in ("PolyCollection", "FillBetweenPolyCollection")]) == bands
        assert len(axis.containers) == (0 if bands else curves), "whiskers"
        main = next(one for one in axis.lines if one.get_markevery() == [-1])
        assert main.get_xydata()[-1] == pytest.approx((8.0, 80.0)), "the marker is at the mean cost of the complete search"
        figures.close(figure)


def test_single_seeds_are_drawn_if_they_are_few():
    style = figures.method_styles(["sap"])[0]
    with figures.rc_context():
        figure, (axis,) = figures.panels(1)
        figures.draw_spread(axis, 1.0, [3.0, 4.0], style)
        assert axis.lines[-1].get_xydata().tolist() == [[1, 3], [1, 4]]
        figures.draw_spread(axis, 1.0, [3.0, 4.0, 5.0, 4.0, 4.0], style)
        assert len(axis.containers) == 1
        figures.close(figure)


def test_strategy_bars(full):
    (panel,) = strategies.numbers(results_of(full))
    assert (panel.space, [bar.name for bar in panel.bars]) == ("SAP (strategies)", ["loss", "curvature, skip 25 %", "uniform"])
    assert [bar.test.mean for bar in panel.bars] == pytest.approx([0.80, 0.78, 0.70])
    assert [bar.precision.mean for bar in panel.bars] == pytest.approx([0.9, 0.8, 0.7])


def test_spaces_of_one_strategy_are_compared_with_spaces_of_equal_size(small):
    """As in experiment=ablation_trusted_strategy: one space per strategy, tuned and at a fixed alpha."""
    spaces = [
        ("loss", "loss", 2),
        ("uniform", "uniform", 2),
        ("loss_fixed", "loss", 1),
        ("uniform_fixed", "uniform", 1),
        ("loss_repeated", "loss", 1),
    ]
    for space, trusted, count in spaces:
        for seed in (1, 2):
            for position in range(count):
                small.add(
                    f"{space}-{seed}-{position}", job_type="tune", method="sap", seed=seed, baseline_id=f"base-{seed}", space=space,
                    position=position, settings={"alpha": 30000.0 + position, "trusted": trusted}, val_noisy_acc=0.65 + position / 100,
                    test_acc=(0.8 if trusted == "loss" else 0.7) + position / 100, num_trusted=200,
                )  # fmt: skip
    tuned, fixed = strategies.numbers(results_of(small))
    assert (tuned.space, [bar.name for bar in tuned.bars]) == ("SAP, 2 settings each", ["loss", "uniform"])
    assert [bar.test.mean for bar in tuned.bars] == pytest.approx([0.81, 0.71])
    assert (fixed.space, [bar.name for bar in fixed.bars]) == (
        "SAP, 1 setting each",
        ["loss, loss_fixed", "uniform", "loss, loss_repeated"],
    )


def test_compute_bars(full):
    (panel,) = compute.numbers(results_of(full))
    found = {bar.name: (bar.setting, bar.amortised, bar.standalone) for bar in panel.bars}
    assert found["Training of the baseline"] == (50.0, None, None)
    assert found["SAP (alpha16)"] == pytest.approx((4.0, 6.0, 12.0))  # 3 settings
    assert found["SCRUB (grid_a)"] == pytest.approx((8.0, 8.0, 16.0))
    assert found["Retrain"] == (pytest.approx(60.0), None, None)


def test_spectra_and_importance(full):
    (panel,) = spectra.numbers(results_of(full))
    assert (panel.name, panel.seed, panel.alpha, panel.trusted) == ("SAP (alpha16)", 1, 10000.0, 200)
    first, last = panel.layers
    assert (first.layer, first.rank.tolist(), first.energy.tolist()) == ("features.0", [1, 3], [0.75, 0.25])
    np.testing.assert_allclose(last.importance(3.0), [3 * 0.5 / (2 * 0.5 + 1)])
    np.testing.assert_allclose(spectra.Spectrum("x", np.ones(3), np.array([0.0, 1 / 10001, 1.0])).importance(1e4), [0, 0.5, 1])


def test_at_most_eight_layers(full):
    layers = [spectra.Spectrum(str(place), np.ones(1), np.ones(1)) for place in range(21)]
    assert [layer.layer for layer in spectra.spaced_layers(layers)] == ["0", "3", "6", "9", "11", "14", "17", "20"]


def test_transition_matrix(full):
    (matrix,) = transition.numbers(results_of(full))
    assert (matrix.title, matrix.seed) == ("Digits, 25 % symmetric noise", 1)
    np.testing.assert_array_equal(matrix.counts, [[90, 10], [30, 70]])
    np.testing.assert_allclose(matrix.shares, [[0.9, 0.1], [0.3, 0.7]])


def test_precision_against_gain(full):
    found = precision_gain.numbers(results_of(full))
    by_group = {(point.group, point.seed, round(point.precision, 2)): point.gain for point in found}
    assert by_group["SAP (alpha16)", 1, 0.95] == pytest.approx(0.80 - 0.74)
    assert by_group["SAP (strategies)", 2, 0.9] == pytest.approx(0.80 - 0.76)
    assert by_group["SAP (strategies)", 1, 0.7] == pytest.approx(0.70 - 0.74)
    assert len(found) == 8


def test_memorised_labels(full):
    (panel,) = memorised.numbers(results_of(full))
    before, sap = panel.bars[0], panel.bars[1]
    assert (before.name, before.given, before.true) == ("Vanilla (before)", 0.96, 0.02)
    assert (sap.given, sap.true, sap.other) == pytest.approx((0.30, 0.60, 0.10))


def test_boundaries(full):
    (panel,) = boundaries.numbers(results_of(full))
    assert [one.name for one in panel.maps] == ["Vanilla (before)", "SAP (alpha16)"]  # the others have no map
    assert panel.maps[1].test == pytest.approx(0.80)
    np.testing.assert_array_equal(panel.maps[0].classes, np.repeat([[0], [0], [1], [1], [1]], SIDE, axis=1))
    assert panel.maps[0].x.tolist() == [0, 0.5, 1, 1.5, 2]
    assert panel.samples[["given", "true"]].loc[[0, 1]].to_numpy().tolist() == [[0.0, 1.0], [1.0, 0.0]]


def test_tuning_curves_in_trials_are_the_exact_ones(full):
    (panel,) = tuning_cost.cost_panels(results_of(full), trials=True)
    sap = panel.curves[0]
    np.testing.assert_allclose(sap.mean, [0.81, 0.81 + 0.02 / 3, 0.81])
    assert (sap.cost.tolist(), sap.settings, sap.seeds) == ([1, 2, 3], 3, 2)
    assert (sap.low[0], sap.high[0]) == (0.78, 0.84)
    assert tuning_cost.curves_csv(results_of(full), trials=True).startswith(
        "cell,method,space,settings,trials,expected_test,low_10,high_90\n"
    )


DRAWN = sorted(set(report.PLOTS) - {"trusted_size", "kept_label_precision"})


@pytest.mark.slow
@pytest.mark.parametrize("columns", ["one", "two"])
@pytest.mark.parametrize("name", DRAWN)
def test_every_figure_fits_its_width(full, name, columns):
    page = figures.PAGE_WIDTHS[columns]
    with figures.rc_context(page):
        figure = report.PLOTS[name](results_of(full), page)
        assert figure is not None
        figure.draw_without_rendering()
        width, height = figure.get_size_inches()
        assert width == page.width
        assert height < 9  # the height of a page
        edge = figure.bbox.padded(2)
        for artist in [*figure.texts, *figure.legends, *figure.axes]:
            if artist.get_visible():
                box = artist.get_tightbbox()
                assert edge.x0 <= box.x0, (artist, box)
                assert box.x1 <= edge.x1, (artist, box)
                assert edge.y0 <= box.y0, (artist, box)
                assert box.y1 <= edge.y1, (artist, box)
        figures.close(figure)


def test_the_command_names_files_by_their_width_and_embeds_fonts(full, capsys):
    store = full.write()
    assert main([str(store), "plot", "alpha", "--columns", "one"]) == 0
    assert capsys.readouterr().out.split() == [str(store / "report" / f"alpha_one.{form}") for form in ("png", "pdf", "tex")]
    text = (store / "report" / "alpha_one.tex").read_text()
    assert r"\includegraphics[width=\columnwidth]{alpha_one}" in text
    assert r"\caption{Gain in test accuracy by alpha: Digits, 25\,\% symmetric noise, small CNN trained by SGD; n = 2 seeds." in text
    assert r"\label{fig:alpha-one}" in text
    pdf = (store / "report" / "alpha_one.pdf").read_bytes()
    assert b"/FontFile2" in pdf  # TrueType, embedded
    assert b"/Type3" not in pdf
    assert main([str(store), "plot", "alpha"]) == 0
    assert (store / "report" / "alpha.pdf").exists()
    assert main([str(store), "plot", "alpha", "--columns", "three"]) == 2


@pytest.mark.parametrize("name", sorted(set(report.PLOTS) - {"tuning_cost", "tuning_trials", "alpha", "memorised", "precision_gain"}))
def test_a_store_without_the_numbers_has_no_figure(small, name, capsys):
    assert main([str(small.write()), "plot", name]) == 2
    assert f"has no numbers for the plot '{name}'" in capsys.readouterr().err


def test_styles_are_distinguishable_in_grey():
    spaces = figures.method_styles(["sap"] * 4 + ["scrub"] * 2)
    assert len({(json.dumps(style.linestyle), style.marker) for style in spaces}) == 6
    layers = figures.ordered_styles(8)
    assert len({(json.dumps(style.linestyle), style.marker) for style in layers}) == 8
    assert len(set(figures.HATCHES)) == len(figures.HATCHES) == len(figures.FILLS)

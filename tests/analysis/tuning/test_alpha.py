import pytest

from analysis.store.load import load
from analysis.store.results import cells
from analysis.store.stats import summarise
from analysis.tuning.alpha import AlphaCurve, alpha_curves, good_range, transfers

ALPHAS = [{"alpha": 30000.0}, {"alpha": 10000.0}, {"alpha": 2000.0}]


def curve(means):
    points = tuple(summarise([mean]) for mean in means)
    return AlphaCurve("sap", "alpha16", "", tuple(10.0**k for k in range(len(means))), points, points)


def test_the_good_range_is_contiguous_around_the_best():
    good = good_range(curve([0.80, 0.70, 0.795, 0.80, 0.791, 0.78]))
    assert (good.best, good.low, good.high, good.count) == (1.0, 1.0, 1.0, 1)  # the first of equals; the others are not next to it
    good = good_range(curve([0.60, 0.795, 0.801, 0.791, 0.78]))
    assert (good.best, good.low, good.high, good.count, good.width) == (100.0, 10.0, 1000.0, 3, 100.0)
    assert (good.open_low, good.open_high) == (False, False)
    good = good_range(curve([0.5, 0.80, 0.795]))
    assert (good.open_low, good.open_high) == (False, True)
    assert good_range(curve([float("nan")])) is None


def test_curves_of_a_store(small):
    (found,) = alpha_curves(cells(load([small.write()]))[0])
    assert (found.alphas, found.others) == ((2000.0, 10000.0, 30000.0), "")
    assert [point.mean for point in found.test] == pytest.approx([0.83, 0.81, 0.79])
    assert good_range(found).best == 2000.0


def test_sizes_are_curves_of_their_own(maker):
    maker.baseline(1, 0.60, 0.75, 0.74)
    grid = [{"num_trusted": size, **alpha} for size in (200, 50) for alpha in ALPHAS]
    maker.search("sap", "alpha3_size2", 1, grid, [(0.6, 0.8, 0.7 + place / 100) for place in range(6)])
    assert [found.others for found in alpha_curves(cells(load([maker.write()]))[0])] == ["num_trusted 200", "num_trusted 50"]


def test_alpha_from_another_cell(maker):
    for rate, base, scores in (
        (0.1, "a", [(0.62, 0.0, 0.80), (0.70, 0.0, 0.84), (0.60, 0.0, 0.70)]),
        (0.4, "b", [(0.62, 0.0, 0.60), (0.63, 0.0, 0.62), (0.66, 0.0, 0.69)]),
        (0.6, "c", [(0.50, 0.0, 0.50)] * 3),
    ):
        common = {"cell": f"digits/symmetric-{rate}/small_cnn/sgd", "noise_rate": rate}
        maker.baseline(1, 0.60, 0.75, 0.55, run_id=base, **common)
        for position, (setting, score) in enumerate(zip(ALPHAS, scores, strict=True)):
            maker.add(
                f"{base}-{position}", job_type="tune", method="sap", seed=1, baseline_id=base, space="alpha16", position=position,
                settings=setting, val_noisy_acc=score[0], test_acc=score[2], **common,
            )  # fmt: skip
    found = {(pair.origin[17:20], pair.cell[17:20]): pair for pair in transfers(cells(load([maker.write()])), "sap", "alpha16")}
    assert len(found) == 6
    assert (found["0.1", "0.4"].alpha, found["0.1", "0.4"].loss) == (10000.0, pytest.approx(0.69 - 0.62))
    assert (found["0.4", "0.1"].alpha, found["0.4", "0.1"].loss) == (2000.0, pytest.approx(0.84 - 0.70))
    assert (found["0.6", "0.1"].alpha, found["0.6", "0.1"].loss) == (None, pytest.approx(0.84 - 0.55))  # c keeps its unmodified model
    assert found["0.1", "0.6"].loss == pytest.approx(0.55 - 0.50)

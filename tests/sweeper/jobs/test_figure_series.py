"""Series for figures: spectra of layers, and decisions of classifiers in the plane. They influence no score and no tuning cost."""

from __future__ import annotations

import math
from collections import defaultdict

import pytest
import torch

from sap_core.cost import TUNING
from sap_core.evaluation import decision_boundary as plane
from sap_core.run import PlainRun
from sap_core.sap import spectrum
from sap_core.sap.sap import SAP
from sweeper.contracts import toys
from sweeper.jobs.job import SweepPaths
from sweeper.jobs.run_job import execute
from sweeper.store.store import Store


def test_a_summary_is_of_sorted_energies_at_ranks_spaced_by_their_logarithm():
    energy = torch.arange(1.0, 1001.0).flip(0)[torch.randperm(1000, generator=torch.Generator().manual_seed(1))]
    found = spectrum.summary(energy.unsqueeze(0))
    assert len(found) <= spectrum.MAX_SUMMARY_RANKS
    assert (next(iter(found)), list(found)[-1]) == (1, 1000)
    assert all(value == 1001 - rank for rank, value in found.items())
    assert spectrum.summary(torch.tensor([[0.2, 0.8], [0.5, 0.5]])) == pytest.approx({1: 0.65, 2: 0.35})
    assert spectrum.summary(torch.ones(1, 1)) == {1: 1.0}


def test_sap_reports_the_spectrum_of_every_layer_once_per_size_in_phase_report():
    task = toys.make_task()
    model = task.build(0).eval()
    settings = [SAP(alpha=alpha, num_trusted=size, batch_size=8) for size in (8, 16) for alpha in (10.0, 1000.0)]
    run = PlainRun(len(settings))
    for _ in SAP.correct(settings, model, task, run):
        pass
    layers = {name for name, _ in run.observations}
    assert {which for _, which in run.observations} == {0, 2}  # the first setting of each size
    assert all(name.startswith("spectrum/") for name in layers)
    for values in run.observations.values():
        assert list(values.values()) == sorted(values.values(), reverse=True)
        assert sum(values.values()) <= 1 + 1e-9
    assert {piece.phase for piece in run.meter.records} == {"select", "collect", "factor", "build", "report"}
    assert all(piece.flops == piece.forwards == 0 for piece in run.meter.records if piece.phase == "report")


@pytest.fixture(scope="module")
def spiral(plan_of, tmp_path_factory):
    """The spiral's baseline and one family of SAP, 30 epochs."""
    path = tmp_path_factory.mktemp("spiral")
    words = ("experiment=spiral", "trainer.epochs=30", "methods=[sap@alpha15]", "seeds=[1]")
    plan = plan_of(*words).plan
    folders = SweepPaths(path / "data", path / "store", path / "artifacts")
    for job in plan.jobs:
        assert execute(job, folders).status == "ok"
    return plan, folders, Store(folders.store)


def points(store, job_id, prefix):
    found = defaultdict(dict)
    for point in store.read_series(job_id):
        if point.name.startswith(prefix):
            found[point.run_id, point.name][point.step] = point.value
    return found


@pytest.mark.slow
def test_a_baseline_in_the_plane_stores_its_samples_and_its_map(spiral):
    plan, _, store = spiral
    train = plan.jobs[0]
    found = points(store, train.job_id, "plane/")
    (row,) = store.read_rows(train.job_id)
    given, true = (found[train.job_id, f"plane/{name}"] for name in ("given", "true"))
    assert len(given) == 500
    assert sum(given[step] != true[step] for step in given) / 500 == pytest.approx(row.noise_rate_measured)
    maps = points(store, train.job_id, "decision/")
    assert {name: len(values) for (_, name), values in maps.items()} == {
        "decision/x": plane.SIDE, "decision/y": plane.SIDE, "decision/class": plane.SIDE**2,
    }  # fmt: skip
    x, y, classes = (maps[train.job_id, f"decision/{name}"] for name in ("x", "y", "class"))
    assert min(x.values()) < min(found[train.job_id, "plane/x"].values()) < max(x.values())
    assert set(classes.values()) == {0.0, 1.0}
    heights = found[train.job_id, "plane/y"].values()
    assert math.isclose(y[plane.SIDE - 1] - y[0], (1 + 2 * plane.MARGIN) * (max(heights) - min(heights)), rel_tol=1e-5)


@pytest.mark.slow
def test_a_family_maps_the_setting_that_the_selection_rule_chooses(spiral):
    plan, _, store = spiral
    tune = plan.jobs[1]
    rows = sorted(store.read_rows(tune.job_id), key=lambda row: row.position)
    best = max(rows, key=lambda row: (row.val_noisy_acc, -row.position))
    maps = points(store, tune.job_id, "decision/")
    assert {run_id for run_id, _ in maps} == {best.run_id}
    spectra = points(store, tune.job_id, "spectrum/")
    assert {run_id for run_id, _ in spectra} == {rows[0].run_id}


@pytest.mark.slow
def test_maps_and_spectra_are_in_no_tuning_cost(spiral):
    """Forwards of a setting: those of its phases; the map's are in `report`."""
    plan, _, store = spiral
    tune = plan.jobs[1]
    costs = points(store, tune.job_id, "cost/")
    for row in store.read_rows(tune.job_id):
        forwards = sum(costs[row.run_id, f"cost/{phase}/forwards"].get(0, 0.0) for phase in TUNING)
        assert forwards == pytest.approx(row.sample_forwards)
        assert costs[row.run_id, "cost/evaluate/forwards"][0] == row.num_val
        assert costs[row.run_id, "cost/report/forwards"][0] >= row.num_test
    best = max(store.read_rows(tune.job_id), key=lambda row: (row.val_noisy_acc, -row.position))
    reported = [costs[row.run_id, "cost/report/forwards"][0] for row in store.read_rows(tune.job_id)]
    assert costs[best.run_id, "cost/report/forwards"][0] >= min(reported) + plane.SIDE**2


def test_images_have_no_map(plan_of, tmp_path):
    plan = plan_of("experiment=demo", "trainer.epochs=1", "model.width=2", "methods=[sap,finetune]", "seeds=[1]").plan
    folders = SweepPaths(tmp_path / "data", tmp_path / "store", tmp_path / "artifacts")
    assert execute(plan.jobs[0], folders).status == "ok"
    assert not points(Store(folders.store), plan.jobs[0].job_id, "decision/")
    assert not points(Store(folders.store), plan.jobs[0].job_id, "plane/")

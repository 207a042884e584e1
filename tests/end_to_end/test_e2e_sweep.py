"""Complete sweeps through the command line, with a user's own package and configuration folder, on both backends."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from sap_core.checkpoint import load_state
from sap_core.evaluation.evaluator import Evaluator

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def swept(bench, e2e):
    """The same sweep by both backends, with separate artifacts."""
    sys.path.insert(0, str(Path(__file__).parent / "plugins"))
    from standins.data import patterns

    e2e.pictures(bench.root / "data" / "pictures", 660, 60, patterns(720, 3))
    ends = {}
    for backend in ("local", "ray"):
        ends[backend] = bench.run(
            backend,
            "experiment=standins",
            f"backend={backend}",
            "backend.workers=2",
            f"paths.artifacts={bench.root / backend / 'artifacts'}",
        )
        assert ends[backend].code == 0, ends[backend].err
    return ends


def job(bench, **wanted):
    (row,) = [row for row in bench.store("local").rows() if all(row[key] == value for key, value in wanted.items())]
    return row


def artifact(bench, row, name="model"):
    return load_state(bench.root / "local" / "artifacts" / row["job_id"] / f"{name}.safetensors")


def test_both_backends_write_equal_rows(swept, bench, e2e):
    local, ray = (e2e.comparable(bench.store(name).rows()) for name in ("local", "ray"))
    assert len(local) == len(ray) == 23  # 3 cells of 1 + 2 + 2 + 2 rows, and a warm-up and a selection
    assert local == ray
    for name in ("local", "ray"):
        bench.store(name).assert_whole()


def test_curves_are_equal_and_complete(swept, bench):
    for row in bench.store("local").rows():
        if row["job_type"] == "train":
            local, ray = (
                [(p["name"], p["step"], p["value"]) for p in bench.store(name).series(row["job_id"])] for name in ("local", "ray")
            )
            assert local == ray
            assert len([name for name, *_ in local if name == "loss"]) == (2 if row["trainer"] == "sgd" else 3)


def test_a_two_network_trainer_is_one_baseline_for_correction(swept, bench):
    baseline = job(bench, trainer="two_networks", method="vanilla")
    state = artifact(bench, baseline)
    assert state["networks"] == 2
    names = set(state["model"])
    assert {f"nets.{k}.head.weight" for k in (0, 1)} < names
    assert not torch.equal(state["model"]["nets.0.head.weight"], state["model"]["nets.1.head.weight"])
    tuned = [row for row in bench.store("local").rows() if row["baseline_id"] == baseline["job_id"] and row["method"] in ("sap", "scrub")]
    assert len(tuned) == 4
    assert all(row["status"] == "ok" and row["val_noisy_acc"] is not None and row["test_acc"] is not None for row in tuned)
    kept = [p for p in bench.store("local").series(baseline["job_id"]) if p["name"] == "kept_label_precision"]
    assert len(kept) == 3
    assert all(0 < p["value"] <= 1 for p in kept)


def test_a_chain_of_four_jobs_uses_the_tables_of_the_warmup(swept, bench):
    plan = {row["job_id"]: row for row in bench.store("local").plan() if row["trainer"] == "remembering"}
    tuned = next(row for row in plan.values() if row["method"] == "sap")
    trained = plan[tuned["parents"]]
    select = plan[trained["parents"]]
    warm = plan[select["parents"]]
    assert [row["job_type"] for row in (warm, select, trained, tuned)] == ["train", "select", "train", "tune"]
    assert warm["parents"] == ""
    memory = artifact(bench, warm)["per_sample"]["memory"]
    assert memory.shape == (160,)
    assert int(memory.isfinite().sum()) == 120  # the validation samples are never seen
    kept = artifact(bench, select, "selection")["index"]
    assert len(kept) == 60
    seen = memory[memory.isfinite()]
    assert float(memory[kept].max()) <= float(seen.sort().values[59])
    rows = {row["job_id"]: row for row in bench.store("local").rows()}
    assert rows[trained["job_id"]]["num_train"] == 60
    assert rows[warm["job_id"]]["num_train"] == 120
    assert rows[select["job_id"]]["trusted_label_precision"] > 1 - rows[warm["job_id"]]["noise_rate_measured"]
    again = artifact(bench, trained)["per_sample"]["memory"]
    assert set(torch.nonzero(again.isfinite()).flatten().tolist()) == set(kept.tolist())


def test_a_diverged_setting_is_a_final_row(swept, bench):
    rows = [row for row in bench.store("local").rows() if row["method"] == "goes_wrong"]
    assert [row["status"] for row in sorted(rows, key=lambda row: row["position"])] == ["ok"] * 3 + ["failed"] * 3
    failed = [row for row in rows if row["status"] == "failed"]
    assert {row["error_type"] for row in failed} == {"diverged"}
    assert all("not finite" in row["error"] and row["val_noisy_acc"] is None for row in failed)
    assert all(path.name.endswith(".ok.parquet") for path in bench.store("local").files())


def test_a_folder_of_images_is_read_batch_by_batch(swept, bench):
    fetched = [int(line) for line in (bench.root / "data" / "pictures" / "fetches").read_text().split()]
    batch = Evaluator.__init__.__defaults__[0]
    assert max(fetched) <= batch < 600
    row = job(bench, dataset="pictures", method="vanilla")
    assert (row["num_train"], row["num_val"], row["num_test"]) == (600, 60, 60)
    assert fetched.count(64) >= 2 * 2 * 9  # two backends, two epochs


def test_a_regression_is_trained_and_corrected(bench):
    end = bench.run("numbers", "experiment=numbers")
    assert end.code == 0, end.err
    everything = sorted(bench.store("numbers").rows(), key=lambda row: (row["job_type"] != "train", row["position"]))
    rows, noisy = ([row for row in everything if row["noise"] == noise] for noise in ("none", "sign_flip"))
    assert [row["method"] for row in rows] == [row["method"] for row in noisy] == ["vanilla", "sap", "sap"]
    for row in rows:
        assert row["status"] == "ok"
        assert row["val_noisy_acc"] is row["test_acc"] is row["train_acc"] is row["mislabelled_given_acc"] is None
        assert row["val_noisy_r2"] == row["val_clean_r2"] != row["test_r2"]
    vanilla, mild, strong = (row["test_r2"] for row in rows)
    assert vanilla > 0.8
    assert vanilla - 0.05 < mild != strong
    assert all(row["num_trusted"] == 60 for row in rows[1:])
    assert all(row["status"] == "ok" and row["noise_rate_measured"] == pytest.approx(0.2, abs=0.05) for row in noisy)
    prl = noisy[0]
    assert prl["trainer"] == "prl_l"
    right = {
        point["step"]: point["value"] for point in bench.store("numbers").series(prl["job_id"]) if point["name"] == "kept_label_precision"
    }
    assert right[1] == pytest.approx(1 - prl["noise_rate_measured"])  # nothing is left out yet
    assert right[30] > right[1] + 0.1
    assert prl["val_noisy_r2"] < prl["val_clean_r2"]
    assert prl["test_r2"] > 0.6  # of mirrored targets, squared error would learn a line that is a third too flat

"""timing=exclusive: the choice of jobs, and the stored measurements."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from sap_core.cost import TUNING
from sweeper.__main__ import main
from sweeper.backends.exclusive_timing import choose_jobs
from sweeper.store.store import Store


def jobs(make_job, **searches):
    """For each search, by its name, jobs with the given forecasts."""
    return [
        make_job(f"{method}{number}", method=method, space="s", forecast_flops=flops)
        for method, forecasts in searches.items()
        for number, flops in enumerate(forecasts)
    ]


def ids(found):
    return [job.job_id for job in found]


def test_three_jobs_of_each_search_are_chosen_evenly(make_job):
    found = choose_jobs(jobs(make_job, sap=[1.0] * 9, ssd=[1.0, 1.0], scrub=[1.0] * 60))
    assert ids(found) == ["sap0", "sap4", "sap8", "ssd0", "ssd1", "scrub0", "scrub29", "scrub59"]
    assert choose_jobs([]) == []


def test_one_job_of_each_search_is_chosen_and_at_most_a_quarter_of_the_plan(make_job):
    found = choose_jobs(jobs(make_job, retrain=[60.0, 60.0], sap=[1.0, 1.0, 1.0]))
    assert ids(found) == ["retrain0", "sap0"]
    found = choose_jobs(jobs(make_job, retrain=[10.0, 10.0, 10.0], sap=[1.0] * 30))
    assert ids(found) == ["retrain0", "sap0", "sap14", "sap29"], "a second retraining would be 20 of 60; the small ones still fit"


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A complete store of two seeds, and the arguments of its command."""
    root = tmp_path_factory.mktemp("exclusive")
    words = [
        "experiment=demo", "methods=[sap,finetune]", "seeds=[1,2]", "trainer.epochs=2", "model.width=2", "backend=local",
        "backend.workers=2", f"paths.results={root}/store", f"paths.artifacts={root}/artifacts",
    ]  # fmt: skip
    assert main(words) == 0
    return root, words


def lines(store):
    return {path.stem: pq.read_table(path).to_pylist() for path in store.timing.glob("[!.]*.parquet")}


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


@pytest.mark.slow
def test_a_complete_store_is_measured_once_and_its_rows_are_unchanged(swept, capsys):
    root, words = swept
    store = Store(root / "store")
    rows, artifacts = stamps(store.rows), stamps(root / "artifacts")
    assert not store.timing.exists(), "not unless asked for"
    assert main([*words, "timing=exclusive"]) == 0
    said = capsys.readouterr().err
    found = lines(store)
    assert f"measuring {len(found)} jobs exclusively" in said
    assert {line["method"] for mine in found.values() for line in mine} == {"vanilla", "sap", "finetune"}
    for job_id, mine in found.items():
        old = store.read_rows(job_id)
        phases = [line["phase"] for line in mine]
        assert (phases[0], phases[-1]) == ("all", "report")
        assert all(line["seconds"] > 0 and line["exclusive_seconds"] > 0 for line in mine)
        assert {line["jobs_on_device"] for line in mine} == {old[0].jobs_on_device} == {2}
        assert mine[0]["seconds"] == pytest.approx(sum(row.tuning_seconds for row in old))
        for column in ("seconds", "exclusive_seconds"):
            assert sum(line[column] for line in mine if line["phase"] in TUNING) == pytest.approx(mine[0][column])
    assert (stamps(store.rows), stamps(root / "artifacts")) == (rows, artifacts)
    assert not list(store.root.glob(".timing-*"))

    before = stamps(store.timing)
    assert main([*words, "timing=exclusive"]) == 0
    assert "all chosen jobs have been measured exclusively" in capsys.readouterr().err
    assert stamps(store.timing) == before


@pytest.mark.slow
def test_a_baseline_is_retrained_and_jobs_without_their_baseline_are_skipped(swept, capsys):
    root, words = swept
    store = Store(root / "store")
    for path in store.timing.glob("*.parquet"):
        path.unlink()
    baselines = [row for path in store.rows.iterdir() for row in store.read_rows(path.name.split(".")[0]) if row.job_type == "train"]
    for row in baselines:
        (root / "artifacts" / row.job_id).rename(root / f"away-{row.job_id}")
    try:
        assert main([*words, "timing=exclusive"]) == 0
        trained = {job_id for job_id, mine in lines(store).items() if mine[0]["method"] == "vanilla"}
        assert trained, "a baseline needs no artifact: it is trained again, into a folder that is thrown away"
        assert set(lines(store)) > trained, "and what stands on it reads it there"
        for job_id in set(lines(store)) - trained:
            (store.timing / f"{job_id}.parquet").unlink()
        capsys.readouterr()
        assert main([*words, "timing=exclusive"]) == 0
    finally:
        for row in baselines:
            (root / f"away-{row.job_id}").rename(root / "artifacts" / row.job_id)
    assert "is not measured exclusively: the artifact of its parent" in capsys.readouterr().err
    assert set(lines(store)) == trained


def test_a_cluster_and_this_machine_are_not_compared(capsys, tmp_path):
    words = ["experiment=demo", "timing=exclusive", "backend.address=10.0.0.1:6379", f"paths.results={tmp_path}/store"]
    assert main(words) == 2
    assert "timing=exclusive measures on this machine, but jobs of backend.address=10.0.0.1:6379" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["timing=exlusive", "order=shortest"])
def test_unknown_choices_are_refused(capsys, tmp_path, word):
    assert main(["experiment=demo", word, f"paths.results={tmp_path}/store"]) == 2
    said = capsys.readouterr().err
    assert f"unknown {word.split('=')[0]} '{word.split('=')[1]}'" in said
    assert list(tmp_path.iterdir()) == []

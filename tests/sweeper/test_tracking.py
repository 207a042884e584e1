"""The mirror: what it tells W&B, one identity over restarts, and a sweep that W&B cannot touch."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from sap_core.records import Planned, Point
from sweeper import tracking as module
from sweeper.__main__ import main
from sweeper.config import compose_all
from sweeper.schema import Tracking
from sweeper.store import Store, write_records
from sweeper.tracking import Follower, Mirror, job_as_run, noted, scrubbed, start

KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def store(tmp_path, make_job):
    """A baseline with a curve and a family of three settings, one of them diverged."""
    store = Store(tmp_path / "demo")
    store.logs.mkdir(parents=True)
    jobs = [make_job("aa", kind="train", method="vanilla", space=None), make_job("bb", runs=3)]
    lines = []
    for job in jobs:
        for run in job.runs:
            names = ("dataset", "noise", "noise_rate", "network", "trainer", "method", "space", "space_hash", "seed", "baseline_id")
            lines.append(
                Planned(
                    run_id=run.run_id, job_id=job.job_id, kind=job.kind, parents="", cell="c", position=run.position, settings="{}",
                    distinct=0, forecast_flops=1.0, **{name: job.labels[name] for name in names},
                )
            )  # fmt: skip
    write_records(store.plan, lines, Planned)
    store.write_rows([jobs[0].row(jobs[0].runs[0], val_noisy_acc=0.5, test_acc=0.75, train_acc=1.0, shared_seconds=4.0)])
    points = [Point("aa", "aa-0", "loss", step, 1.0 / step) for step in (2, 1)]
    store.write_series("aa", [*points, Point("aa", "aa-0", "cost/train/seconds", 0, 4.0), Point("aa", "aa-0", "given_acc", 2, 0.9)])
    scores = [
        {"val_noisy_acc": 0.6, "test_acc": 0.9},
        {"val_noisy_acc": 0.7, "test_acc": 0.8},
        {"status": "failed", "error_kind": "diverged"},
    ]
    store.write_rows([jobs[1].row(run, shared_seconds=1.0, **score) for run, score in zip(jobs[1].runs, scores, strict=True)])
    return store


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A wandb of this test's in the mirror's process; fake("hangs") sets how it behaves; fake.told() is what it was told."""
    folder = tmp_path / "fake"
    folder.mkdir()
    shutil.copy(Path(__file__).parent / "fake_wandb.py", folder / "wandb.py")
    log = tmp_path / "told.jsonl"
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("FAKE_WANDB_LOG", str(log))
    monkeypatch.setenv("SECRET_OF_THIS_TEST", KEY)
    monkeypatch.setenv("WANDB_API_KEY", KEY)

    def behave(how):
        monkeypatch.setenv("FAKE_WANDB", how)

    behave.told = lambda: [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return behave


def mirrored(store, folder, **settings):
    """Runs the mirror on a finished store; its exit code."""
    tracking = Tracking(**{"name": "wandb", "timeout_seconds": 60.0} | settings)
    return start(tracking, store.root, folder, subprocess.DEVNULL).wait(120)


def test_a_job_is_a_run(store):
    train = job_as_run(store.read_rows("aa"), store.read_series("aa"))
    assert (train["id"], train["group"], train["type"]) == ("demo-aa", "demo", "train")
    assert train["name"] == "vanilla digits symmetric 0.25 small_cnn sgd seed 1"
    assert train["curves"] == [(1, {"loss": 1.0}), (2, {"loss": 0.5, "given_acc": 0.9})]
    assert train["summary"] == {
        "val_noisy_acc": 0.5, "test_acc": 0.75, "train_acc": 1.0, "num_rows": 1, "num_failed": 0, "seconds": 4.0,
    }  # fmt: skip
    tune = job_as_run(store.read_rows("bb"), [])
    assert tune["config"]["method"] == "sap"
    assert tune["summary"] == {"val_noisy_acc": 0.7, "num_rows": 3, "num_failed": 1, "seconds": 3.0}, "no test score is chosen"
    assert [line[module._COLUMNS.index("test_acc")] for line in tune["table"]] == [0.9, 0.8, None]


def test_smoke_runs_have_names_of_their_own(make_job):
    job = make_job("aa", debug="smoke")
    assert job_as_run([job.row(job.runs[0])], [])["id"] == "demo-smoke-aa"


def test_secrets_are_scrubbed():
    environment = {"WANDB_API_KEY": KEY, "MY_token": "hunter22", "HOME": "/root", "EMPTY_KEY": ""}
    assert scrubbed(f"key {KEY}\nand hunter22 in /root", environment) == "key *** and *** in /root"


@pytest.mark.slow
def test_jobs_and_tables_are_told_and_a_restart_tells_only_what_is_new(store, fake, tmp_path, make_job, capsys):
    assert mirrored(store, tmp_path / "t" / "demo") == 0
    told = fake.told()
    begun = [entry for entry in told if entry["call"] == "init"]
    assert [entry["id"] for entry in begun] == ["demo-aa", "demo-bb", "demo-summary"] or begun[0]["id"] == "demo-bb"
    assert {entry["mode"] for entry in begun} == {"offline"}
    assert {entry["resume"] for entry in begun} == {"allow"}
    assert {entry["key"] for entry in begun} == {None}, "offline needs no key, so the mirror has none"
    assert [(entry["step"], entry["values"]) for entry in told if entry.get("step")] == [
        (1, {"loss": 1.0}),
        (2, {"given_acc": 0.9, "loss": 0.5}),
    ]
    assert any(name.startswith("tables/") for entry in told if entry["call"] == "log" for name in entry["values"])
    assert main(["track", str(store.root), f"folder={tmp_path}/t", "timeout_seconds=60"]) == 0
    assert len(fake.told()) == len(told), "nothing is new"
    assert "2 of 2 jobs are mirrored" in capsys.readouterr().out
    job = make_job("cc")
    store.write_rows([job.row(job.runs[0], status="failed", error_kind="oom", error="boom")])
    assert mirrored(store, tmp_path / "t" / "demo") == 0
    store.write_rows([job.row(job.runs[0], val_noisy_acc=0.5)])
    assert mirrored(store, tmp_path / "t" / "demo") == 0
    ids = [entry["id"] for entry in fake.told()[len(told) :] if entry["call"] == "init"]
    assert ids == ["demo-cc", "demo-summary", "demo-cc", "demo-summary"], "the second try continues the run of the first"
    assert noted(tmp_path / "t" / "demo")["cc"] == "ok"


def test_one_that_raises_gives_up_and_its_log_has_no_key(store, fake, tmp_path, make_job):
    fake("raises")
    for name in ("cc", "dd"):
        job = make_job(name)
        store.write_rows([job.row(job.runs[0])])
    assert mirrored(store, tmp_path / "t") == 1
    log = (store.logs / "tracking.log").read_text()
    assert log.count("was not mirrored: RuntimeError: bad key ***") == 3
    assert "gives up after 3 failures" in log
    assert noted(tmp_path / "t") == {}
    fake("works")
    assert mirrored(store, tmp_path / "t") == 0
    assert set(noted(tmp_path / "t")) == {"aa", "bb", "cc", "dd", "summary"}


def test_one_that_hangs_ends_itself(store, fake, tmp_path):
    fake("hangs")
    assert mirrored(store, tmp_path / "t", timeout_seconds=1.0) == module.HUNG
    assert "not mirrored within 1 s (tracking.timeout_seconds)" in (store.logs / "tracking.log").read_text()


def test_the_driver_ends_a_mirror_that_is_not_done_in_time(store, tmp_path, monkeypatch, capsys):
    """Even one that cannot run its own watchdog."""

    def sleeper(*_):
        return subprocess.Popen(["sleep", "600"], stdin=subprocess.PIPE, start_new_session=True)

    monkeypatch.setattr(module, "start", sleeper)
    with Mirror(Tracking("wandb", timeout_seconds=0.2), store.root, tmp_path / "t") as mirror:
        pass
    assert mirror._process.poll() is not None
    assert "was not done in time and was ended; `sap-sweep track" in capsys.readouterr().err


def test_one_that_cannot_start_is_said(store, tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(module, "start", refuse)
    with Mirror(Tracking("wandb"), store.root, tmp_path / "t"):
        pass
    assert "could not be started (Cannot allocate memory); the sweep goes on" in capsys.readouterr().err


def test_two_mirrors_do_not_tell_everything_twice(store, tmp_path):
    first, second = (Follower(Tracking("wandb"), store, tmp_path / "t") for _ in range(2))
    with first.alone() as mine, second.alone() as also:
        assert (mine, also) == (True, False)


def test_notes_that_a_kill_has_cut_short_are_passed_over(tmp_path):
    (tmp_path / "mirrored.jsonl").write_text('{"job": "aa", "status": "ok"}\n[]\n{"job": "bb", "sta')
    assert noted(tmp_path) == {"aa": "ok"}


def test_a_mirror_follows_a_running_sweep(store, tmp_path, monkeypatch):
    """It tells a job that ends while it runs, and ends when the driver says so."""
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.01)
    follower = Follower(Tracking("wandb"), store, tmp_path)
    told, ending = [], threading.Event()
    monkeypatch.setattr(follower, "_job", told.append)
    monkeypatch.setattr(follower, "_summary", lambda: told.append("summary"))
    thread = threading.Thread(target=follower.run, args=(ending,))
    thread.start()
    deadline = time.monotonic() + 60
    while len(told) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(told) == ["aa", "bb"]
    ending.set()
    thread.join(60)
    assert told[2:] == ["summary"]


SWEEP = ["experiment=demo", "methods=[sap]", "seeds=[1]", "trainer.epochs=2", "backend=local", "backend.workers=1"]


@pytest.mark.slow
def test_a_sweep_is_not_touched_by_wandb(fake, tmp_path, capsys):
    fake("hangs")
    places = [f"paths.results={tmp_path}/r/demo", f"paths.artifacts={tmp_path}/artifacts", f"tracking.folder={tmp_path}/t"]
    assert main([*SWEEP, *places, "tracking=wandb", "tracking.timeout_seconds=3"]) == 0
    assert "tracking: the mirror" in capsys.readouterr().err
    assert len(Store(tmp_path / "r/demo").statuses()) == 2
    for path in (tmp_path / "r").rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


@pytest.mark.slow
def test_real_wandb_offline(tmp_path, monkeypatch, capsys):
    """A sweep with the real thing: one offline run per job and one of tables, no key anywhere; a second start runs and tells nothing."""
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    places = [f"paths.results={tmp_path}/r/demo", f"paths.artifacts={tmp_path}/artifacts", f"tracking.folder={tmp_path}/t"]
    words = [*SWEEP, *places, "tracking=wandb"]
    assert main(words) == 0
    jobs = set(Store(tmp_path / "r/demo").statuses())
    runs = sorted(path.name.split("-", 3)[3] for path in (tmp_path / "t/demo/wandb").glob("offline-run-*"))
    assert runs == sorted([*(f"demo-{job_id}" for job_id in jobs), "demo-summary"])
    tables = [path.name for path in (tmp_path / "t/demo/wandb").rglob("*.table.json")]
    assert sum(name.startswith("rows_") for name in tables) == 2
    assert any("table" in name and not name.startswith("rows_") for name in tables)
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path
    capsys.readouterr()
    assert main(words) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert len(list((tmp_path / "t/demo/wandb").glob("offline-run-*"))) == len(jobs) + 1


def test_tracking_changes_no_id_and_no_key_of_the_plan(plan_of):
    from sweeper.planning import plan_key

    words = ("experiment=demo", "methods=[sap]")
    plain, told = plan_of(*words), plan_of(*words, "tracking=wandb", "tracking.project=mine")
    assert plain.plan == told.plan
    assert plan_key(plain.composed) == plan_key(told.composed)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["experiment=demo", "tracking=mlflow"], "unknown tracking 'mlflow'; allowed: none, wandb"),
        (
            ["experiment=demo", "tracking=wandb", "tracking.mode=live"],
            "unknown mode 'live' in tracking (did you mean 'online'?); allowed: offline, online",
        ),
        (["experiment=demo", "tracking.timeout_seconds=0"], "tracking.timeout_seconds=0 must be above 0"),
        (["experiment=demo", "tracking.project=a/b"], "tracking.project='a/b' must be a name of letters"),
        (["experiment=demo", f"tracking.api_key={KEY}"], "unknown key 'api_key' in tracking"),
        (["track"], "sap-sweep track needs a store"),
        (["track", "conf"], "'conf' is no store"),
    ],
)
def test_mistakes(capsys, words, said):
    assert main(words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert KEY not in err


def test_a_mistake_beside_a_store_shows_no_value(capsys, store):
    assert main(["track", str(store.root), f"api_key={KEY}"]) == 2
    err = capsys.readouterr().err
    assert "does not take api_key so" in err
    assert KEY not in err


def test_the_shipped_choice_is_none():
    assert compose_all(["experiment=demo"]).config.tracking.name == "none"

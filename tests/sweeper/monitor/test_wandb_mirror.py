"""The W&B mirror: its content, each job once despite restarts, no secret in any file, and no effect of W&B on the sweep."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sap_core.records import Planned, Point
from sweeper.__main__ import main
from sweeper.commands.track import settings_for
from sweeper.config.compose import compose_all
from sweeper.config.schema import TrackingConfig
from sweeper.monitor.wandb_mirror import folder_of, job_run, mirrored, mirroring
from sweeper.store.credentials import redact, secrets
from sweeper.store.store import Store, write_records

KEY = "0123456789abcdef0123456789abcdef01234567"
HOME = Path(__file__).parents[3]
SWEEP = ["experiment=demo", "methods=[sap]", "seeds=[1]", "trainer.epochs=2", "backend=local", "backend.workers=1", "tracking=wandb"]


@pytest.fixture
def store(tmp_path, make_job):
    """A baseline with a curve and a family of three settings, one of them diverged."""
    store = Store(tmp_path / "demo")
    store.logs.mkdir(parents=True)
    jobs = [make_job("aa", job_type="train", method="vanilla", space=None), make_job("bb", runs=3)]
    lines = []
    for job in jobs:
        for run in job.runs:
            names = ("dataset", "noise", "noise_rate", "network", "trainer", "method", "space", "space_hash", "seed", "baseline_id")
            lines.append(
                Planned(
                    run_id=run.run_id, job_id=job.job_id, job_type=job.job_type, parents="", cell="c", position=run.position, settings="{}",
                    computation_id=0, forecast_flops=1.0, **{name: job.labels[name] for name in names},
                )
            )  # fmt: skip
    write_records(store.plan, lines, Planned)
    store.write_rows([jobs[0].row(jobs[0].runs[0], val_noisy_acc=0.5, test_acc=0.75, train_acc=1.0, tuning_seconds=4.0)])
    points = [Point("aa", "aa-0", "loss", step, 1.0 / step) for step in (2, 1)]
    store.write_series("aa", [*points, Point("aa", "aa-0", "cost/train/seconds", 0, 4.0), Point("aa", "aa-0", "given_acc", 2, 0.9)])
    scores = [
        {"val_noisy_acc": 0.6, "test_acc": 0.9},
        {"val_noisy_acc": 0.7, "test_acc": 0.8},
        {"status": "failed", "error_type": "diverged"},
    ]
    store.write_rows([jobs[1].row(run, tuning_seconds=1.0, **score) for run, score in zip(jobs[1].runs, scores, strict=True)])
    return store


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A wandb of this test's in the mirror's process; fake("hangs") sets how it behaves; fake.calls() returns its calls."""
    folder = tmp_path / "fake"
    folder.mkdir()
    shutil.copy(Path(__file__).parent / "fake_wandb.py", folder / "wandb.py")
    log = tmp_path / "calls.jsonl"
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("FAKE_WANDB_LOG", str(log))
    monkeypatch.setenv("SECRET_OF_THIS_TEST", KEY)
    monkeypatch.setenv("WANDB_API_KEY", KEY)

    def behave(how):
        monkeypatch.setenv("FAKE_WANDB", how)

    behave.calls = lambda: [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return behave


def track(store, *words):
    """`sap-sweep track` in a process of its own."""
    command = [sys.executable, "-m", "sweeper", "track", str(store.root), *words]
    return subprocess.run(command, cwd=HOME, capture_output=True, text=True, timeout=120)


def places(tmp_path):
    return [f"paths.results={tmp_path}/r/demo", f"paths.artifacts={tmp_path}/artifacts"]


def ids(calls):
    return [call["id"] for call in calls if call["call"] == "init"]


def assert_no_secret(*folders):
    for path in [path for folder in folders for path in folder.rglob("*") if path.is_file()]:
        assert KEY.encode() not in path.read_bytes(), path


def test_a_job_is_a_run(store):
    train = job_run(store.read_rows("aa"), store.read_series("aa"))
    assert (train.id, train.group, train.type) == ("demo-aa", "demo", "train")
    assert train.name == "vanilla digits symmetric 0.25 small_cnn sgd seed 1"
    assert train.curves == [(1, {"loss": 1.0}), (2, {"loss": 0.5, "given_acc": 0.9})]
    assert train.summary == {
        "val_noisy_acc": 0.5, "test_acc": 0.75, "train_acc": 1.0, "num_rows": 1, "num_failed": 0, "seconds": 4.0,
    }  # fmt: skip
    tune = job_run(store.read_rows("bb"), [])
    assert tune.config["method"] == "sap"
    assert tune.summary == {"val_noisy_acc": 0.7, "num_rows": 3, "num_failed": 1, "seconds": 3.0}, "no test score is chosen"
    columns, lines = tune.tables["rows"]
    assert [line[columns.index("test_acc")] for line in lines] == [0.9, 0.8, None]


def test_smoke_runs_have_names_of_their_own(make_job):
    job = make_job("aa", debug="smoke")
    assert job_run([job.row(job.runs[0])], []).id == "demo-smoke-aa"


def test_secrets_are_found_by_name_and_redacted():
    environment = {"WANDB_API_KEY": KEY, "my_token": "hunter22", "SECRET_OF_X": "12345678", "PGPASSWORD": "postgres", "HOME": "/home/user"}
    assert set(secrets(environment | {"EMPTY_KEY": "", "KEYBOARD": "qwertyuiop"})) == set(environment) - {"HOME"}
    assert redact(f"key {KEY} and hunter22 in /home/user", environment) == "key *** and *** in /home/user"


@pytest.mark.slow
def test_a_store_is_mirrored_once_and_later_only_its_new_jobs(store, fake, make_job):
    done = track(store)
    assert done.returncode == 0, done.stderr
    assert f"2 of 2 finished jobs are mirrored in {os.path.relpath(folder_of(store.root), HOME)}" in done.stdout
    calls = fake.calls()
    assert sorted(ids(calls)) == ["demo-aa", "demo-bb", "demo-summary"]
    begun = [call for call in calls if call["call"] == "init"]
    assert {(call["mode"], call["resume"], call["key"]) for call in begun} == {("offline", "allow", None)}, "offline there is no key"
    assert [(call["step"], call["values"]) for call in calls if call.get("step")] == [
        (1, {"loss": 1.0}),
        (2, {"given_acc": 0.9, "loss": 0.5}),
    ]
    assert any(name.startswith("tables/") for call in calls if call["call"] == "log" for name in call["values"])
    assert track(store).returncode == 0
    assert len(fake.calls()) == len(calls), "nothing is new"
    job = make_job("cc")
    for status in ({"status": "failed", "error_type": "oom", "error": "boom"}, {"val_noisy_acc": 0.5}):
        store.write_rows([job.row(job.runs[0], **status)])
        assert track(store).returncode == 0
    assert ids(fake.calls()[len(calls) :]) == ["demo-cc", "demo-summary"] * 2, "the second attempt continues the run of the first"
    assert mirrored(store.root)["cc"] == "ok"
    assert not list(store.logs.iterdir()), "the store is only read"


@pytest.mark.parametrize(
    ("how", "words", "said"),
    [
        ("raises", ["mode=online"], "was not mirrored: RuntimeError: bad key ***"),
        ("hangs", ["timeout_seconds=1"], "Timeout (0:00:01)!"),
        ("crashes", [], ""),
    ],
)
def test_a_failure_of_wandb_ends_the_mirror_and_the_next_call_mirrors_the_remaining_jobs(store, fake, how, words, said):
    fake(how)
    done = track(store, *words)
    assert done.returncode != 0
    assert said in done.stderr
    assert KEY not in done.stdout + done.stderr
    assert mirrored(store.root) == {}
    fake("works")
    assert track(store).returncode == 0
    assert set(mirrored(store.root)) == {"aa", "bb", "summary"}
    assert_no_secret(store.root, folder_of(store.root))


def test_a_job_that_ends_during_the_sweep_is_mirrored_and_a_second_mirror_waits(store, fake, make_job):
    seen = threading.Event()

    def watch():
        while not seen.is_set() and len(mirrored(store.root)) < 2:
            seen.wait(0.05)
        seen.set()

    with mirroring(TrackingConfig("wandb"), store.root), mirroring(TrackingConfig("wandb"), store.root):
        threading.Thread(target=watch, daemon=True).start()
        assert seen.wait(120)
        assert sorted(ids(fake.calls())) == ["demo-aa", "demo-bb"], "the tables come at the end"
        job = make_job("cc")
        store.write_rows([job.row(job.runs[0], val_noisy_acc=0.5)])
    assert sorted(ids(fake.calls())) == ["demo-aa", "demo-bb", "demo-cc", "demo-summary"], "each once, though there are two mirrors"


@pytest.mark.parametrize("how", ["hangs", "crashes", "raises"])
def test_a_sweep_continues_whatever_wandb_does(store, fake, how, capfd):
    """The block is not disturbed, the wait after it is bounded, and the mirror and its children have ended."""
    fake(how)
    with mirroring(TrackingConfig("wandb", timeout_seconds=5.0), store.root):
        pass
    printed = capfd.readouterr()
    assert printed.err.startswith(f"tracking: not every job was mirrored, see {folder_of(store.root)}/mirror.log; `sap-sweep track ")
    assert printed.err.count("\n") == 1
    assert_no_secret(store.root, folder_of(store.root))


def test_an_interrupt_of_the_sweep_is_reraised_at_once(store, fake):
    fake("hangs")
    with pytest.raises(KeyboardInterrupt), mirroring(TrackingConfig("wandb", timeout_seconds=600.0), store.root):
        raise KeyboardInterrupt


def test_a_mirror_that_cannot_start_is_a_warning(store, capsys):
    folder_of(store.root).parent.write_text("a file in place of the folder")
    with mirroring(TrackingConfig("wandb"), store.root):
        pass
    assert "the W&B mirror could not be started (" in capsys.readouterr().err


def test_a_truncated_line_is_skipped(store):
    folder_of(store.root).mkdir(parents=True)
    (folder_of(store.root) / "mirrored.jsonl").write_text('{"job": "aa", "status": "ok"}\n[]\n{"job": "bb", "sta')
    assert mirrored(store.root) == {"aa": "ok"}


@pytest.mark.slow
def test_the_results_of_a_sweep_do_not_depend_on_wandb(fake, tmp_path, capfd):
    fake("hangs")
    assert main([*SWEEP, *places(tmp_path), "tracking.timeout_seconds=3"]) == 0
    assert "tracking: not every job was mirrored" in capfd.readouterr().err
    assert len(Store(tmp_path / "r/demo").statuses()) == 2
    assert_no_secret(tmp_path / "r")


@pytest.mark.slow
def test_real_wandb_offline(tmp_path, monkeypatch, capsys):
    """One offline run per job and one of tables, no key in any file; a second start mirrors nothing."""
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    words = [*SWEEP, *places(tmp_path)]
    assert main(words) == 0
    jobs, folder = set(Store(tmp_path / "r/demo").statuses()), folder_of(tmp_path / "r/demo") / "wandb"
    runs = sorted(path.name.split("-", 3)[3] for path in folder.glob("offline-run-*"))
    assert runs == sorted([*(f"demo-{job_id}" for job_id in jobs), "demo-summary"])
    tables = [path.name for path in folder.rglob("*.table.json")]
    assert sum(name.startswith("rows_") for name in tables) == 2
    assert any("table" in name and not name.startswith("rows_") for name in tables)
    assert_no_secret(tmp_path)
    capsys.readouterr()
    assert main(words) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert len(list(folder.glob("offline-run-*"))) == len(jobs) + 1


def test_tracking_changes_no_id_and_no_key_of_the_plan(plan_of):
    from sweeper.plan.build import plan_key

    words = ("experiment=demo", "methods=[sap]")
    plain, tracked = plan_of(*words), plan_of(*words, "tracking=wandb", "tracking.project=mine")
    assert plain.plan == tracked.plan
    assert plan_key(plain.composed) == plan_key(tracked.composed)


def test_settings_are_the_sweeps_and_those_of_the_command_line(store):
    (store.root / "config.yaml").write_text("tracking: {name: none, project: noisy, mode: online, another: 1}")
    assert settings_for(store.root, {"mode": "offline", "timeout_seconds": "9", "entity": "null"}) == TrackingConfig(
        "wandb", "noisy", None, "offline", 9.0
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["experiment=demo", "tracking=mlflow"], "unknown tracking 'mlflow'; allowed: none, wandb"),
        (["experiment=demo", "tracking.mode=live"], "unknown mode 'live' in tracking (did you mean 'online'?); allowed: offline, online"),
        (["experiment=demo", "tracking.timeout_seconds=0"], "tracking.timeout_seconds=0 must be above 0"),
        (["experiment=demo", "tracking.project=a/b"], "tracking.project='a/b' must consist of letters"),
        (["experiment=demo", f"tracking.api_key={KEY}"], "unknown key 'api_key' in tracking"),
        (["track"], "the following arguments are required: STORE"),
        (["track", "conf"], "'conf' is not a store"),
        (["track", "STORE", f"api_key={KEY}"], "unknown key 'api_key' in sap-sweep track"),
        (["track", "STORE", "mode=live"], "unknown mode 'live' in tracking"),
        (["track", "STORE", "timeout_seconds=soon"], "timeout_seconds=soon is not a number"),
    ],
)  # fmt: skip
def test_mistakes(capsys, store, words, said):
    assert main([str(store.root) if word == "STORE" else word for word in words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert KEY not in err


def test_the_shipped_choice_is_none():
    assert compose_all(["experiment=demo"]).config.tracking.name == "none"

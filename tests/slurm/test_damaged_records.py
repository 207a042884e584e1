"""Jobs of a store whose records are missing or damaged, and records that another program has written."""

from __future__ import annotations

import json
import os
import re

import pytest

from analysis.store.job_counts import Counts
from sap_core.errors import StorageError
from sap_core.files import save_json
from slurm.__main__ import main
from slurm.attempt import Attempts, path_of, progress_of, read, read_all
from slurm.failures import failed_nodes, last_sentence
from slurm.submission import FOLDER, Submission, belongs, comment, new_tag, save, store_ids, submissions, unreadable
from sweeper.monitor.job_counts import SweepCounts

FIELDS = {
    "job": "150", "cluster": "toy", "cluster_file": "mine", "mode": "array", "tasks": 2, "gpus": 0, "nodes": 1, "partition": None,
    "time": "1:00:00", "submitted_at": 1.0, "commit": "abc", "plan": "jobs.jsonl", "arguments": [], "flops_before": 0.0,
    "user": os.geteuid(),
}  # fmt: skip


@pytest.fixture
def slurm(fake_slurm):
    return fake_slurm


@pytest.fixture
def store(tmp_path):
    folder = tmp_path / "my results"
    (folder / "rows").mkdir(parents=True)
    return folder


@pytest.fixture
def run(store, monkeypatch, capsys):
    """(exit code, both outputs) of a command; two of three jobs of the sweep are to do."""
    monkeypatch.setattr("sweeper.monitor.job_counts.sweep_counts", lambda of: SweepCounts((Counts("train", 3, done=1),), 3.0, 1.0))

    def run(*words):
        code = main([words[0], str(store), *words[1:]])
        return code, "".join(capsys.readouterr())

    return run


def recorded(store, **more):
    one = Submission(**{**FIELDS, "tag": new_tag(store), **more})
    save(store, one)
    return one


DAMAGE = {
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "bit": lambda text: text.replace('"150"', '"151"'),
    "list": lambda text: "[]",
    "type": lambda text: json.dumps({**FIELDS, "tag": "", "submitted_at": None}),
    "version": lambda text: json.dumps({**FIELDS, "tag": "", "colour": "red"}),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_the_jobs_of_a_damaged_record_are_unknown_or_found_by_their_tag(run, slurm, store, damage):
    one = recorded(store)
    path = store / FOLDER / f"{one.tag}.json"
    path.write_text(damage(path.read_text()))
    code, output = run("status")
    assert code == 1
    assert f"unknown: {path} cannot be read" in output
    assert not re.search("sap-slurm submit|no batch job of this sweep is queued|no submissions", output)
    slurm.queue(slurm.line("150_0", comment=comment(one.tag)), slurm.line("151_0", "thesis"))
    code, output = run("status")
    assert code == 0
    assert "running: 150_0" in output
    assert "151" not in output
    assert run("cancel")[0] == 0
    assert slurm.calls("scancel") == ["scancel 150"]


def test_a_folder_of_records_that_cannot_be_read_is_unknown(run, slurm, store):
    (store / "slurm").mkdir()
    (store / FOLDER).write_text("")
    code, output = run("status")
    assert code == 1
    assert f"unknown: {store / FOLDER} cannot be read (Not a directory)" in output
    assert "sap-slurm submit" not in output


def test_a_printed_script_is_known_before_its_job_starts_and_when_it_is_submitted_twice(run, slurm, store):
    tag = new_tag(store, write=False)
    slurm.queue(*(slurm.line(job, f"sap-x-{tag}", comment(tag), "PENDING", "Priority") for job in ("150_0", "150_1", "160_0")))
    output = run("status")[1]
    assert "pending: 3 tasks or jobs" in output
    assert "no submissions" not in output
    recorded(store, tag=tag, job="160")
    assert run("cancel")[0] == 0
    assert slurm.calls("scancel") == ["scancel 160 150"] or slurm.calls("scancel") == ["scancel 150 160"]


def test_a_request_that_was_repeated_and_accepted_twice_is_two_jobs(run, slurm, store):
    one = recorded(store, job="")
    slurm.queue(slurm.line("150_0", comment=comment(one.tag)), slurm.line("151_0", comment=comment(one.tag)))
    assert "running: 150_0" in run("status")[1]
    assert "running: 151_0" in run("status")[1]
    run("cancel")
    assert set(slurm.calls("scancel")[0].split()) == {"scancel", "150", "151"}


@pytest.mark.parametrize(
    ("tag", "name"), [("e-1", "sap-space-12"), ("0a1b2c3d-4e5f6a7b", "x-0a1b2c3d-4e5f6a7b9"), ("0a1b2c3d-4e5f6a7b", "f0a1b2c3d-4e5f6a7b")]
)
def test_a_part_of_a_name_is_no_tag(tag, name):
    one = Submission(**{**FIELDS, "job": "", "tag": tag})
    assert not belongs(one, "150", name, "")
    assert belongs(one, "150", f"sap-x-{tag}", "") is (len(tag) == 17)


def test_an_id_that_is_no_id_is_not_used(store):
    new_tag(store)
    path = store / "slurm/store.json"
    known = json.loads(path.read_text())
    save_json(path, {"id": "../../x", "place": known["place"]})
    assert re.fullmatch(r"[0-9a-f]+-[0-9a-f]+", new_tag(store))
    assert all(re.fullmatch(r"[0-9a-f]+", one) for one in store_ids(store))


def test_a_folder_at_the_place_of_one_that_was_moved_has_no_claim(run, slurm, store):
    new_tag(store)
    moved = store.rename(store.parent / "moved")
    (store / "rows").mkdir(parents=True)
    slurm.queue(slurm.line("150_0", comment=comment(new_tag(moved))))
    assert "no submissions recorded" in run("status")[1]
    run("cancel")
    assert slurm.calls("scancel") == []


@pytest.mark.parametrize("text", ["| Welcome to toy |\n+----+\n", "Maintenance on Monday | see the wiki\n"])
def test_a_banner_around_an_empty_queue_is_no_error(run, slurm, store, text):
    recorded(store)
    (slurm.folder / "queue").write_text(text)
    code, output = run("status")
    assert code == 0
    assert "no batch job of this sweep is queued" in output


def test_a_submitter_whose_account_is_gone_hides_nobody_elses_jobs(run, slurm, store):
    gone, mine = recorded(store, user=54321), recorded(store, job="160")
    slurm.says("squeue", 'case "$*" in *54321*) echo "squeue: error: Invalid user: 54321" >&2 ;; *) cat "$here/queue" ;; esac')
    slurm.queue(slurm.line("160_0", comment=comment(mine.tag)))
    code, output = run("status")
    assert code == 1
    assert "running: 160_0" in output
    assert f"unknown: job {gone.job} was submitted by user 54321, who has no account here" in output


RECORDS = {
    "spans": {"spans": "abc"}, "span": {"spans": [{}]}, "times": {"spans": [{"node": "n", "begin": "1", "end": None, "code": None}]},
    "job": {"job": "../../x"}, "number": {"job": 12}, "tag": {"tag": "../x"}, "count": {"starts": "3"}, "stopped": {"stopped": 1},
}  # fmt: skip


@pytest.mark.parametrize("values", RECORDS.values(), ids=RECORDS)
def test_damaged_records_of_starts_are_left_out(store, values):
    save_json(path_of(store, "0a-1b", "12"), {**vars(Attempts("12", "toy", "0a-1b")), **values})
    assert read(path_of(store, "0a-1b", "12")) is None
    assert read_all(store) == []


def test_bytes_that_are_no_text_and_terminal_codes_change_nothing(run, slurm, store):
    one = recorded(store)
    (store / "slurm/failed_starts").mkdir()
    (store / "slurm/failed_starts" / one.tag).write_bytes(b"n\xff7 0\n\x00")
    assert sum(failed_nodes(store, submissions(store)).values()) == 2
    (store / "logs").mkdir()
    log = store / f"logs/slurm-150_0-{one.tag}.log"
    log.write_bytes(b"error: \xff\x1b[2J\x1b]0;title\x07 broken\n")
    assert "broken" in last_sentence(log)
    for command in ("status", "logs"):
        assert "\x1b" not in run(command)[1]


def test_a_log_that_cannot_be_read_is_one_sentence(run, store, monkeypatch):
    (store / "logs/slurm-9_0.log").mkdir(parents=True)
    assert "contains no log of a batch job yet" in run("logs")[1]
    (store / "logs/slurm-8_0.log").touch()

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_text", refuse)
    code, output = run("logs")
    assert code == 2
    assert f"error: the log {store / 'logs/slurm-8_0.log'} cannot be read (Permission denied); correct its permissions" in output


@pytest.mark.parametrize("text", ["", "{", '{"job_id": "a"}\n{"job_id"', '{"blake2b": "00"}\n{"job_id": "a"}\n'])
def test_a_plan_that_cannot_be_read_is_not_complete(store, text):
    plan = store / "slurm/plan-1.jsonl"
    plan.parent.mkdir()
    (store / "rows/a.ok.parquet").touch()
    assert progress_of(plan, store, store)[1] is False
    plan.write_text(text)
    assert progress_of(plan, store, store)[1] is False


def test_a_part_of_a_sweep_that_is_done_is_not_continued(run, slurm, store):
    recorded(store)
    (store / "jobs.jsonl").write_text('{"job_id": "a"}\n')
    assert "cluster=mine continues the sweep" in run("status")[1]
    (store / "rows/a.ok.parquet").touch()
    output = run("status")[1]
    assert "continues the sweep" not in output
    assert "submit the experiment without it for the other 2 jobs" in output


def test_a_cancellation_that_cannot_be_recorded_is_sent_all_the_same(run, slurm, store, monkeypatch):
    one = recorded(store)
    slurm.queue(slurm.line("150_0", comment=comment(one.tag)))

    def refuse(path, text):
        raise StorageError("No space left on device")

    monkeypatch.setattr("slurm.submit.save_text", refuse)
    code, output = run("cancel")
    assert code == 0
    assert "the cancellation is not recorded (No space left on device)" in output
    assert "sap-slurm submit" in output
    assert "cluster=mine continues the sweep" in output
    assert slurm.calls("scancel") == ["scancel 150"]


def test_a_cluster_that_refuses_leaves_the_marks_of_another_one(run, slurm, store):
    here, there = recorded(store), recorded(store, job="160", cluster="other", via="toy", submitted_at=2.0)
    slurm.queue(slurm.line("150_0", comment=comment(here.tag)), slurm.line("160_0", comment=comment(there.tag)))
    slurm.says("scancel", 'case "$*" in *other*) exit 1 ;; esac')
    assert run("cancel")[0] == 2
    assert [path.name for path in (store / "slurm/cancelled").iterdir()] == [here.tag]


def test_records_that_are_readable_are_not_named(store):
    recorded(store)
    assert unreadable(store) == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["status", "nosuch"], "there is no folder nosuch"),
        (["cancel", "nosuch"], "there is no folder nosuch"),
        (["cancel", "."], "is not a store: it has no plan.parquet"),
        (["logs", "."], "is not a store: it has no plan.parquet"),
    ],
)
def test_a_folder_that_is_no_store_is_refused(slurm, tmp_path, monkeypatch, capsys, words, message):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert main(words) == 2
    assert message in capsys.readouterr().err

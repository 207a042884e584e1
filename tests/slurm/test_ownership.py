"""Only a job that agrees in cluster, id and tag is this sweep's; what cannot be seen is unknown, not absent."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import pytest

from analysis.store.job_counts import Counts
from sap_core.files import save_json
from slurm.__main__ import main
from slurm.attempt import Attempts, path_of
from slurm.submission import Submission, belongs, comment, is_copy, new_tag, save, submissions
from sweeper.monitor.job_counts import SweepCounts


@pytest.fixture
def slurm(fake_slurm):
    return fake_slurm


@pytest.fixture
def store(tmp_path):
    folder = tmp_path / "my results"
    folder.mkdir()
    return folder


@pytest.fixture
def run(store, monkeypatch, capsys):
    """(exit code, both outputs) of a command; two of three jobs of the sweep are to do."""
    counts = {"sweep": SweepCounts((Counts("train", 3, done=1),), 3.0, 1.0)}
    monkeypatch.setattr("sweeper.monitor.job_counts.sweep_counts", lambda of: counts["sweep"])

    def run(*words, sweep=None):
        counts["sweep"] = sweep or counts["sweep"]
        code = main([words[0], str(store), *words[1:]])
        out, err = capsys.readouterr()
        return code, out + err

    return run


def submitted(store, job="150", cluster="toy", **more):
    tag = more.pop("tag", None)
    one = Submission(
        job=job, cluster=cluster, cluster_file="mine", mode="array", tasks=2, gpus=0, nodes=1, partition=None, time="1:00:00",
        submitted_at=1.0, commit="abc", plan="jobs.jsonl", arguments=[], flops_before=0.0, tag=new_tag(store) if tag is None else tag,
        user=os.geteuid(),
    )  # fmt: skip
    one = replace(one, **more)
    save(store, one)
    return one


NO_ADVICE = ("sap-slurm submit", "submit again", "no batch job of this sweep is queued")


def test_a_job_of_the_same_number_on_another_cluster_is_left_alone(run, slurm, store):
    submitted(store)
    slurm.configure("other")
    slurm.queue(slurm.line("150", "thesis"), slurm.line("150_1", "thesis"))
    code, output = run("status")
    assert code == 1
    assert "running:" not in output
    assert "1 submission to cluster toy (job 150) cannot be seen from cluster other" in output
    assert not any(words in output for words in NO_ADVICE)
    assert run("cancel")[0] == 1
    code, output = run("cancel", "150")
    assert code == 2
    assert "nothing was cancelled" in output
    assert slurm.calls("scancel") == []
    assert not (store / "slurm/cancelled").exists()


def test_a_number_that_a_controller_used_again_is_another_job(run, slurm, store):
    one = submitted(store)
    slurm.queue(slurm.line("150", "thesis"))
    code, output = run("status")
    assert code == 0
    assert f"job 150 of cluster toy is another job: it lacks the tag {one.tag}" in output
    assert "running:" not in output
    assert "no batch job of this sweep is queued" in output
    assert run("cancel")[0] == 0
    assert run("cancel", "150")[0] == 2
    assert slurm.calls("scancel") == []


@pytest.mark.parametrize("where", ["name", "comment", "log"])
def test_the_tag_is_found_where_a_site_left_it(run, slurm, store, where):
    one = submitted(store)
    texts = {"name": (f"sap-x-{one.tag}", "rewritten"), "comment": ("rewritten", f"site; {comment(one.tag)}|x"), "log": ("a", "b")}[where]
    slurm.queue(slurm.line("150_0", *texts), slurm.line("150_1", *texts, state="PENDING", reason="Resources"), slurm.line("151", "thesis"))
    (slurm.folder / "job").write_text(f"JobId=150 StdOut=/x/logs/slurm-150_0-{one.tag}.log\n" if where == "log" else "")
    code, output = run("status")
    assert (code, "running: 150_0" in output, "pending: 150_1: Resources" in output) == (0, True, True)
    assert run("cancel")[0] == 0
    assert slurm.calls("scancel") == ["scancel 150"]
    assert [path.name for path in (store / "slurm/cancelled").iterdir()] == [one.tag]
    run("cancel", "150_1")
    assert slurm.calls("scancel")[-1] == "scancel 150_1"
    assert (store / f"slurm/cancelled/{one.tag}_1").exists()


def test_a_job_that_could_not_be_cancelled_is_not_recorded_as_cancelled(run, slurm, store):
    one = submitted(store)
    slurm.queue(slurm.line("150_0", comment=comment(one.tag)))
    slurm.says("scancel", "echo 'scancel: error: Kill job error on job id 150: Access/permission denied' >&2; exit 1")
    code, output = run("cancel")
    assert (code, "Access/permission denied" in output) == (2, True)
    assert not list((store / "slurm/cancelled").iterdir())


@pytest.mark.parametrize(
    ("program", "lines"),
    [
        ("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1"),
        ("squeue", "echo 'squeue: error: Invalid user: 0' >&2"),
        ("squeue", "echo 'slurm_load_jobs error: Socket timed out on send/recv operation'"),
        ("squeue", "exit 1"),
        ("squeue", "echo 'JOBID|what|is|this'"),
        ("scontrol", "exit 1"),
    ],
)
def test_a_queue_that_does_not_answer_is_unknown(run, slurm, store, program, lines):
    submitted(store)
    slurm.says(program, lines)
    code, output = run("status")
    assert code == 1
    assert "1 of 3 jobs done" in output
    assert "it is not known whether batch jobs of this sweep are queued" in output
    assert f"unknown: {program} " in output
    assert not any(words in output for words in NO_ADVICE)
    assert run("cancel")[0] == 2
    assert slurm.calls("scancel") == []


def test_variables_of_the_shell_change_no_answer(run, slurm, store, monkeypatch):
    one = submitted(store)
    for name in ("SQUEUE_STATES", "SQUEUE_USERS", "SQUEUE_FORMAT", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT", "SCANCEL_STATE", "SLURM_JOB_ID"):
        monkeypatch.setenv(name, "7")
    slurm.queue(slurm.line("150_0", comment=comment(one.tag)))
    assert "running: 150_0" in run("status")[1]
    run("cancel")
    assert slurm.leaked == []


def test_records_of_others_are_asked_for_with_their_user(run, slurm, store):
    one = submitted(store, user=4242)
    slurm.queue(slurm.line("150_0", comment=comment(one.tag)))
    assert "running: 150_0" in run("status")[1]
    assert f"--user={os.geteuid()},4242" in slurm.calls("squeue")[0]
    slurm.configure("toy", "PrivateData = accounts,jobs")
    code, output = run("status")
    assert (code, "were made by other users, whose jobs this cluster does not show" in output) == (1, True)


def test_a_record_without_a_tag_proves_nothing(run, slurm, store):
    submitted(store, tag="")
    slurm.queue(slurm.line("150_0"))
    code, output = run("status")
    assert (code, "running:" in output, "have no tag" in output) == (1, False, True)
    assert run("cancel")[0] == 1
    assert slurm.calls("scancel") == []


def test_a_copy_of_a_store_does_not_own_the_jobs_of_the_original(run, slurm, store, tmp_path, capsys):
    one = submitted(store)
    slurm.queue(slurm.line("150_0", comment=comment(one.tag)))
    copy = tmp_path / "copy"
    shutil.copytree(store, copy)
    assert not is_copy(store, one)
    assert is_copy(copy, one)
    assert main(["status", str(copy)]) == 0
    output = capsys.readouterr().out
    assert "of another folder, of which this one is a copy: 1 submission" in output
    assert "running:" not in output
    assert main(["cancel", str(copy)]) == 0
    assert slurm.calls("scancel") == []
    assert new_tag(copy).split("-")[0] != one.tag.split("-")[0]
    moved = store.rename(tmp_path / "moved")
    assert not is_copy(moved, one)


def test_an_answer_that_was_lost_is_adopted_when_the_job_appears(run, slurm, store):
    one = submitted(store, job="")
    output = run("status")[1]
    assert "no batch job of this sweep is queued" in output
    assert f"the answer to a submission was lost, and no job with its tag {one.tag} is in the queue" in output
    slurm.queue(slurm.line("77_0", f"sap-x-{one.tag}"))
    assert "running: 77_0" in run("status")[1]
    assert [each.job for each in submissions(store)] == ["77"]


def test_jobs_on_another_cluster_that_have_recorded_their_end_are_not_unknown(run, slurm, store):
    one = submitted(store, cluster="elsewhere")
    assert run("status")[0] == 1
    for job in ("150_0", "150_1"):
        ended = {"job": job, "tag": one.tag, "starts": 1, "spans": [{"node": "n1", "begin": 1.0, "end": 2.0, "code": 0}]}
        save_json(path_of(store, one.tag, job), ended)
    code, output = run("status")
    assert (code, "unknown:" in output) == (0, False)


def test_a_job_that_was_sent_to_another_cluster_is_asked_for_and_cancelled_there(run, slurm, store):
    one = submitted(store, cluster="big", via="toy")
    slurm.says("squeue", 'case "$*" in *--clusters=big*) echo "CLUSTER: big"; cat "$here/queue" ;; esac')
    slurm.queue(slurm.line("150_0", comment=comment(one.tag)))
    assert "running: 150_0" in run("status")[1]
    run("cancel")
    assert slurm.calls("scancel") == ["scancel --clusters=big 150"]
    slurm.says("squeue", "echo 'squeue: error: No cluster big known by database.' >&2; exit 1")
    assert run("status")[0] == 1


@pytest.mark.parametrize("state", ["REQUEUED", "SUSPENDED", "SPECIAL_EXIT", "POWER_UP_NODE", "A_STATE_OF_A_LATER_VERSION"])
def test_a_state_that_is_no_end_counts_as_queued(run, slurm, store, state):
    one = submitted(store)
    slurm.queue(slurm.line("150_0", comment=comment(one.tag), state=state, reason="Why"))
    assert "pending: 150_0: Why" in run("status")[1]


@pytest.mark.parametrize(
    ("job", "name", "text", "ours"),
    [
        ("150", "sap-x-0a-1b", "", True),
        ("150_3", "", "sap-sweep:0a-1b", True),
        ("151", "sap-x-0a-1b", "", False),
        ("150", "sap-x", "sap-sweep:0a-2c", False),
        ("1500_1", "sap-x-0a-1b", "", False),
    ],
)
def test_id_and_tag_have_to_agree(store, job, name, text, ours):
    assert belongs(submitted(store, tag="0a-1b"), job, name, text) is ours


def test_reasons_of_failures(run, slurm, store):
    one = submitted(store)
    (store / "logs").mkdir()
    texts = {"150_0": "start\nerror: backend.device=cuda finds no CUDA device\nbye\n", "150_1": "a\nslurmstepd: error: OUT_OF_MEMORY\n"}
    for job, text in texts.items():
        (store / f"logs/slurm-{job}-{one.tag}.log").write_text(text)
    slurm.queue(slurm.line("150_1", comment=comment(one.tag), state="OUT_OF_MEMORY", reason="OutOfMemory", node="n2"))
    record = Attempts("150_0", "toy", one.tag, starts=1, spans=[{"node": "n7", "begin": 1.0, "end": 2.0, "code": 2}])
    save_json(path_of(store, one.tag, "150_0"), vars(record))
    other = submitted(store, job="160")
    (store / "slurm/failed_starts").mkdir(parents=True)
    (store / f"slurm/failed_starts/{one.tag}").write_text("n3 0\nn3 1\n")
    output = run("status", sweep=SweepCounts((Counts("train", 3, done=1, failed=2, given_up=2),), 3.0, 3.0))[1]
    assert "failed: batch job 150_0: exit code 2 on n7: error: backend.device=cuda finds no CUDA device" in output
    assert "failed: batch job 150_1: OUT_OF_MEMORY (OutOfMemory) on n2: slurmstepd: error: OUT_OF_MEMORY" in output
    assert "failed: batch job 160: it left the queue without a recorded start and without a log" in output
    assert "failed: node n3: 2 starts failed at once there; requeues avoid it" in output
    assert "ETA: no job is left to run, and 2 failed" in output
    assert "retry=failed gives the failed jobs new attempts" in output
    assert f"sap-slurm submit '{store}' cluster=mine retry=failed" in output
    assert other.job in output

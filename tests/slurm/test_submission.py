"""What sbatch is given, and what follows from its answers."""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import replace

import pytest

from analysis.store.job_counts import Counts
from sap_core.errors import UserError
from slurm import plan_job
from slurm.__main__ import main
from slurm.arguments import take_retry
from slurm.array_job import ArrayChunk
from slurm.batch import Sweep
from slurm.cluster import Cluster
from slurm.command import SlurmError, clean_environment, describe_dropped
from slurm.feasibility import refuse_impossible
from slurm.sbatch import LostAnswer, ids_of
from slurm.script import script_text
from slurm.submission import is_copy, new_tag, submissions
from slurm.submit import refuse_no_arrays, submit
from sweeper.jobs.job import SweepPaths
from sweeper.plan.snapshot import Snapshot


@pytest.fixture
def slurm(fake_slurm):
    return fake_slurm


@pytest.fixture
def sweep(tmp_path):
    store = tmp_path / "my results"
    return Sweep("x", SweepPaths(store, store, store), tmp_path, "python", store / "slurm/plan-1.jsonl", ("experiment=x",))


def send(sweep, log=None, **cluster):
    return submit(Cluster(**cluster), sweep, "abc", 0.0, {"ClusterName": "toy"}, log or (lambda line: None))


FOUND = 'tag=$(cat "$here/tag"); echo "77_0|RUNNING|None|1:00|1:00|N/A|n1|sap-x|sap-sweep:$tag"'
NOTE = 'case "$*" in *--comment=*) printf %s "$*" | sed \'s/.*sap-sweep:\\([^ ]*\\).*/\\1/\' > "$here/tag" ;; esac'


def test_what_was_asked_is_what_is_submitted(slurm, sweep, monkeypatch):
    for name in ("PARTITION", "TIMELIMIT", "MEM_PER_NODE", "ARRAY_INX", "NO_REQUEUE", "OUTPUT", "EXPORT", "WAIT", "CLUSTERS", "COMMENT"):
        monkeypatch.setenv(f"SBATCH_{name}", "evil")
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_CLUSTERS", "SLURM_HINT", "SQUEUE_STATES", "SALLOC_PARTITION"):
        monkeypatch.setenv(name, "9")
    assert send(sweep, tasks=3, concurrent=2, partition="long", memory=None, sbatch=("--comment=my project",)) == ["150"]
    assert slurm.leaked == []
    (call,) = slurm.calls("sbatch")
    tag = submissions(sweep.paths.store)[0].tag
    for option in (
        f"--job-name=sap-x-{tag}", "--comment=my project", "--partition=long", "--time=04:00:00", "--array=0-2%2", "--requeue",
        "--export=ALL", f"--output={sweep.paths.store}/logs/slurm-%A_%a-{tag}.log", "--signal=B:USR1@120",
    ):  # fmt: skip
        assert option in call
    assert "--mem" not in call
    script = (slurm.folder / "script").read_text()
    assert [option for line in script.splitlines() if line.startswith("#SBATCH") for option in shlex.split(line)[1:]] == shlex.split(
        call.replace("my project", "'my project'").replace(str(sweep.paths.store), f"'{sweep.paths.store}'")
    )[2:]


def test_what_is_dropped_from_the_environment_is_said():
    kept, dropped = clean_environment({"SBATCH_QOS": "x", "SLURM_JOB_ID": "1", "SLURM_CONF": "/c", "SLURM_CLUSTERS": "b", "HOME": "/h"})
    assert kept == {"SLURM_CONF": "/c", "HOME": "/h"}
    assert dropped == ["SBATCH_QOS", "SLURM_CLUSTERS", "SLURM_JOB_ID"]
    sentence = describe_dropped(dropped)
    assert sentence is not None
    assert sentence.startswith("ignored in the environment: SBATCH_QOS, SLURM_CLUSTERS and 1 variable SLURM_* of the surrounding job")
    assert describe_dropped([]) is None


@pytest.mark.parametrize(
    ("output", "ids"),
    [
        ("150\n", [("150", None)]),
        ("Welcome to toy!\n150;big\nUse it well, 2 h at most\n", [("150", "big")]),
        ("  150  \r\n", [("150", None)]),
        ("Submitted batch job 150\n", [("150", None)]),
        ("Submitted batch job 150 on cluster big\n", [("150", "big")]),
        ("", []),
        ("150 jobs are queued\n", []),
        ("2026\n150\n", [("2026", None), ("150", None)]),
    ],
)
def test_the_id_is_a_line_of_its_own(output, ids):
    assert ids_of(output) == ids


@pytest.mark.parametrize(
    "answer",
    [
        "echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1",
        "exit 0",
        "echo 'thank you for submitting'",
        "echo 2026; echo 77",
        "echo 'sbatch: error: Zero Bytes were transmitted or received' >&2; exit 1",
    ],
)
def test_a_lost_answer_is_looked_up_by_the_tag(slurm, sweep, answer):
    slurm.says("sbatch", f"{NOTE}; {answer}")
    slurm.says("squeue", FOUND)
    lines = []
    assert send(sweep, lines.append, tasks=2) == ["77"]
    assert len(slurm.calls("sbatch")) == 1
    assert [one.job for one in submissions(sweep.paths.store)] == ["77"]
    assert "the job was found in the queue by its tag: 77" in lines[0]


def test_an_exit_code_of_a_waiting_sbatch_is_no_rejection(slurm, sweep):
    slurm.says("sbatch", "echo 150; exit 7")
    assert send(sweep, tasks=1) == ["150"]


def test_nothing_is_submitted_again_while_the_queue_does_not_answer(slurm, sweep):
    slurm.says("sbatch", "echo 'sbatch: error: Socket timed out on send/recv operation' >&2; exit 1")
    slurm.says("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(LostAnswer, match=r"it is not known whether the job was accepted: .*Socket timed out.*squeue failed"):
        send(sweep, tasks=4)
    assert len(slurm.calls("sbatch")) == 1
    assert [one.job for one in submissions(sweep.paths.store)] == [""]  # found by its tag later


def test_a_job_that_is_not_in_the_queue_is_submitted_again(slurm, sweep):
    slurm.says("sbatch", '[ -e "$here/second" ] && { echo 8; exit; }; touch "$here/second"; echo "Socket timed out" >&2; exit 1')
    assert send(sweep, tasks=1) == ["8"]
    assert slurm.calls("squeue")


@pytest.mark.parametrize(
    "sentence",
    [
        "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying",
        "sbatch: error: Batch job submission failed: Requested time limit is invalid (missing or exceeds some limit)",
        "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
    ],
)
def test_a_rejection_is_repeated_in_sbatchs_words_and_leaves_no_record(slurm, sweep, sentence):
    slurm.says("sbatch", f"echo '{sentence}' >&2; exit 1")
    with pytest.raises(SlurmError) as caught:
        send(sweep, tasks=4)
    assert sentence in str(caught.value)
    assert len(slurm.calls("sbatch")) == 1  # and no smaller array: it is no limit on the number of jobs
    assert submissions(sweep.paths.store) == []


def test_an_sbatch_that_waits_for_a_full_queue_is_quoted(slurm, sweep, monkeypatch):
    monkeypatch.setattr("slurm.sbatch.SECONDS", 0.3)
    slurm.says("sbatch", "echo 'sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying' >&2; exec sleep 5")
    with pytest.raises(SlurmError, match=r"no answer within 0.3 s; its last words: .*temporarily unable to accept job"):
        send(sweep, tasks=4)


def test_an_answer_of_another_cluster_that_is_lost_is_looked_up_there(slurm, sweep):
    slurm.says("sbatch", f"{NOTE}; exit 0")
    slurm.says("squeue", f'case "$*" in *--clusters=big*) {FOUND} ;; esac')
    send(sweep, tasks=1, sbatch=("--clusters=big",))
    (one,) = submissions(sweep.paths.store)
    assert (one.job, one.cluster, one.via) == ("77", "big", "toy")
    slurm.says("squeue", "exit 1")
    with pytest.raises(LostAnswer):
        send(sweep, tasks=1, sbatch=("--clusters=big",))
    assert {(one.job, one.cluster, one.via) for one in submissions(sweep.paths.store)} == {("77", "big", "toy"), ("", "big", "toy")}


def test_what_was_accepted_before_a_refusal_is_said(slurm, sweep):
    refused = "echo 'sbatch: error: Batch job submission failed: Invalid qos specification' >&2; exit 1"
    slurm.says("sbatch", f'[ -e "$here/second" ] && {{ {refused}; }}; touch "$here/second"; echo 8')
    lines = []
    with pytest.raises(SlurmError, match="Invalid qos"):
        send(sweep, lines.append, tasks=4, max_array=2)
    assert lines == ["submitted before this: 8"]


def test_an_interrupted_submission_says_how_to_learn_its_fate(slurm, sweep, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("slurm.submit.sbatch", interrupt)
    lines = []
    with pytest.raises(KeyboardInterrupt):
        send(sweep, lines.append, tasks=4)
    (one,) = submissions(sweep.paths.store)
    assert lines == [f"interrupted; sap-slurm status '{sweep.paths.store}' says whether Slurm accepted the job with the tag {one.tag}"]


def test_a_job_that_another_cluster_accepted_is_recorded_there(slurm, sweep):
    slurm.says("sbatch", "echo '150;big'")
    send(sweep, tasks=1, sbatch=("--clusters=big",))
    (one,) = submissions(sweep.paths.store)
    assert (one.job, one.cluster, one.via) == ("150", "big", "toy")


IMPOSSIBLE = "echo 'allocation failure: Requested node configuration is not available' >&2; exit 1"


def impossible(sweep, log=None, **cluster):
    known = Cluster(tasks=1, **cluster)
    refuse_impossible(known, script_text(known, sweep, None), log or (lambda line: None))


def test_what_no_node_can_meet_is_refused_in_slurms_words(slurm, sweep):
    slurm.says("sbatch", IMPOSSIBLE)
    with pytest.raises(
        SlurmError, match=r"would never start this job: .*Requested node configuration is not available; nothing was submitted"
    ):
        impossible(sweep)
    assert "--test-only" in slurm.calls("sbatch")[0]
    for harmless in ("Job violates accounting/QOS policy", "Unable to contact slurm controller"):
        slurm.says("sbatch", f"echo '{harmless}' >&2; exit 1")
        impossible(sweep)


@pytest.mark.parametrize(
    ("node", "cluster", "waits"),
    [
        ("main*|up|8|64000|gpu:a100:4|drained|x", {"gpus": 1}, True),
        ("main*|down|8|64000|gpu:a100:4|idle|x", {"gpus": 1, "gpu_type": "a100"}, True),
        ("main*|up|8|64000|gpu:a100:4|idle|x", {"gpus": 1}, False),
        ("main*|up|8|64000|gpu:a100:4|down*|x", {"gpus": 8, "processes": 8}, False),
        ("main*|up|8|64000|gpu:a100:4|drained|x", {"gpus": 1, "gpu_type": "h100"}, False),
        ("main*|up|8|64000|(null)|drained|x", {"cpus": 16}, False),
        ("main*|up|8|64000|(null)|drained|x", {"memory": "64G"}, False),
        ("other|up|8|64000|(null)|drained|x", {}, False),
        ("other|up|8|64000|(null)|maint|x", {"partition": "other"}, True),
    ],
)
def test_a_job_that_waits_for_drained_nodes_is_not_refused(slurm, sweep, node, cluster, waits):
    slurm.says("sbatch", IMPOSSIBLE)
    slurm.says("sinfo", f"echo '{node}'")
    lines = []
    if waits:
        impossible(sweep, lines.append, **cluster)
        assert "waits for nodes that are drained, down or reserved now" in lines[0]
    else:
        with pytest.raises(SlurmError, match="would never start"):
            impossible(sweep, **cluster)


@pytest.mark.parametrize(
    "refusal",
    ["Invalid account or account/partition combination specified", "Invalid feature specification", "Requested reservation is invalid"],
)
def test_what_is_refused_for_another_reason_does_not_wait_for_drained_nodes(slurm, sweep, refusal):
    slurm.says("sbatch", f"echo 'allocation failure: {refusal}' >&2; exit 1")
    slurm.says("sinfo", "echo 'main*|up|8|64000|gpu:a100:4|drained|x'")
    with pytest.raises(SlurmError, match=refusal):
        impossible(sweep)


@pytest.mark.parametrize(
    ("cluster", "refused"),
    [
        ({"time": "5:00:00"}, True),
        ({"time": "4:00:00"}, False),
        ({"time": "0"}, True),
        ({"time": "UNLIMITED"}, True),
        ({"time": "5:00:00", "partition": "main,long"}, False),
        ({"time": "2-0", "partition": "main,week"}, False),
        ({"time": "8-0", "partition": "main,week"}, True),
        ({"time": "5:00:00", "qos": "lifts"}, False),
    ],
)
def test_a_time_limit_beyond_the_partitions_is_refused(slurm, sweep, cluster, refused):
    slurm.says("sbatch", "exit 0")
    lines = ("main Default=YES MaxTime=04:00:00", "long Default=NO MaxTime=UNLIMITED", "week Default=NO MaxTime=7-00:00:00")
    slurm.says("scontrol", "; ".join(f"echo PartitionName={line}" for line in lines))
    if refused:
        with pytest.raises(SlurmError, match=r"exceeds the time limit of the partition \((04:00:00|7-00:00:00)\)"):
            impossible(sweep, **cluster)
    else:
        impossible(sweep, **cluster)


def test_a_cluster_without_arrays_leads_to_mode_ray():
    with pytest.raises(UserError, match=r"allows no job arrays \(MaxArraySize is 0\); set mode: ray"):
        refuse_no_arrays(Cluster(), {"MaxArraySize": "0"})
    refuse_no_arrays(Cluster(mode="ray"), {"MaxArraySize": "0"})
    refuse_no_arrays(Cluster(), {"MaxArraySize": "1001"})


@pytest.fixture
def submit_command(slurm, sweep, monkeypatch, tmp_path, capsys):
    """(exit code, standard output, standard error) of `sap-slurm submit` for a sweep with these numbers of jobs."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr("sweeper.store.provenance.commit", lambda: "abc")

    def run(*words, runnable, **counts):
        known = Snapshot("x", sweep.paths, sweep.plan, "cells", ("experiment=x",), Counts("all", 5, **counts), 0, 0.0, runnable)
        monkeypatch.setattr("slurm.__main__.snapshot_of", lambda cluster, rest: known)
        code = main(["submit", "experiment=x", "cluster=example", "cluster.gpus=0", "cluster.tasks=2", *words])
        return (code, *capsys.readouterr())

    return run


def test_a_submission_in_which_nothing_can_run_is_refused(slurm, submit_command):
    for counts in ({"done": 2, "failed": 3, "given_up": 3}, {"done": 2, "failed": 1, "given_up": 1}):
        code, out, err = submit_command(runnable=0, **counts)
        assert (code, out) == (2, "")
        assert "nothing was submitted, because no job can run" in err
        assert "cluster=example retry=failed gives them new attempts" in err
        assert "my results' cluster=example" in err, "paths in commands are quoted"
    assert slurm.calls("sbatch") == []
    assert submit_command(runnable=0, done=5)[0] == 0


def test_submit_asks_whether_any_node_can_run_it_and_names_what_it_ignores(slurm, submit_command, monkeypatch):
    monkeypatch.setenv("SBATCH_TIMELIMIT", "1")
    code, out, err = submit_command(runnable=5)
    assert (code, out) == (0, "150\n")
    assert "ignored in the environment: SBATCH_TIMELIMIT" in err
    assert [("--test-only" in call) for call in slurm.calls("sbatch")] == [True, False]
    slurm.says("sbatch", "echo 'allocation failure: Requested node configuration is not available' >&2; exit 1")
    code, out, err = submit_command(runnable=5)
    assert (code, out) == (2, "")
    assert "Requested node configuration is not available" in err


def test_submit_does_not_add_to_a_queue_that_it_cannot_see(slurm, submit_command):
    submit_command(runnable=5)
    slurm.says("squeue", "exit 1")
    code, out, err = submit_command(runnable=5)
    assert (code, out) == (2, "")
    assert "it is not known whether jobs of this sweep are queued already" in err


def test_retry_has_one_value(capsys):
    assert take_retry(["x", "retry=failed"]) == (True, ["x"])
    assert take_retry(["x"]) == (False, ["x"])
    with pytest.raises(UserError, match="the only value is retry=failed"):
        take_retry(["retry=all"])


def test_a_printed_script_plans_and_records_itself(sweep):
    printed = replace(sweep, tag="0a-1b", printed=True, planning=("experiment=x", "name=a b"))
    text = script_text(Cluster(tasks=2), printed, ArrayChunk(0, 2, 2))
    assert "#SBATCH --output=slurm-%A_%a.out\n" in text, "the folder of logs may not exist yet"
    assert "-m slurm.plan_job" in text
    assert "-- experiment=x 'name=a b' || exit 2" in text
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
    assert "slurm.plan_job" not in script_text(Cluster(tasks=2), sweep, ArrayChunk(0, 2, 2))


def test_the_record_of_a_printed_script(sweep, monkeypatch):
    store = sweep.paths.store
    sweep.plan.parent.mkdir(parents=True)
    sweep.plan.touch()
    record = {
        "cluster_file": "mine", "mode": "array", "tasks": 2, "gpus": 0, "nodes": 1, "partition": None, "time": "1:00:00",
        "plan": "slurm/plan-1.jsonl", "arguments": [], "flops_before": 0.0, "tag": new_tag(store, write=False),
    }  # fmt: skip
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "toy")
    assert plan_job.main([str(sweep.plan), "--store", str(store), "--record", json.dumps(record), "--job", "12", "--"]) == 0
    (one,) = submissions(store)
    assert (one.job, one.cluster, one.tag) == ("12", "toy", record["tag"])
    assert not is_copy(store, one)
    assert new_tag(store).split("-")[0] == one.tag.split("-")[0]


def test_a_printed_script_is_one_array(capsys):
    assert main(["script", "experiment=demo", "cluster=example", "cluster.tasks=5", "cluster.max_array=2"]) == 2
    assert "5 tasks are 3 arrays of at most max_array=2, and a script is one: set cluster.tasks=2" in capsys.readouterr().err

"""What sbatch is given, and what follows from its answers."""

from __future__ import annotations

import shlex

import pytest

from sap_core.errors import UserError
from slurm.batch import Sweep
from slurm.cluster import Cluster
from slurm.command import SlurmError, clean_environment, describe_dropped
from slurm.sbatch import LostAnswer, ids_of, refuse_impossible
from slurm.script import script_text
from slurm.submission import submissions
from slurm.submit import refuse_no_arrays, submit
from sweeper.jobs.job import SweepPaths
from tests.slurm.fakes import FakeSlurm


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    return FakeSlurm(tmp_path, monkeypatch)


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
    assert sentence.startswith("ignored in the environment: SBATCH_QOS, SLURM_CLUSTERS and 1 variables SLURM_* of the surrounding job")
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


def test_a_job_that_another_cluster_accepted_is_recorded_there(slurm, sweep):
    slurm.says("sbatch", "echo '150;big'")
    send(sweep, tasks=1, sbatch=("--clusters=big",))
    (one,) = submissions(sweep.paths.store)
    assert (one.job, one.cluster, one.via) == ("150", "big", "toy")


def test_what_no_node_can_meet_is_refused_in_slurms_words(slurm, sweep):
    slurm.says("sbatch", "echo 'allocation failure: Requested node configuration is not available' >&2; exit 1")
    with pytest.raises(
        SlurmError, match=r"would never start this job: .*Requested node configuration is not available; nothing was submitted"
    ):
        refuse_impossible(script_text(Cluster(tasks=1), sweep, None))
    assert "--test-only" in slurm.calls("sbatch")[0]
    for harmless in ("Job violates accounting/QOS policy", "Unable to contact slurm controller"):
        slurm.says("sbatch", f"echo '{harmless}' >&2; exit 1")
        refuse_impossible(script_text(Cluster(tasks=1), sweep, None))


def test_a_cluster_without_arrays_leads_to_mode_ray():
    with pytest.raises(UserError, match=r"allows no job arrays \(MaxArraySize is 0\); set mode: ray"):
        refuse_no_arrays(Cluster(), {"MaxArraySize": "0"})
    refuse_no_arrays(Cluster(mode="ray"), {"MaxArraySize": "0"})
    refuse_no_arrays(Cluster(), {"MaxArraySize": "1001"})

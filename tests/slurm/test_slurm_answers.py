"""Parsing squeue, sinfo and scontrol, and what depends on it: queue, hints, cluster files, attempts, status, submissions."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest
import yaml

from analysis.store.job_counts import Counts
from sap_core.errors import UserError
from sap_core.files import load_json, save_json
from slurm import attempt
from slurm.attempt import Attempts, begin, progress_of
from slurm.batch import Sweep
from slurm.cluster import Cluster, parse
from slurm.command import SlurmError, run_command
from slurm.init import choose_partition, fill_example, parse_sinfo, suggest_values
from slurm.lookup import find_log, split_store
from slurm.queue import QueueEntry, next_reservation, parse_config, parse_reservations, parse_squeue
from slurm.status import format_duration, text
from slurm.submission import Submission, submissions
from slurm.submit import submit
from sweeper.jobs.job import SweepPaths
from sweeper.monitor.job_counts import SweepCounts

HOME = Path(__file__).resolve().parents[2]
SINFO = """debug*|30:00|16|64000|(null)|4|avx512
long|7-00:00:00|64|512000|gpu:a100:4(S:0-1)|12|a100,nvlink
mixed|infinite|32+|128000+|gpu:2|30|(null)
broken line
"""
RESERVATION = (
    "ReservationName=maint_1 StartTime=2026-12-01T08:00:00 EndTime=2026-12-01T20:00:00 Duration=12:00:00 Nodes=n[1-9] NodeCnt=9 "
    "Flags=MAINT,SPEC_NODES Users=root\nReservationName=old StartTime=2020-01-01T00:00:00 Nodes=n1 Flags=\nNo reservations\n"
)


def submission(job="7", **more):
    known = {
        "cluster": "c", "cluster_file": "mine", "mode": "array", "tasks": 2, "gpus": 1, "nodes": 1, "partition": "long", "time": "1:00:00",
        "submitted_at": 1.0, "commit": "abc", "plan": "slurm/plan-1.jsonl", "arguments": [], "flops_before": 0.0,
    }  # fmt: skip
    return Submission(job=job, **{**known, **more})


def test_squeue_lines():
    lines = (
        "7_0|RUNNING|None|1-02:03:04|2-00:00:00|2026-11-29T10:00:00|n3\n7_1|PENDING|Resources|0:00|2-00:00:00|N/A|\nbroken\n"
        " 8|COMPLETED|None|INVALID|10:00|N/A|n1\n"
    )
    first, second, third = parse_squeue(lines)
    assert first == QueueEntry("7_0", "RUNNING", "None", 93784, "2-00:00:00", "2026-11-29T10:00:00", "n3")
    assert (first.running, first.pending, second.running, second.pending, third.running, third.pending) == (
        True,
        False,
        False,
        True,
        False,
        False,
    )
    assert third.elapsed == 0


def test_reservations_and_the_longest_time():
    found = parse_reservations(RESERVATION)
    assert [one.name for one in found] == ["maint_1", "old"]
    start = datetime(2026, 12, 1, 8).timestamp()
    longest = next_reservation(found, start - 7200)
    assert longest is not None
    assert (longest[0], longest[1].name) == (7200, "maint_1")
    assert next_reservation(found, start + 1) is None


def test_sinfo_lines_and_the_cluster_file():
    partitions = parse_sinfo(SINFO)
    assert [(one.name, one.gpus, one.gpu_type, one.cpus, one.memory) for one in partitions] == [
        ("debug", 0, None, 16, 64000), ("long", 4, "a100", 64, 512000), ("mixed", 2, None, 32, 128000),
    ]  # fmt: skip
    chosen = choose_partition(partitions)
    assert chosen is not None
    assert chosen.name == "mixed"  # the largest with GPUs: the default has none
    assert suggest_values(partitions[1], {"MaxArraySize": "1001"}) == {
        "partition": "long", "gpus": 1, "gpu_type": "a100", "cpus": 8, "memory": "115200M", "time": "12:00:00", "max_array": "1001",
    }  # fmt: skip
    made = fill_example((HOME / "conf/cluster/example.yaml").read_text(), partitions, {"ClusterName": "big", "MaxArraySize": "1001"})
    cluster = parse(yaml.load(made, Loader=yaml.BaseLoader), "big", "here")
    assert (cluster.partition, cluster.gpus, cluster.cpus, cluster.max_array) == ("mixed", 1, 8, 1001)
    assert "#   long: 12 nodes of 64 cores, 512000 MiB, 4 x GPU a100, at most 7-00:00:00, features a100,nvlink" in made
    assert choose_partition([]) is None


def test_scontrol_config():
    assert parse_config("Configuration data as of now\nMaxArraySize            = 1001\nClusterName = big\n")["MaxArraySize"] == "1001"


def test_starts_without_progress_are_counted_and_stopped():
    fresh = Attempts("7_0", "c", gpus=1)
    one = begin(None, fresh, "a", 2, 100.0, "n1")
    two = begin(one, fresh, "a", 2, 200.0, "n2", last=150.0)
    assert (two.starts, two.without_progress, two.stopped) == (2, 1, None)
    assert two.spans[0] == {"node": "n1", "begin": 100.0, "end": 150.0, "code": None}
    three = begin(two, fresh, "b", 2, 300.0, "n1")
    assert (three.starts, three.without_progress) == (3, 0)
    begin(three, fresh, "b", 2, 400.0, "n1")
    last = begin(three, fresh, "b", 2, 500.0, "n1")
    assert last.starts == 4
    assert last.stopped is not None
    assert last.stopped.startswith("2 consecutive starts finished no job and stored no checkpoint")


def test_progress_is_a_row_or_a_checkpoint_of_the_plans_own_jobs(tmp_path):
    plan, store, artifacts = tmp_path / "plan", tmp_path / "store", tmp_path / "artifacts"
    plan.write_text("".join(json.dumps({"job_id": name}) + "\n" for name in ("one", "two")))
    (store / "rows").mkdir(parents=True)
    marks = [progress_of(plan, store, artifacts)]
    for name in ("other", "one"):
        (artifacts / name).mkdir(parents=True)
        (artifacts / name / "last.safetensors").touch()
        marks.append(progress_of(plan, store, artifacts))
    (store / "rows" / "one.ok.parquet").touch()
    marks.append(progress_of(plan, store, artifacts))
    (store / "rows" / "two.failed.parquet").touch()
    marks.append(progress_of(plan, store, artifacts))
    assert [complete for _, complete in marks] == [False, False, False, False, True]
    texts = [mark for mark, _ in marks]
    assert texts[0] == texts[1]
    assert len(set(texts[1:])) == 4


def test_the_attempts_command(tmp_path, monkeypatch, capsys):
    # Of an outer job: only what the batch script gives counts.
    for name, value in (("SLURM_ARRAY_JOB_ID", "999"), ("SLURM_JOB_ID", "998"), ("SLURM_CLUSTER_NAME", "c"), ("SLURMD_NODENAME", "n1")):
        monkeypatch.setenv(name, value)
    (tmp_path / "plan").write_text('{"job_id": "one"}\n')
    words = [str(tmp_path / "plan"), "--store", str(tmp_path), "--artifacts", str(tmp_path / "a"), "--tag", "ab-cd", "--job", "7_3"]
    assert [attempt.main(["begin", *words, "--limit", "1", "--gpus", "2"]) for _ in range(2)] == [0, 3]
    assert "1 consecutive starts finished no job" in capsys.readouterr().err
    assert attempt.main(["end", *words, "--code", "137"]) == 1
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "one.ok.parquet").touch()
    assert attempt.main(["end", *words]) == 0
    (found,) = attempt.read_all(tmp_path)
    assert (found.job, found.cluster, found.gpus, found.starts, found.spans[0]["code"]) == ("7_3", "c", 2, 1, 0)
    (tmp_path / attempt.FOLDER / "c-7_4.json").write_text("{")
    assert len(attempt.read_all(tmp_path)) == 1


@pytest.mark.parametrize(
    ("code", "seconds", "rows", "answer"),
    [
        (2, 5.0, (), 4),  # a device that is missing
        (1, 5.0, (), 4),  # a package that cannot be imported
        (132, 5.0, (), 4),  # an instruction that the processor does not have
        (2, 90.0, (), 1),
        (137, 5.0, (), 1),  # out of memory, or killed
        (130, 5.0, (), 1),  # stopped by Slurm
        (0, 5.0, (), 1),  # other tasks run what is left
        (1, 5.0, ("one.failed.parquet",), 1),  # a job failed again, under the same name
    ],
)
def test_a_start_that_failed_at_once_and_stored_nothing(tmp_path, code, seconds, rows, answer):
    (tmp_path / "plan").write_text('{"job_id": "one"}\n{"job_id": "two"}\n')
    (tmp_path / "rows").mkdir()
    words = [str(tmp_path / "plan"), "--store", str(tmp_path), "--artifacts", str(tmp_path / "a"), "--tag", "ab-cd", "--job", "7_3"]
    for name in rows:
        (tmp_path / "rows" / name).touch()
    assert attempt.main(["begin", *words]) == 0
    path = attempt.path_of(tmp_path, "ab-cd", "7_3")
    record = load_json(path)
    record["spans"][0]["begin"] -= seconds
    save_json(path, record)
    assert attempt.main(["end", *words, "--code", str(code)]) == answer


def test_status_output():
    counts = Counts("train", 4, done=2), Counts("tune", 8, done=1, failed=2, given_up=1)
    sweep = SweepCounts(counts, 100.0, 40.0, (("abc tune sap seed 1", "error", "boom"),))
    queued = parse_squeue(
        "7_0|RUNNING|None|10:00|1:00:00|2026-11-29T10:00:00|n3\n7_1|PENDING|Resources|0:00|1:00:00|2026-11-29T12:00:00|\n"
        "7_2|PENDING|Resources|0:00|1:00:00|2026-11-29T11:00:00|\n7_3|FAILED|NonZeroExitCode|1:00|1:00:00|N/A|n1\n"
    )
    first = [{"node": "n1", "begin": 0, "end": 3000, "code": 0}, {"node": "n3", "begin": 9400, "end": None, "code": None}]
    other = [{"node": "n1", "begin": 0, "end": None, "code": None, "last_write": 3600}]
    attempts = [
        Attempts("7_0", "c", gpus=1, cpus=4, starts=3, spans=first),
        Attempts("7_3", "c", gpus=1, cpus=4, starts=1, stopped="3 starts in a row", spans=other),
    ]
    output = text("results/x", sweep, [submission(flops_before=4.0)], queued, attempts, ["hint: wait"], 10000.0)
    assert output.splitlines()[0] == "results/x: 3 of 12 jobs done, 2 failed, 8 to do"
    for line in (
        "  train         4      2       0",
        "running: 7_0 on n3 for 0:10:00 of 1:00:00",
        "pending: 2 tasks or jobs (7_1 ...): Resources (its nodes are busy), start expected 2026-11-29T11:00:00",
        "ended: 1 FAILED",
        "hint: wait",
        "restarts: 2 of 4 starts",
        "stopped: 7_3: 3 starts in a row",
        "failed: abc tune sap seed 1, error: boom",
        "failed: 1 more",
        f"ETA: {format_duration(int(60 * 7200 / 36))} with 1 running tasks, from the speed so far",
        "spent so far: 2.00 GPU-hours, 8.00 core-hours",
    ):
        assert line in output.splitlines(), line


def test_status_without_anything():
    nothing = text("x", SweepCounts((Counts("train", 1),), 1.0, 0.0), [], [], [], [], 0.0)
    assert "no submissions recorded" in nothing
    assert "ETA: unknown, because no task is running" in nothing
    unknown = text("x", SweepCounts((Counts("train", 1),), None, 0.0), [], [], [], [], 0.0)
    assert "ETA: unknown, because the FLOPs of some jobs are" in unknown
    assert "ETA: done" in text("x", SweepCounts((Counts("train", 1, done=1),), None, 1.0), [], [], [], [], 0.0)
    assert "no batch job of this sweep is queued" in text("x", SweepCounts((), 0.0, 0.0), [submission()], [], [], [], 0.0)
    assert "ETA: done" in text("x", SweepCounts((Counts("train", 1, done=1),), 1.0, 1.0), [submission()], [], [], [], 0.0)


class FakeSlurm:
    """An sbatch that takes arrays of at most so many tasks, and so many submissions."""

    def __init__(self, folder, monkeypatch, most=100, submissions=100, first_says=""):
        (folder / "bin").mkdir()
        program = folder / "bin" / "sbatch"
        program.write_text(f"""#!/usr/bin/env bash
script=$(cat); n=$(cat {folder}/count 2> /dev/null || echo 0)
if [ -n "{first_says}" ] && [ ! -e {folder}/output ]; then touch {folder}/output; echo "sbatch: error: {first_says}" >&2; exit 1; fi
last=$(printf '%s' "$script" | sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p')
if [ "$((last + 1))" -gt {most} ] || [ "$n" -ge {submissions} ]; then
    echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit)" >&2; exit 1; fi
echo $((n + 1)) > {folder}/count; echo "$((last + 1))" >> {folder}/arrays; echo "$((100 + n));big"
""")
        program.chmod(0o755)
        queue = folder / "bin" / "squeue"
        queue.write_text("#!/bin/sh\n")
        queue.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}/bin", prepend=":")
        monkeypatch.setattr("slurm.sbatch.LOOKUP_PAUSES", (0.0, 0.0))
        self.folder = folder

    def arrays(self):
        return [int(line) for line in (self.folder / "arrays").read_text().split()]


@pytest.mark.parametrize(
    ("limits", "cluster", "arrays"),
    [
        ({}, {"tasks": 7}, [7]),
        ({}, {"tasks": 7, "max_array": 3}, [3, 3, 1]),
        ({}, {"tasks": 7, "max_submit": 4}, [4]),
        ({"most": 3}, {"tasks": 7}, [3]),
        ({"submissions": 2}, {"tasks": 7, "max_array": 3}, [3, 3]),
        ({"first_says": "Socket timed out on send/recv operation"}, {"tasks": 2}, [2]),
    ],
)
def test_limits_on_jobs_reduce_the_number_of_tasks(tmp_path, monkeypatch, limits, cluster, arrays):
    slurm = FakeSlurm(tmp_path, monkeypatch, **limits)
    store = tmp_path / "results"
    sweep = Sweep("x", SweepPaths(store, store, store), tmp_path, "python", store / "slurm/plan-1.jsonl", ("experiment=x",))
    output = []
    jobs = submit(Cluster(**cluster), sweep, "abc", 1.0, {"ClusterName": "big"}, output.append)
    assert slurm.arrays() == arrays
    assert jobs == [str(100 + number) for number in range(len(arrays))]
    noted = submissions(store, "big")
    assert [(one.job, one.tasks, one.plan, one.arguments) for one in noted] == [
        (job, count, "slurm/plan-1.jsonl", ["experiment=x"]) for job, count in zip(jobs, arrays, strict=True)
    ]
    assert bool(output) == (sum(arrays) < min(7, cluster["tasks"], cluster.get("max_submit", 7)))
    assert submissions(store, "small") == []


def test_refusals_are_repeated(tmp_path, monkeypatch):
    FakeSlurm(tmp_path, monkeypatch, most=0)
    sweep = Sweep("x", SweepPaths(tmp_path, tmp_path, tmp_path), tmp_path, "python", tmp_path / "plan")
    with pytest.raises(SlurmError, match=r"sbatch failed: .*Job violates accounting/QOS policy"):
        submit(Cluster(tasks=4), sweep, "abc", 0.0, {}, lambda line: None)
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="squeue is not installed here; run this on a login node"):
        run_command("squeue")


def test_finding_the_store_and_the_log(tmp_path):
    with pytest.raises(UserError, match=r"no sweep in .* was submitted"):
        split_store([], tmp_path)
    with pytest.raises(UserError, match="there is no folder results/x"):
        split_store(["results/x"], tmp_path)
    store = tmp_path / "results" / "demo"
    (store / "slurm" / "submissions").mkdir(parents=True)
    (store / "logs").mkdir()
    assert split_store(["12_3"], tmp_path) == (store, ["12_3"])
    assert split_store([str(store), "12"], tmp_path) == (store, ["12"])
    with pytest.raises(UserError, match="contains no log of a batch job yet"):
        find_log(store, None, {})
    for name in ("slurm-7_0", "slurm-7_1", "abc"):
        (store / "logs" / f"{name}.log").touch()
    assert find_log(store, None, {}).name.startswith("slurm-7_")
    assert [find_log(store, word, {"run": "abc"}).name for word in ("7_1", "7", "abc", "run")] == [
        "slurm-7_1.log", "slurm-7_0.log", "abc.log", "abc.log",
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"no log of '9'.*batch jobs with logs: 7_0, 7_1"):
        find_log(store, "9", {})

"""The tests' own Slurm does what clusters do: arrays, GPUs, requeueing, preemption."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def test_arrays_run_on_several_nodes_and_see_their_gpu(slurm):
    job = slurm.sbatch(
        "#!/bin/bash\necho $SLURM_ARRAY_TASK_ID $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES\nsleep 1\n",
        "--array=0-1",
        "--gres=gpu:1",
        "--cpus-per-task=2",
    )
    slurm.wait_for(job)
    assert set(slurm.states(job).values()) == {"COMPLETED"}
    lines = sorted((slurm.folder / f"{job}_{task}.out").read_text() for task in (0, 1))
    assert {line.split()[1] for line in lines} == {"n1", "n2"}
    assert {line.split()[2] for line in lines} == {"0"}


def test_a_requeued_job_starts_again_and_counts(slurm):
    again = '[ "${SLURM_RESTART_COUNT:-0}" = 0 ] && { scontrol requeue $SLURM_JOB_ID; sleep 60; }'
    script = f"#!/bin/bash\necho start ${{SLURM_RESTART_COUNT:-0}}\n{again}\necho end\n"
    job = slurm.sbatch(script, "--requeue", "--open-mode=append", f"--output={slurm.folder}/requeued.out")
    slurm.wait_for(job, "COMPLETED", seconds=40)
    assert [line for line in (slurm.folder / "requeued.out").read_text().splitlines() if line.startswith(("start", "end"))] == [
        "start 0", "start 1", "end",
    ]  # fmt: skip


def test_nothing_is_left_of_a_cluster(make_slurm):
    with make_slurm(nodes=1, gpus=0) as cluster:
        job = cluster.sbatch("#!/bin/bash\ntrap '' TERM\nsleep 600\n")
        cluster.wait_for(job, "RUNNING")
        folder = cluster.folder
        assert cluster.processes("slurmctld")
    assert not cluster.processes()
    assert not folder.exists()

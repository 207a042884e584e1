"""GPU shares: requested, doubled after an out-of-memory error, stored; and jobs that run out of memory."""

from __future__ import annotations

import pytest
import torch

from sap_core.errors import UserError
from sap_core.files import load_json
from sweeper.config.compose import compose_all
from sweeper.jobs import run_job as executing
from sweeper.jobs.context import JobOutcome, failure_of
from sweeper.jobs.job import SweepPaths
from sweeper.jobs.run_job import execute
from sweeper.scheduling.gpu_sharing import GpuSharing, jobs_per_device, memory_class
from sweeper.store.store import Store

QUARTER = {"cpus": 1.0, "gpus": 0.25}


def test_a_memory_class_doubles_its_share_up_to_a_full_gpu_and_stores_it(tmp_path, make_job):
    gpu_sharing = GpuSharing(tmp_path / "packing.json", "cuda")
    first, second = make_job("a", resources=QUARTER), make_job("b", resources=QUARTER)
    other = make_job("c", resources=QUARTER, method="ssd")
    assert gpu_sharing.raise_share(first, 0.25) == 0.5
    assert gpu_sharing.raise_share(second, 0.25) == 0.5  # it ran concurrently with the first, which has already raised the share
    assert (gpu_sharing.share(first), gpu_sharing.share(other)) == (0.5, 0.25)
    assert gpu_sharing.raise_share(first, 0.5) == gpu_sharing.raise_share(first, 1.0) == 1.0
    again = GpuSharing(tmp_path / "packing.json", "cuda")
    assert (again.share(second), again.share(other)) == (1.0, 0.25)
    assert again.with_share(second).resources == {"cpus": 1.0, "gpus": 1.0}
    assert load_json(tmp_path / "packing.json") == {memory_class(first): 1.0}


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"a": "much"}', "{"])
def test_a_damaged_file_of_shares_is_ignored(tmp_path, make_job, text):
    (tmp_path / "packing.json").write_text(text)
    assert GpuSharing(tmp_path / "packing.json").share(make_job("a", resources=QUARTER)) == 0.25


def test_shares_by_device_and_cpu_jobs(tmp_path, make_job):
    on_gpu = GpuSharing(tmp_path / "none", "cuda", ["select", "ssd"])
    plain, select, ssd = make_job("a"), make_job("b", job_type="select", pruner="el2n"), make_job("c", method="ssd")
    assert [on_gpu.share(job) for job in (plain, select, ssd)] == [1.0, 0.0, 0.0]
    assert [on_gpu.device(job) for job in (plain, select, ssd)] == ["cuda", "cpu", "cpu"]
    assert on_gpu.share(make_job("d", job_type="train", method="ssd")) == 1.0
    assert GpuSharing(tmp_path / "none", "cpu").share(plain) == 0.0


def test_number_of_jobs_per_gpu():
    assert [jobs_per_device(share) for share in (0.0, 0.1, 0.25, 0.3, 1 / 3, 0.5, 1.0, 2.0)] == [1, 10, 4, 3, 3, 2, 1, 1]


@pytest.fixture
def short_of_memory(monkeypatch):
    def run_job_type(job, place, note):
        error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return JobOutcome([{} for _ in job.runs], [False] * len(job.runs), failure=failure_of(error))

    monkeypatch.setattr(executing, "run_job_type", run_job_type)


@pytest.mark.parametrize(
    ("gpus", "tries", "status", "attempt"),
    [
        (0.25, 0, "oom_on_shared_gpu", None),
        (0.5, 1, "oom_on_shared_gpu", None),
        (1.0, 2, "failed", 3),
        (0.25, None, "failed", 1),
        (0.0, 0, "failed", 1),
    ],
)
def test_out_of_memory_stores_nothing_on_a_shared_gpu_and_a_failed_row_on_a_full_one(
    tmp_path, make_job, short_of_memory, gpus, tries, status, attempt
):
    job = make_job("a", resources={"cpus": 1.0, "gpus": gpus}, runs=2)
    result = execute(job, SweepPaths(tmp_path, tmp_path / "store", tmp_path), oom_retries=tries)
    assert (result.status, result.error_type) == (status, "oom")
    rows = Store(tmp_path / "store").read_rows("a")
    assert [(row.error_type, row.attempt, row.device_share) for row in rows] == ([("oom", attempt, gpus or 1.0)] * 2 if attempt else [])


@pytest.mark.parametrize("text", ["CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"])
def test_out_of_memory_errors_of_libraries_are_recognised(text):
    assert failure_of(RuntimeError(text)).error_type == "oom"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["backend.gpus_per_job=1.5"], "must be a share of one GPU (such as 0.25) or whole GPUs"),
        (["backend.gpus_per_job=-1"], "too small"),
        (["backend.cpu_jobs=[sapp]"], "did you mean 'sap'?"),
        (["backend.address=auto"], "'auto' and the like are refused"),
        (["backend.address=10.0.0.7"], "must be HOST:PORT"),
        (["backend.address='ray://head:10001'"], "must be HOST:PORT"),
        (["backend=local", "backend.address=head:6379"], "set backend=ray"),
    ],
)
def test_invalid_shares_names_and_addresses_are_refused(words, said):
    with pytest.raises(UserError) as caught:
        compose_all(["experiment=demo", *words])
    assert said in str(caught.value)


@pytest.mark.parametrize("address", ["head:6379", "10.0.0.7:6379", "[fd00::1]:6379", "node-1.cluster_a:1"])
def test_addresses_of_heads_are_accepted(address):
    assert compose_all(["experiment=demo", f"backend.address='{address}'"]).config.backend.address == address

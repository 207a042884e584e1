"""Devices that torch does not have here are refused with one sentence, before any job fails for their lack."""

from __future__ import annotations

import pytest
import torch

from sap_core.errors import UserError
from sweeper.jobs.run_job import check_device
from sweeper.scheduling.gpu_sharing import GpuSharing


@pytest.mark.parametrize(
    ("name", "sentence"), [("mps", "finds no Apple GPU here"), ("mps:0", "is not a device"), ("gpu", "allowed: cpu, cuda")]
)
def test_a_device_that_is_not_there(name, sentence, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=sentence):
        check_device(name)


def test_an_apple_gpu_is_accepted_where_torch_has_it(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    check_device("mps")


def test_a_job_has_the_apple_gpu_to_itself_unless_a_share_is_requested(tmp_path, make_job):
    sharing = GpuSharing(tmp_path / "packing.json", "mps", ["ssd"])
    assert sharing.share(make_job("sap0", resources={"cpus": 1.0, "gpus": 0.0})) == 1.0
    assert sharing.share(make_job("sap0", resources={"cpus": 1.0, "gpus": 0.5})) == 0.5
    assert sharing.share(make_job("ssd0", method="ssd", resources={"cpus": 1.0, "gpus": 0.0})) == 0.0

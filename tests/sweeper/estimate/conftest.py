"""Rows of a plan by hand."""

from __future__ import annotations

import pytest

from sap_core.records import Planned


@pytest.fixture(scope="session")
def planned_row():
    """planned_row("aa", 0): the first row of the job aa."""

    def make(job_id="aa", number=0, **changes):
        values = {
            "run_id": f"{job_id}-{number}", "job_id": job_id, "kind": "tune", "parents": "", "cell": "c", "dataset": "digits",
            "noise": "symmetric", "noise_rate": 0.25, "network": "small_cnn", "trainer": "sgd", "method": "sap", "space": "alpha16",
            "space_hash": "h", "position": number, "settings": f'{{"alpha": {number}}}', "distinct": number, "seed": 1,
            "baseline_id": "b", "forecast_flops": 1e9,
        }  # fmt: skip
        return Planned(**values | changes)

    return make

"""`backend=auto`: the choice, and the way on without Ray."""

from __future__ import annotations

import pytest

from sweeper.backends.auto_backend import RAY_JOBS, FallbackBackend, choose_backend
from sweeper.backends.ray_driver import RayUnavailable
from sweeper.config.schema import BackendConfig


@pytest.mark.parametrize(
    ("settings", "jobs", "gpus", "installed", "expected", "word"),
    [
        ({}, 8, 0, True, "local", "jobs: 8"),
        ({}, RAY_JOBS - 1, 1, True, "local", "one machine"),
        ({}, RAY_JOBS, 0, True, "ray", f"jobs: {RAY_JOBS}"),
        ({}, RAY_JOBS, 0, False, "local", "Ray is not installed"),
        ({}, 8, 2, True, "ray", "GPUs: 2"),
        ({}, 8, 2, False, "local", "Ray is not installed"),
        ({"address": "head:6379"}, 1, 0, True, "ray", "backend.address=head:6379"),
        ({"device": "mps"}, RAY_JOBS, 1, True, "local", "mps"),
        ({"name": "local"}, RAY_JOBS, 4, True, "local", "backend=local"),
        ({"name": "ray"}, 1, 0, False, "ray", "backend=ray"),
    ],
)
def test_small_sweeps_run_locally_and_ray_where_it_pays(settings, jobs, gpus, installed, expected, word):
    name, why = choose_backend(BackendConfig(**settings), jobs, gpus, installed)
    assert name == expected
    assert word in why


class Recorder:
    """A backend that records its schedules and may fail."""

    def __init__(self, error=None):
        self.error, self.schedules = error, []

    def run(self, schedule, report):
        self.schedules.append(schedule)
        if self.error:
            raise self.error


def test_a_ray_that_does_not_start_is_replaced_and_the_reason_is_said(capsys):
    local = Recorder()
    FallbackBackend(Recorder(RayUnavailable("no port was free")), lambda: local).run("schedule", print)
    assert local.schedules == ["schedule"]
    assert capsys.readouterr().err == (
        "backend=local: the sweep goes on with worker processes of this machine, because no port was free\n"
    )  # fmt: skip


def test_ray_alone_runs_where_it_starts():
    ray, local = Recorder(), Recorder()
    FallbackBackend(ray, lambda: local).run("schedule", print)
    assert (ray.schedules, local.schedules) == (["schedule"], [])


def test_other_errors_are_not_hidden_by_a_second_backend():
    local = Recorder()
    with pytest.raises(KeyboardInterrupt):
        FallbackBackend(Recorder(KeyboardInterrupt()), lambda: local).run("schedule", print)
    assert local.schedules == []

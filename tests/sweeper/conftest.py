"""Fixtures: jobs made by hand, plans of shipped experiments, and commands in a fresh interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from sap_core.records import Planned
from sweeper.config.compose import compose_all
from sweeper.jobs.job import Job, PlannedRun
from sweeper.plan.cell import check_cell
from sweeper.plan.plan import make_plan

HOME = Path(__file__).parents[2]


def job(job_id="aa", parents=(), job_type="tune", runs=1, **changes):
    """A job that is not meant to run, with one row per run."""
    labels = {
        "experiment": "demo", "debug": None, "dataset": "digits", "dataset_verified": True, "noise": "symmetric", "noise_rate": 0.25,
        "network": "small_cnn", "trainer": "sgd", "pruner": None, "keep_fraction": None, "baseline_id": "bb", "seed": 1, "method": "sap",
        "space": "alpha16", "space_hash": "cc", "val_labels": "noisy", "precision": "float32", "component_version": 1,
        "information": "scored",
    }  # fmt: skip
    labels |= {name: changes.pop(name) for name in list(changes) if name in labels}
    settings = [PlannedRun(f"{job_id}-{number}", number, {"alpha": float(number)}) for number in range(runs)]
    return Job(job_id, job_type, {"seed": 1}, tuple(settings), labels, tuple(parents), **changes)


@pytest.fixture(scope="session")
def make_job():
    return job


@cache
def planned(*arguments):
    composed = compose_all(arguments)
    cells = tuple(check_cell(cell, composed.config) for cell in composed.cells)
    return SimpleNamespace(config=composed.config, cells=cells, plan=make_plan(composed.config, cells, {}), composed=composed)


@pytest.fixture(scope="session")
def plan_of():
    """plan_of("experiment=demo", ...): config, cells and plan; composed once per session and command line."""
    return planned


def words_of(experiment):
    """What a shipped experiment is composed with: no files of weights, and no network of a library that is not there."""
    cells = yaml.safe_load((HOME / f"conf/experiment/{experiment}.yaml").read_text()).get("cells", [])
    there = [cell for cell in cells if cell.get("model") != "inception_resnet_v2" or find_spec("timm") is not None]
    if there == cells and not any("model.weights" in cell for cell in cells):
        return [f"experiment={experiment}"]
    entries = [", ".join(f"{key}: {_word(value)}" for key, value in cell.items() if key != "model.weights") for cell in there]
    return [f"experiment={experiment}", f"cells=[{{{'}, {'.join(entries)}}}]"]


def _word(value):
    """A value of YAML in the grammar of the command line."""
    if isinstance(value, list):
        return f"[{', '.join(map(_word, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


@pytest.fixture(scope="session")
def shipped():
    """shipped("demo"): what `plan_of` makes of a shipped experiment."""
    return lambda experiment: planned(*words_of(experiment))


@pytest.fixture(scope="session")
def table1():
    return planned("experiment=table1")


@pytest.fixture(scope="session")
def shell():
    """shell("-m", "sweeper", ...): a finished process of this interpreter, started in the checkout."""

    def start(*words, cwd=HOME, **environment):
        settings = {name: value for name, value in os.environ.items() if name != "SAP_SWEEP_DATA"}
        return subprocess.run([sys.executable, *words], cwd=cwd, capture_output=True, text=True, env=settings | environment, timeout=120)

    return start


@pytest.fixture(scope="session")
def planned_row():
    """planned_row("aa", 0): the first row of the job aa."""

    def make(job_id="aa", number=0, **changes):
        values = {
            "run_id": f"{job_id}-{number}", "job_id": job_id, "job_type": "tune", "parents": "", "cell": "c", "dataset": "digits",
            "noise": "symmetric", "noise_rate": 0.25, "network": "small_cnn", "trainer": "sgd", "method": "sap", "space": "alpha16",
            "space_hash": "h", "position": number, "settings": f'{{"alpha": {number}}}', "computation_id": number, "seed": 1,
            "baseline_id": "b", "forecast_flops": 1e9,
        }  # fmt: skip
        return Planned(**values | changes)

    return make

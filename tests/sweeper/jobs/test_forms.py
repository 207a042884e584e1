"""Files of jobs that come from elsewhere: what they may name, and the form of ids, names and numbers."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from sap_core.errors import UserError
from sap_core.records import Point, Row
from sweeper.config.packages import parse_plugins
from sweeper.config.target import check_components
from sweeper.jobs.forms import job_problem, record_problem
from sweeper.jobs.job import Job, SweepPaths, read_jobs
from sweeper.jobs.run_job import execute


@pytest.fixture(scope="module")
def jobs(plan_of):
    return plan_of("experiment=demo").plan.jobs


@pytest.fixture(scope="module")
def searches(plan_of):
    return plan_of("experiment=demo", "search=tpe", "methods=[sap]").plan.jobs


def changed(job, *path, value):
    """The job as plain data, with one value replaced."""
    plain = json.loads(job.to_json())
    place = plain
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return plain


def read(tmp_path, plain, plugins=()):
    path = tmp_path / "jobs.jsonl"
    path.write_text(json.dumps(plain) + "\n")
    return list(read_jobs(path, plugins))


def test_every_planned_job_has_the_form(jobs, searches, tmp_path):
    for job in (*jobs, *searches):
        assert job_problem(json.loads(job.to_json())) == ""
        check_components(job.spec, [run.entry for run in job.runs])
    for job in (jobs[0], searches[-1]):
        assert read(tmp_path, json.loads(job.to_json())) == [job]


SHELL = {"target": "os.system", "settings": {"command": "touch /tmp/owned"}}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "dataset"), SHELL),
        (("spec", "dataset", "target"), "posix.system"),
        (("spec", "model", "settings"), {"width": SHELL}),
        (("spec", "trainer", "settings", "list"), [[{"x": SHELL}]]),
        (("spec", "dataset", "target"), "sap_core"),
        (("spec", "dataset", "target"), "sap_corex.data.Digits"),
        (("spec", "dataset", "target"), 3),
        (("spec", "dataset", "target"), "optuna.samplers.TPESampler"),
        (("runs", 0, "entry"), SHELL),
        (("spec", "search"), {"sampler": SHELL}),
        (("spec", "search"), {"sampler": {"target": "optuna.storages.run_grpc_proxy_server", "settings": {}}}),
        (("spec", "trainer", "settings", "search"), {"sampler": {"target": "optuna.samplers.TPESampler", "settings": {}}}),
    ],
)
def test_a_class_of_another_package_is_refused_before_it_is_imported(jobs, tmp_path, path, value):
    with pytest.raises(UserError, match=r"line 1, names .*, which is in none of the packages that it may name .* nothing of it was run"):
        read(tmp_path, changed(jobs[0], *path, value=value))


def test_a_plugin_counts_only_if_the_user_names_it(jobs, tmp_path):
    plain = changed(jobs[0], "spec", "trainer", "target", value="examples.refit_head.RefitHead")
    with pytest.raises(UserError, match="name its package on the command line"):
        read(tmp_path, plain | {"spec": plain["spec"] | {"plugins": ["examples"]}})
    assert read(tmp_path, plain, parse_plugins("[examples]"))[0].job_id == jobs[0].job_id
    with pytest.raises(UserError, match="does not exist; give the folder of a package"):
        parse_plugins("../no_such_package")


@pytest.mark.parametrize(
    "target", ["sap_core.files.save_text", "sap_core.checkpoint.save_state", "sap_core.data.digits.Path", "sap_core.files.nothing"]
)
def test_only_components_are_made(jobs, tmp_path, target):
    """A function or an imported name of an allowed package is no component, also if a driver sends the job."""
    job = Job.from_plain(changed(jobs[0], "spec", "dataset", value={"target": target, "settings": {}}))
    assert read(tmp_path, json.loads(job.to_json())) == [job]
    with pytest.raises(UserError, match=r"is not a class with an integer `version`|cannot be imported"):
        execute(job, SweepPaths(tmp_path, tmp_path / "store", tmp_path / "artifacts"))
    assert not (tmp_path / "store").exists()


def test_a_function_that_a_plugin_imported_is_no_network():
    with pytest.raises(UserError, match="is not a class"):
        check_components({"model": {"target": "subprocess._time", "settings": {}}})


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("job_id",), "../../../escape", "job_id='../../../escape' is not an id"),
        (("job_id",), "0123456789abcdeg", "is not an id"),
        (("job_id",), "0123456789abcdef\n", "is not an id"),
        (("parents",), ["../x"], "parents contain '../x'"),
        (("spec", "selection"), {"job": "/etc"}, "parents contain '/etc'"),
        (("runs", 0, "run_id"), "a/b", "run_id='a/b' is not an id"),
        (("runs", 0, "position"), -1, "position=-1"),
        (("runs",), [], "runs, parents"),
        (("job_type",), "shell", "job_type='shell' is none of"),
        (("labels", "method"), "a\nb", "control characters"),
        (("labels", "experiment"), "\x1b[2J", "control characters"),
        (("labels", "seed"), "1", "seed='1' is not a whole number"),
        (("labels", "noise_rate"), "x", "noise_rate='x' is not a number"),
        (("labels", "job_id"), "0123456789abcdef", "labels contain job_id"),
        (("labels", "colour"), 1, "no column 'colour'"),
        (("labels",), {}, "labels have no "),
        (("resources",), {"cpus": -1}, "resources"),
        (("threads",), 10**9, "threads"),
        (("timeout_seconds",), math.inf, "timeout_seconds"),
    ],
)
def test_what_has_another_form_is_refused(jobs, tmp_path, path, value, reason):
    with pytest.raises(UserError, match="line 1, is not a job") as caught:
        read(tmp_path, changed(jobs[0], *path, value=value))
    assert reason in str(caught.value)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "9" * 100_000, "null", "[]", '"x"'])
def test_any_line_is_one_sentence(tmp_path, text):
    path = tmp_path / "jobs.jsonl"
    path.write_text(text + "\n")
    with pytest.raises(UserError, match="line 1, is not a job"):
        list(read_jobs(path, ()))


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "jobs.jsonl")
    for path in (tmp_path / "jobs.jsonl", tmp_path):
        with pytest.raises(UserError, match="is no regular file"):
            list(read_jobs(path, ()))
    with pytest.raises(UserError, match="is no regular file"):
        list(read_jobs(Path("/dev/zero"), ()))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"test_acc": 1.7}, "test_acc=1.7 is not between 0 and 1"),
        ({"val_noisy_acc": -0.1}, "is not between 0 and 1"),
        ({"test_r2": 1.5}, "is above 1"),
        ({"flops": -1.0}, "is below 0"),
        ({"seed": True}, "is not a whole number"),
        ({"status": "fine"}, "none of ok, failed"),
        ({"baseline_id": "../../x"}, "is not an id"),
        ({"method": "x\x1b[31m"}, "control characters"),
        ({"network": None}, "network is missing"),
    ],
)
def test_rows_are_checked_against_the_schema(jobs, change, reason):
    row = asdict(jobs[0].row(jobs[0].runs[0], val_noisy_acc=0.5, test_acc=math.nan))
    assert record_problem(row, Row) == ""
    assert reason in record_problem(row | change, Row)
    assert record_problem({"job_id": "aa"}, Point) == "job_id='aa' is not an id of 16 hexadecimal digits"

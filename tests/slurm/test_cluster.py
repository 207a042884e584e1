"""Cluster files: keys, error messages, and safe values for batch scripts."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sap_core.errors import UserError
from slurm.cluster import Cluster, check_name, format_time, load_cluster, override, parse, parse_time, read_yaml

HOME = Path(__file__).resolve().parents[2]
EXAMPLE = HOME / "conf" / "cluster" / "example.yaml"
NASTY = ["a b", "a\n#SBATCH --x", "$(id)", "a;b", "`id`", "é", "", "a'b", 'a"b', "a>b", "a\\b", "\0"]


@pytest.fixture(autouse=True)
def config_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "sap-sweep" / "cluster"


def test_the_example_documents_every_key_and_no_other():
    values = read_yaml(EXAMPLE)
    assert set(values) == {item.name for item in fields(Cluster)} - {"name"}
    cluster = parse(values, "example", "example.yaml")
    assert (cluster.gpus, cluster.time, cluster.partition, cluster.setup) == (1, "12:00:00", None, ())
    for key in values:
        line = re.search(rf"(?m)^{key}:.*$", EXAMPLE.read_text())
        assert line, key


def test_the_users_own_file_takes_precedence(config_folder):
    config_folder.mkdir(parents=True)
    (config_folder / "example.yaml").write_text("gpus: 2\nprocesses: 2\ntime: 1-00:00:00\nsetup:\n  - module load cuda\n")
    cluster = load_cluster("example", [HOME], ["time=30", "partition=long"])
    assert (cluster.gpus, cluster.time, cluster.partition, cluster.setup) == (2, "30", "long", ("module load cuda",))


def test_a_file_is_looked_for_in_the_users_folder_then_beside_the_work_then_beside_the_code(config_folder, tmp_path):
    folders = [tmp_path / "work", tmp_path / "code"]
    for folder, cpus in zip(
        (tmp_path / "code" / "conf" / "cluster", tmp_path / "work" / "conf" / "cluster", config_folder), "123", strict=True
    ):
        folder.mkdir(parents=True)
        (folder / "mine.yaml").write_text(f"cpus: {cpus}\n")
        assert load_cluster("mine", folders).cpus == int(cpus)


@pytest.mark.parametrize("key", ["partition", "account", "qos", "constraint", "memory", "time", "gpu_type", "scratch"])
def test_unsafe_characters_are_refused(key):
    for value in NASTY:
        with pytest.raises(UserError, match=f"{key}=.* is not allowed in a batch script"):
            Cluster(gpus=1, **{key: value})


@pytest.mark.parametrize("line", ["--x y", "--x=$(id)", "x", "--x\n--y", "--x=`id`", "-x", "--X", "", "--comment=a;b"])
def test_sbatch_lines_are_single_options(line):
    with pytest.raises(UserError, match="each entry must be one option without spaces"):
        Cluster(sbatch=(line,))


@pytest.mark.parametrize("line", ["--array=1-9", "--output=x", "--signal=KILL", "--wrap=x", "--time=1", "--export=NONE"])
def test_sbatch_lines_do_not_override_the_mode(line):
    with pytest.raises(UserError, match="is set by another key or by the mode"):
        Cluster(sbatch=(line,))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gpu": "1"}, "unknown key 'gpu' in here (did you mean 'gpus'?)"),
        ({"gpus": "two"}, "gpus='two' must be a whole number"),
        ({"gpus": "-1"}, "gpus='-1' must be a whole number"),
        ({"gpus": "null"}, "gpus has no value"),
        ({"gpus": ["1"]}, "gpus must be one value"),
        ({"setup": "module load x"}, "setup must be a list of lines"),
        ({"setup": [{"a": "b"}]}, "setup must be a list of lines"),
        ({"setup": ["a\nb"]}, "each entry must be one line"),
        ({"mode": "arry"}, "unknown mode 'arry' in cluster mine (did you mean 'array'?); allowed: array, ray"),
        ({"cpus": "0"}, "cpus=0 is too small"),
        ({"warning_seconds": "5"}, "warning_seconds=5 is too small"),
        ({"time": "2"}, "warning_seconds=120 is not shorter than time=2"),
        ({"gpus": "4"}, "processes=1 leaves some of a task's gpus=4 idle"),
        ({"gpu_type": "a100"}, "gpu_type=a100 requires gpus"),
        ({"container": "apptainer 'exec"}, "has an unclosed quote"),
        ({"container": "a\nb"}, "must be one printable line"),
        ({"scratch": "scratch"}, "an absolute path or $VARIABLE"),
        ({"name": "x"}, "unknown key 'name'"),
    ],
)
def test_mistakes_are_one_sentence(values, message):
    with pytest.raises(UserError) as caught:
        parse(values, "mine", "here")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_overrides_on_the_command_line():
    assert override(Cluster(), ["gpus=1", "sbatch=--exclude=n1"]).sbatch == ("--exclude=n1",)
    for word, message in (("gpus", "has no value"), ("setup=rm", "cannot be set on the command line"), ("tme=1", "did you mean 'time'?")):
        with pytest.raises(UserError, match=re.escape(message)):
            override(Cluster(), [word])


def test_files_that_cannot_be_read(config_folder):
    config_folder.mkdir(parents=True)
    for text, message in (
        ("- a", "contains no KEY: VALUE lines"),
        ("a: [", "line 1: .*close brackets"),
        ("a: 1\na: 2", "line 2: the key a is there twice"),
        ("\ta: 1", "line 1: .*a tab"),
    ):
        (config_folder / "bad.yaml").write_text(text)
        with pytest.raises(UserError, match=message):
            load_cluster("bad", [HOME])
    for name in ("exampel", "../example", ""):
        with pytest.raises(UserError, match=r"unknown cluster .*sap-slurm init NAME writes"):
            load_cluster(name, [HOME])
    with pytest.raises(UserError, match="is not a valid cluster name"):
        check_name("../x")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 5400), ("1:30", 90), ("2:00:00", 7200), ("1-0", 86400), ("1-2:30", 95400), ("2-00:00:01", 172801)]
)
def test_times_as_sbatch_reads_them(text, seconds):
    assert parse_time(text) == seconds


@given(st.integers(0, 10**7))
def test_times_are_cut_to_minutes(seconds):
    assert parse_time(format_time(seconds)) == seconds // 60 * 60

"""Values of cluster files in all forms that sbatch takes, and what init makes of sinfo's lines."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from sap_core.errors import UserError
from slurm.__main__ import main
from slurm.batch import Sweep, header, prologue
from slurm.cluster import Cluster, override, parse, read_yaml
from slurm.init import Partition, fill_example, parse_gpus, parse_sinfo, suggest_values
from slurm.values import UNLIMITED, normalise_option, parse_time, shell_words, time_limit
from sweeper.jobs.job import SweepPaths

HOME = Path(__file__).resolve().parents[2]
SWEEP = Sweep("x", SweepPaths(Path("/d"), Path("/s"), Path("/a")), Path("/h"), "/venv/bin/python", Path("/s/plan"), tag="0a-1b")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 1800),
        ("1:30", 120),
        ("0:20", 60),
        ("0", UNLIMITED),
        ("UNLIMITED", UNLIMITED),
        ("infinite", UNLIMITED),
        ("1-0", 86400),
        ("2-1:1", 176460),
    ],
)
def test_limits_as_sbatch_grants_them(text, seconds):
    assert Cluster(time=text, warning_seconds=30).time == text
    assert time_limit(text) == seconds
    assert parse_time(text) <= seconds


@pytest.mark.parametrize("memory", ["0", "900", "64G", "64g", "64GB", "900m", "1T", "5K"])
@pytest.mark.parametrize("key", ["memory", "mem_per_cpu", "mem_per_gpu"])
def test_memory_in_every_form(memory, key):
    cluster = parse({key: memory, "gpus": "1"}, "mine", "here")
    assert getattr(cluster, key) == memory
    assert [line for line in header(cluster, SWEEP, "x", {}) if "mem" in line] == [
        f"#SBATCH --{key.replace('_', '-').replace('memory', 'mem')}={memory}"
    ]


@pytest.mark.parametrize("memory", ["1.5G", "64GiB", "G", "-1", "64 G"])
def test_memory_that_sbatch_refuses(memory):
    with pytest.raises(UserError, match="allowed: a number with K, M, G or T"):
        Cluster(memory=memory)


def test_one_form_of_memory_and_cores_replaces_the_others():
    cluster = parse({"memory": "64G", "cpus": "8", "gpus": "2", "processes": "2"}, "mine", "here")
    changed = override(cluster, ["mem_per_gpu=30G", "cpus_per_gpu=6"])
    assert (changed.memory, changed.mem_per_gpu, changed.cpu_count) == (None, "30G", 12)
    assert not any("--mem=" in line or "cpus-per-task" in line for line in header(changed, SWEEP, "x", {}))
    assert "#SBATCH --cpus-per-gpu=6" in header(changed, SWEEP, "x", {})
    assert override(changed, ["cpus=4", "memory=8G"]).resources["cpus-per-task"] == 4
    assert parse({"cpus": "null", "cpus_per_gpu": "3", "gpus": "1"}, "mine", "here").cpu_count == 3
    for values, message in (
        ({"memory": "1G", "mem_per_cpu": "1G"}, "memory=1G and mem_per_cpu=1G exclude each other"),
        ({"cpus": "1", "cpus_per_gpu": "1", "gpus": "1"}, "cpus and cpus_per_gpu exclude each other"),
        ({"mem_per_gpu": "1G"}, "mem_per_gpu=1G requires gpus"),
    ):
        with pytest.raises(UserError, match=message):
            parse(values, "mine", "here")


@pytest.mark.parametrize(
    ("line", "option", "words"),
    [
        ('--comment="my project"', "--comment=my project", '--comment="my project"'),
        ("--comment 'my project'", "--comment=my project", '--comment="my project"'),
        ("--comment=my project", "--comment=my project", '--comment="my project"'),
        ("--mail-type END, FAIL", "--mail-type=END,FAIL", "--mail-type=END,FAIL"),
        ("--mail-user=me@lab.org", "--mail-user=me@lab.org", "--mail-user=me@lab.org"),
        ("--exclusive", "--exclusive", "--exclusive"),
    ],
)
def test_options_with_spaces(line, option, words):
    assert normalise_option(line) == option
    cluster = parse({"sbatch": [line]}, "mine", "here")
    assert cluster.sbatch == (option,)
    assert header(cluster, SWEEP, "x", {})[-1] == f"#SBATCH {words}"
    # A comment of the user's own stays; the tag is in the name.
    assert sum("--comment" in each for each in header(cluster, SWEEP, "x", {})) == 1


@pytest.mark.parametrize(
    "line", ['--comment="$(id)"', "--comment='a;b'", '--comment="a', "--mem-per-cpu=1G", "--gpus=1", "--ntasks-per-node=2"]
)
def test_options_that_stay_refused(line):
    with pytest.raises(UserError, match="sbatch contains"):
        parse({"sbatch": [line]}, "mine", "here")


@pytest.mark.parametrize("line", ["--arra=1-9", "--outp=x", "--cluster=big", "--tim=1", "--gpu=1", "--comm=x", "--node=2"])
def test_a_shortened_option_is_refused(line):
    with pytest.raises(UserError, match="write the name of the option in full"):
        parse({"sbatch": [line]}, "mine", "here")


@pytest.mark.parametrize(
    "line", ["--nodelist=n1", "--nice", "--mem-bind=local", "--time-min=1", "--exclusive", "--clusters=big", "--begin=16:00"]
)
def test_whole_options_stay_allowed(line):
    assert parse({"sbatch": [line]}, "mine", "here").sbatch == (line,)


def test_a_key_or_an_option_twice_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("time: 1:00:00\ncpus: 1\ntime: 2:00:00\n")
    with pytest.raises(UserError, match=r"mine.yaml, line 3: the key time is there twice"):
        read_yaml(path)
    with pytest.raises(UserError, match=r"cluster.time is given twice"):
        override(Cluster(), ["time=1:00:00", "time=2:00:00"])
    with pytest.raises(UserError, match=r"sbatch contains --exclude twice"):
        override(Cluster(), ["sbatch=--exclude=n1", "sbatch=--exclude=n2"])
    assert override(Cluster(), ["sbatch=--exclude=n1", "sbatch=--exclusive"]).sbatch == ("--exclude=n1", "--exclusive")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("~/venv/bin/python", ["/home/me/venv/bin/python"]),
        ("$HOME/bin/run --bind ${HOME}/x:/x", ["/home/me/bin/run", "--bind", "/home/me/x:/x"]),
        ("apptainer exec '/images/my image.sif'", ["apptainer", "exec", "/images/my image.sif"]),
        ("run $(id) `id` a;b *", ["run", "$(id)", "`id`", "a;b", "*"]),
        ("run a~b $ $1 '$HOME'/x", ["run", "a~b", "$", "$1", "/home/me/x"]),
    ],
)
def test_home_is_expanded_on_the_node_and_nothing_else_runs(command, words):
    script = f"run=({shell_words(command)}); printf '%s\\0' \"${{run[@]}}\""
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env={"HOME": "/home/me", "PATH": "/usr/bin:/bin"}, check=True
    )
    assert done.stdout.split("\0")[:-1] == words


@pytest.mark.parametrize("scratch", ["~/scratch", "$HOME/scratch", "/scratch/${USER}", "/scratch/job-$SLURM_JOB_ID/x"])
def test_scratch_folders_are_expanded_and_private(tmp_path, scratch):
    assert Cluster(scratch=scratch).scratch == scratch
    lines = prologue(Cluster(scratch=scratch.replace("/scratch/", f"{tmp_path}/") if scratch.startswith("/") else scratch), SWEEP)
    start = next(number for number, line in enumerate(lines) if "TMPDIR=" in line)
    script = "\n".join([*lines[start : start + 2], 'stat -c %a "$TMPDIR"'])
    environment = {"HOME": str(tmp_path), "USER": "me", "SLURM_JOB_ID": "7", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "700\n"
    assert list(tmp_path.rglob("sap-7"))


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        ("gpu:4090:8", (8, "4090")),
        ("gpu:1g.5gb:7", (7, "1g.5gb")),
        ("gpu:a100:4(S:0-1)", (4, "a100")),
        ("gpu:2", (2, None)),
        ("gpu", (1, None)),
        ("(null)", (0, None)),
        ("gpu:a100:2(S:0,1),gpu:1g.5gb:14(IDX:0-13)", (14, "1g.5gb")),
        ("shard:32,gpu:nvidia_h100_80gb_hbm3:8", (8, "nvidia_h100_80gb_hbm3")),
        ("gres:gpu:v100:2", (2, "v100")),
    ],
)
def test_gpus_in_sinfos_words(gres, gpus):
    assert parse_gpus(gres) == gpus


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("up|gpu*|1-0|8|64000|gpu:2|4|a|b\n", [("gpu", 2, None, "a|b", True)]),
        (" down | gpu | 1-0 | 8 | 64000+ | gpu:A100:2 | 4 | (null) \n", [("gpu", 2, "A100", "null", False)]),
        ("cpu|1-0|8+|64000|gpu:NVIDIA A100:2|4|\n", [("cpu", 2, None, "", True)]),
        ("inact|x|1-0|8|64000|gpu:no_consume:4|4|x\n", [("x", 4, None, "x", False)]),
        ("Welcome|to|this|very|fine|cluster|of|ours\n*** down on Monday ***\n", []),
    ],
)
def test_lines_of_sinfo(text, found):
    assert [(one.name, one.gpus, one.gpu_type, one.features, one.up) for one in parse_sinfo(text)] == found


def test_init_takes_a_partition_that_is_up_and_refuses_a_sinfo_without_any(fake_slurm, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "sap-sweep/cluster/mine.yaml"
    fake_slurm.says("sinfo", "echo 'the site is closed'")
    assert main(["init", "mine"]) == 2
    assert "sinfo lists no partition (the site is closed)" in capsys.readouterr().err
    assert not path.exists()
    fake_slurm.says("sinfo", "echo 'down|big|1-0|8|64000|gpu:8|9|x'; echo 'up|small*|1-0|8|64000|(null)|1|x'")
    assert main(["init", "mine"]) == 0
    assert "partition: small" in path.read_text()
    assert "8 x GPU, at most 1-0, features x, down or closed now" in path.read_text()


@pytest.mark.parametrize(
    ("partition", "settings"),
    [
        (Partition("tiny", True, "1:00", 1, 1, 0, None, 2, ""), {"MaxArraySize": "0"}),
        (Partition("seconds", True, "0:30", 1, 100, 8, "4090", 2, ""), {"MaxArraySize": "1"}),
        (Partition("mig", True, "infinite", 64, 500000, 7, "1g.5gb", 2, ""), {}),
        (Partition("odd", True, "n/a", 0, 0, 0, None, 0, ""), {"MaxArraySize": "1001"}),
    ],
)
def test_what_init_writes_is_a_valid_cluster_file(partition, settings):
    text = fill_example((HOME / "conf/cluster/example.yaml").read_text(), [partition], settings)
    cluster = parse(yaml.load(text, Loader=yaml.BaseLoader), "mine", "here")
    assert cluster.partition == partition.name
    assert (cluster.mode == "ray") == (settings.get("MaxArraySize") == "0")
    if partition.memory <= 1:
        assert cluster.memory is None
    assert re.fullmatch(r"\d\d:\d\d:00", cluster.time)
    assert suggest_values(partition, settings)["gpu_type"] == partition.gpu_type

"""The plain batch script: its text, safe values, and the command that prints it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sap_core.errors import UserError
from slurm.__main__ import COMMANDS, main
from slurm.script import Request, parse_request, script

GOLDEN = Path(__file__).parent / "golden" / "script.sh"


def shell_of(*command: str) -> str:
    return script(Request(), command, Path("/home/me/sap sweep"), "/home/me/venv/bin/python", ["/home/me/sap sweep"])


def test_the_text_matches_the_golden_file():
    request = Request("table1", "long", "lab-7", "high", "a100", gpus=2, cpus=16, memory="64G", time="1-00:00:00")
    command = ["experiment=table1", "only=network=resnet18 method=sap,scrub"]
    assert script(request, command, Path("/home/me/sap sweep"), "/home/me/venv/bin/python", ["/home/me/sap sweep"]) == GOLDEN.read_text()


def test_unset_options_are_omitted():
    text = shell_of("experiment=demo")
    assert "--partition" not in text
    assert "--gpus" not in text
    assert "cuda" not in text
    assert "#SBATCH --cpus-per-task=4" in text


def test_overrides_reach_the_sweep_unchanged(tmp_path):
    """The script, run by bash, hands every override over as it was, whatever it looks like."""
    nasty = ["a b", "$(touch {})".format(tmp_path / "owned"), "`id`", "x;y", "'quoted'", '"double"', "a\nb", "$HOME", "&", "*", "\\"]
    spy = tmp_path / "python"
    spy.write_text(f'#!/usr/bin/env bash\nshift 2\nprintf "%s\\0" "$@" > {tmp_path}/words\npwd > {tmp_path}/place\n')
    spy.chmod(0o755)
    folder = tmp_path / "a $HOME; folder"
    folder.mkdir()
    done = subprocess.run(
        ["bash"], input=script(Request(), nasty, folder, str(spy)), text=True, capture_output=True, check=False, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "words").read_text().split("\0")[:-1] == ["backend=local", *nasty]
    assert (tmp_path / "place").read_text() == f"{folder}\n"
    assert not (tmp_path / "owned").exists()


def test_the_sweeps_exit_code_is_the_jobs(tmp_path):
    spy = tmp_path / "python"
    spy.write_text("#!/usr/bin/env bash\nexit 7\n")
    spy.chmod(0o755)
    assert subprocess.run(["bash"], input=script(Request(), [], tmp_path, str(spy)), text=True, check=False, timeout=30).returncode == 7


def test_term_is_forwarded_to_the_sweep(tmp_path):
    spy = tmp_path / "python"
    spy.write_text(
        f"#!/usr/bin/env bash\ntrap 'echo stored > {tmp_path}/state; exit 130' TERM\ntouch {tmp_path}/up\nwhile :; do sleep 0.05; done\n"
    )
    spy.chmod(0o755)
    (tmp_path / "job.sh").write_text(script(Request(), [], tmp_path, str(spy)))
    with subprocess.Popen(["bash", str(tmp_path / "job.sh")]) as job:
        for _ in range(200):
            if (tmp_path / "up").exists():
                break
            with pytest.raises(subprocess.TimeoutExpired):
                job.wait(0.05)
        job.terminate()
        assert job.wait(10) != 0
    assert (tmp_path / "state").read_text() == "stored\n"


@pytest.mark.parametrize("field", ["job_name", "partition", "account", "qos", "constraint", "memory", "time"])
def test_unsafe_characters_are_refused(field):
    for value in ("a b", "a\n#SBATCH --x", "$(id)", "a;b", "`id`", "é", "", "a'b", 'a"b', "a>b"):
        with pytest.raises(UserError, match=f"{field}=.* is not allowed in a batch script"):
            Request(**{field: value})


@pytest.mark.parametrize(("field", "value"), [("time", "1.5h"), ("time", "60m"), ("memory", "1.5G"), ("memory", "64GiB")])
def test_forms_that_sbatch_does_not_take_are_refused(field, value):
    with pytest.raises(UserError, match=f"{field}='{value}' is not allowed in a batch script; allowed: .*, as in"):
        Request(**{field: value})


def test_a_constraint_of_two_features_is_allowed():
    assert "#SBATCH --constraint=a100|h100" in script(Request(constraint="a100|h100"), [], Path("/x"), "python")


def test_slurm_keys_are_separated_from_overrides_of_the_sweep():
    request, rest = parse_request(["experiment=demo", "slurm.gpus=2", "slurm.time=1:00:00", "trainer.epochs=2", "slurm.job_name=a=b"])
    assert request == Request(job_name="a=b", gpus=2, time="1:00:00")
    assert rest == ["experiment=demo", "trainer.epochs=2"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("slurm.gpu=1", "unknown key 'gpu' in slurm (did you mean 'gpus'?); allowed: job_name, partition,"),
        ("slurm.gpus=two", "slurm.gpus='two' must be a whole number"),
        ("slurm.gpus=-1", "slurm.gpus='-1' must be a whole number"),
        ("slurm.gpus=²", "must be a whole number"),
        ("slurm.gpus", "'slurm.gpus' has no value; write slurm.gpus=VALUE"),
        ("slurm.time=", "'slurm.time=' has no value"),
        ("slurm.time=1 slurm.time=2", "slurm.time is given twice"),
    ],
)
def test_mistakes_are_one_sentence(word, message):
    with pytest.raises(UserError) as caught:
        parse_request(word.split())
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["submitt"], "unknown command 'submitt' in sap-slurm"),
        (["script", "experiment=dmo"], "unknown experiment 'dmo' (did you mean 'demo'?)"),
        (["script", "experiment=demo", "trainer.epochs=many"], "trainer.epochs='many'"),
        (["script", "experiment=demo", "slurm.gpu=1"], "unknown key 'gpu' in slurm"),
        (["script", "experiment=demo", "only=method"], "only='method'"),
    ],
)
def test_the_command_refuses_before_it_prints(capsys, words, message):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err


def test_the_command_prints_a_script_for_this_checkout(capsys):
    assert main(["script", "experiment=demo", "slurm.gpus=1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("#!/usr/bin/env bash\n#SBATCH --job-name=sap-sweep\n")
    assert "-m sweeper backend=local backend.device=cuda experiment=demo &" in out
    assert subprocess.run(["bash", "-n"], input=out, text=True, check=False).returncode == 0


def test_an_installed_copy_is_found_by_its_interpreter_and_works_in_the_given_folder(tmp_path):
    (tmp_path / "python").write_text('#!/usr/bin/env bash\necho "$PWD|$SAP_SWEEP_HOME|${PYTHONPATH-}|$PYTHONSAFEPATH"\n')
    (tmp_path / "python").chmod(0o755)
    text = script(Request(), [], tmp_path, str(tmp_path / "python"))
    shell = {"PATH": os.environ["PATH"], "SAP_SWEEP_HOME": "/of/another/shell"}
    done = subprocess.run(["bash"], input=text, text=True, capture_output=True, check=True, timeout=30, env=shell)
    assert done.stdout == f"{tmp_path}|{tmp_path}||1\n"


def test_folders_of_configuration_files_do_not_depend_on_where_the_job_starts(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    assert main(["script", "experiment=demo", "--config-dir", "conf"]) == 0
    assert f"experiment=demo --config-dir {tmp_path}/conf &" in capsys.readouterr().out


def test_help(capsys):
    for arguments in ([], ["--help"], ["-h"]):
        assert main(arguments) == 0
        usage = capsys.readouterr().out
        assert all(f"\n  {name}  " in usage for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command(name, capsys):
    assert main([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: sap-slurm {name} ")

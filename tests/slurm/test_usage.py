"""Help, unknown options and mistakes of `sap-slurm`, without Slurm."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from slurm.__main__ import COMMANDS, main
from slurm.arguments import absolute_folders
from slurm.usage import parser, parsers


def test_the_parsers_are_those_of_the_commands():
    assert set(parsers()) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_a_description_the_arguments_and_examples(name, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "")
    for words in ([name, "-h"], ["help", name], [name, "experiment=demo", "--help"]):
        assert main(words) == 0
        printed = capsys.readouterr().out
        assert printed.startswith(f"usage: sap-slurm {name} ")
    lines = re.findall(rf"^  sap-slurm {name}\b(.*)$", printed, re.M)
    assert lines
    for line in lines:
        parser(name).parse_intermixed_args(shlex.split(line))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["submitt"], "unknown command 'submitt' in sap-slurm (did you mean 'submit'?)"),
        (["submitt", "--help"], "(did you mean 'submit'?)"),
        (["submit", "--conifg-dir", "x"], "unknown option '--conifg-dir' in sap-slurm submit (did you mean '--config-dir'?)"),
        (["status", "--json"], "unknown option '--json' in sap-slurm status; allowed: --help"),
        (["init"], "sap-slurm init needs a name for the cluster, as in sap-slurm init mine"),
        (["submit", "experiment=demo", "--plugins"], "--plugins has no value"),
    ],
)
def test_mistakes_are_one_sentence_with_a_suggestion(words, said, capsys):
    assert main(words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("answer", [None, "sinfo: error: lookup failed\\nsinfo: fatal: Could not establish a configuration source"])
def test_init_without_slurm_is_one_sentence(answer, tmp_path, monkeypatch, capsys):
    """Without Slurm's programs, and with programs that find no cluster."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    if answer is not None:
        (tmp_path / "sinfo").write_text(f"#!/bin/sh\nprintf '{answer}' >&2\nexit 1\n")
        (tmp_path / "sinfo").chmod(0o755)
    assert main(["init", "mine"]) == 2
    err = capsys.readouterr().err
    assert "Slurm does not answer on this machine" in err
    assert "run it on a login node of the cluster, or copy " in err
    assert err.count("\n") == 1
    assert answer is None or ("Could not establish" in err and "lookup" not in err)
    assert not (tmp_path / "sap-sweep").exists()


def test_batch_jobs_are_told_the_path_of_a_plugin(tmp_path, monkeypatch):
    (tmp_path / "told_plugin").mkdir()
    monkeypatch.chdir(tmp_path)
    assert absolute_folders(["plugins=[told_plugin,torch]", "--config-dir", "conf"]) == [
        f"plugins=[{Path.cwd()}/told_plugin,torch]", "--config-dir", f"{Path.cwd()}/conf",
    ]  # fmt: skip

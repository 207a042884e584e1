"""Completion: what the programs answer a shell, and that bash, zsh and fish ask them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sap_core.completion import SHELLS, similar_store, stores

HOME = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def asked(line, tmp_path, program=None):
    """The completions of a line, as argcomplete's scripts ask for them."""
    words = line.split()
    out = tmp_path / "completions"
    environment = {
        **os.environ, "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9", "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_SHELL": "fish", "_ARGCOMPLETE_STDOUT_FILENAME": str(out),
    }  # fmt: skip
    command = [sys.executable, "-m", {"sap-sweep": "sweeper", "sap-report": "analysis", "sap-slurm": "slurm"}[words[0]]]
    subprocess.run(command, env=environment, cwd=HOME, timeout=100, check=False, capture_output=True)
    return out.read_text().split("\n") if out.exists() else []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sap-sweep lis", {"list"}),
        ("sap-sweep list met", {"method"}),
        ("sap-sweep experiment=demo noise=symm", {"symmetric"}),
        ("sap-sweep run experiment=demo methods=[sap,scr", {"methods=[sap,scrub", "methods=[sap,scrub_steps"}),
        ("sap-sweep check --conf", {"--config-dir"}),
        ("sap-sweep compact examples/d", {"examples/demo"}),
        ("sap-report examples/demo stat", {"status"}),
        ("sap-report examples/demo table recom", {"recommendation"}),
        ("sap-report examples/demo plot tuning", {"tuning_cost", "tuning_trials"}),
        ("sap-report examples/demo table comparison --format la", {"latex"}),
        ("sap-slurm subm", {"submit"}),
        ("sap-slurm submit experiment=demo cluster=exa", {"example"}),
    ],
)
def test_programs_answer_a_shell(line, expected, tmp_path):
    found = {one.split("=")[-1] if "methods" not in one else one for one in asked(line, tmp_path)}
    assert expected <= {one.replace("\\", "").strip() for one in found}


@pytest.mark.slow
def test_keys_of_the_configuration_are_completed(tmp_path):
    assert "trainer.epochs=" in [one.strip() for one in asked("sap-sweep experiment=demo trainer.ep", tmp_path)]


SCRIPTS = {
    "bash": "eval \"$(sap-sweep completion bash)\"; COMP_LINE='sap-slurm sub'; COMP_POINT=13; COMP_TYPE=9; COMP_CWORD=1;"
    ' COMP_WORDS=(sap-slurm sub); _python_argcomplete sap-slurm; echo "${COMPREPLY[@]}"',
    "fish": "sap-sweep completion fish | source; complete -C 'sap-slurm sub'",
    # zsh completes in its line editor only, so its test ends with the registration.
    "zsh": 'autoload -U compinit && compinit -u -D; eval "$(sap-sweep completion zsh)"; echo $_comps[sap-slurm] submit',
}


@pytest.mark.parametrize("shell", SHELLS)
def test_shells_ask_the_programs(shell):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    options = {"bash": ["--norc"], "fish": ["--no-config"], "zsh": ["-f"]}[shell]
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [shell, *options, "-c", SCRIPTS[shell]], env=environment, cwd=HOME, capture_output=True, text=True, timeout=100, check=False
    )
    assert "submit" in done.stdout, done.stderr
    assert shell != "zsh" or "_python_argcomplete" in done.stdout


def test_stores_and_folders_that_may_contain_some(tmp_path, monkeypatch):
    for name in ("results/demo", "results/table1", "results/notes", "results/.hidden"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("demo", "table1"):
        (tmp_path / "results" / name / "plan.parquet").touch()
    monkeypatch.chdir(tmp_path)
    assert stores() == {"results/demo": "store", "results/table1": "store", "results/": "folder"}
    assert stores("results/d") == {"results/demo": "store"}
    assert stores("none/") == {}
    assert similar_store(Path("results/dme")) == " (did you mean 'results/demo'?)"
    assert similar_store(Path("demo")) == " (did you mean 'results/demo'?)"
    # Never one that does not exist, and none of several.
    assert similar_store(Path("results/quite_different")) == similar_store(Path("results")) == ""

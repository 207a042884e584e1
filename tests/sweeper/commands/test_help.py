"""Help of every command, one-line errors, and imports of commands."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from sap_core.command_line import Parser
from sweeper.__main__ import main
from sweeper.commands import COMMANDS, command

HOME = Path(__file__).parents[3]
DEMO = HOME / "examples/demo"
RUN_ALL = """
import json, sys
program, refused, lines = sys.argv[1], set(sys.argv[2].split()), json.loads(sys.argv[3])
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in refused:
            raise AssertionError(f"{name} is imported")
sys.meta_path.insert(0, Refuse())
main = __import__(f"{program}.__main__", fromlist=["main"]).main
for line in lines:
    sys.argv = [program, *line]
    try:
        code = main(line)
    except SystemExit as end:
        code = end.code
    assert code in (0, None, 2), (line, code)
"""


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_usage_arguments_and_examples(capsys, name):
    for words in ([name, "--help"], [name, "-h"], [name, "results/demo", "--help"]):
        assert main(words) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        assert printed.out.startswith(f"usage: sap-sweep {name} ")
        assert COMMANDS[name].summary[1:] in printed.out
    arguments = re.search(r"positional arguments:\n(.*?)\n\n", printed.out, re.S)
    assert arguments is not None
    lines = re.findall(rf"^  (sap-sweep {name}\b.*)$", printed.out, re.M)
    assert lines
    parser = Parser(f"sap-sweep {name}", "")
    command(name).add_arguments(parser)
    for line in lines:
        parser.parse_intermixed_args(shlex.split(line)[2:])


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option_is_one_sentence(capsys, name):
    words = {
        "rerun": ["store", "id"],
        "track": ["store"],
        "verify": ["store"],
        "compact": ["store"],
        "replay": ["store"],
        "convert": ["a", "b"],
    }.get(name, [])
    assert main([name, *words, "--colour"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"error: unrecognized arguments: --colour; sap-sweep {name} --help lists its arguments\n"


def test_a_mistyped_command_is_named(capsys):
    assert main(["chekc", "method=sap"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown command 'chekc' in sap-sweep (did you mean 'check'?); allowed: list, check")


@pytest.mark.parametrize(
    ("program", "refused", "lines"),
    [
        ("sweeper", "torch ray hydra omegaconf wandb pandas", [[], ["--help"], ["list"], *([name, "--help"] for name in COMMANDS)]),
        ("sweeper", "torch ray hydra optuna", [["compact", "STORE"], ["track", "STORE", "mode=live"], ["rerun", "STORE", "x"]]),
        ("sweeper", "torch ray", [["experiment=demo", "--cfg", "job"], ["experiment=demo", "seeds=1,2"], ["experiment=dmo"]]),
        ("analysis", "torch ray hydra omegaconf matplotlib", [["--help"], ["STORE", "status"], ["STORE", "table", "--help"]]),
        ("slurm", "torch ray hydra omegaconf", [["--help"], ["status", "STORE"]]),
    ],
)  # fmt: skip
def test_torch_and_ray_are_not_loaded(shell, tmp_path, program, refused, lines):
    """An import of a refused package ends the process with a traceback."""
    shutil.copytree(DEMO, tmp_path / "demo", ignore=shutil.ignore_patterns("report"))  # `compact` writes to it
    lines = [[str(tmp_path / "demo") if word == "STORE" else word for word in line] for line in lines]
    done = shell("-c", RUN_ALL, program, refused, json.dumps(lines))
    assert done.returncode == 0, done.stderr

"""Help of every command, one-line errors, and imports of commands."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from sweeper.__main__ import main
from sweeper.commands import COMMANDS, parser, parsers

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
    # 1: a part of what was asked is unknown, such as the queue of a machine without Slurm.
    assert code in (0, None, 1, 2), (line, code)
"""


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_usage_arguments_and_examples(capsys, name):
    for words in ([name, "results/demo", "--help"], [name, "-h"], ["help", name], [name, "--help"]):
        assert main(words) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        assert printed.out.startswith(f"usage: sap-sweep {name} ")
        assert COMMANDS[name].summary[1:] in printed.out
    arguments = re.search(r"positional arguments:\n(.*?)\n\n", printed.out, re.S)
    assert arguments is not None
    lines = re.findall(rf"^  (sap-sweep {name}\b.*)$", printed.out, re.M)
    assert lines
    for line in lines:
        parser(name).parse_intermixed_args(shlex.split(line)[2:])


def test_the_parsers_are_those_of_the_commands():
    assert list(parsers()) == list(COMMANDS)
    assert all(found.description for found in parsers().values())


def test_run_is_the_default_command(monkeypatch, capsys):
    monkeypatch.setattr("sweeper.commands.run.run", lambda options: print(options.overrides, options.config_dir) or 0)
    given = ["experiment=demo", "--config-dir", "conf", "seeds=[1]", "--plugins", "a,b"]
    assert main(given) == 0
    assert main(["run", *given]) == 0
    one, other = capsys.readouterr().out.splitlines()
    assert one == other == "['experiment=demo', 'seeds=[1]', 'plugins=[a,b]'] [PosixPath('conf')]"


def test_export_is_the_key_of_the_sweep(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("sweeper.commands.export.run_sweep", lambda options: print(options.overrides) or 0)
    monkeypatch.chdir(tmp_path)
    assert main(["export", "experiment=demo", "-o", "a b.jsonl"]) == 0
    assert capsys.readouterr().out == f"['experiment=demo', \"export='{tmp_path}/a b.jsonl'\"]\n"
    for words, said in (
        (["experiment=demo"], "needs the file to write"),
        (["experiment=demo", "export=x", "-o", "y"], "names its file with --output FILE"),
        (["-o", "y"], "needs the arguments of a sweep"),
    ):
        assert main(["export", *words]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option_is_one_sentence(capsys, name):
    words = {
        "rerun": ["store", "id"],
        "track": ["store"],
        "verify": ["store"],
        "compact": ["store"],
        "replay": ["store"],
        "convert": ["a", "b"],
        "completion": ["bash"],
    }.get(name, [])
    assert main([name, *words, "--colour"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    allowed = ", ".join(parser(name).option_names())
    if name == "run":
        # Hydra's options are allowed as well.
        assert printed.err.startswith(
            "error: unknown option '--colour' in sap-sweep run; allowed: --config-dir, --multirun, --plugins, --help, "
        )
        return
    near = " (did you mean '--follow'?)" if name == "track" else ""
    said = f"unknown option '--colour' in sap-sweep {name}{near}; allowed: {allowed}; sap-sweep {name} --help explains them"
    assert printed.err == f"error: {said}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["chekc", "method=sap"], "unknown command 'chekc' in sap-sweep (did you mean 'check'?); allowed: run, list, check"),
        (["lst"], "(did you mean 'list'?)"),
        (["lst", "--help"], "(did you mean 'list'?)"),
        (["rnu", "experiment=demo"], "(did you mean 'run'?)"),
        (["dmeo"], "to run the experiment demo, write sap-sweep experiment=demo"),
        (["run"], "sap-sweep run needs KEY=VALUE, as in sap-sweep run experiment=demo"),
        (["experiment=demo", "results/demo", "--help"], "cannot read the argument 'results/demo'; write key=value"),
        (["experiment"], "'experiment' has no value; write experiment=NAME, and sap-sweep list experiment lists the names"),
        (["noise=none", "list"], "the command comes first: sap-sweep list noise=none"),
        (["list", "metod"], "(did you mean 'method'?)"),
        (["completion", "bsh"], "unknown value 'bsh' in SHELL (did you mean 'bash'?)"),
        (["prepare", "experiment=demo", "--donwload"], "unknown option '--donwload' in sap-sweep prepare (did you mean '--download'?)"),
        (["experiment=demo", "--conifg-dir", "x"], "(did you mean '--config-dir'?)"),
        (["experiment=demo", "method=scurb"], "(did you mean 'scrub'?)"),
        (["experiment=demo", "method=scrub"], "a sweep has a list of them; write 'methods=[scrub]'"),
        (["compact", str(DEMO)[:-1]], f"(did you mean '{DEMO}'?)"),
        (["verify", str(DEMO.parent)], f"(did you mean '{DEMO}'?)"),
        (["experiment=demo", "--plugins"], "--plugins has no value"),
        (["experiment=demo", "plugins=[a]", "--plugins", "b"], "--plugins and plugins= are the same"),
    ],
)
def test_mistakes_are_one_sentence_with_a_suggestion(capsys, words, said):
    assert main(words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


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

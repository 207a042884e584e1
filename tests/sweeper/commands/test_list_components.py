"""`sap-sweep list`: one line for every choice, from its YAML file."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper.__main__ import main
from sweeper.config.choices import described_choices, first_line

HOME = Path(__file__).parents[3]
LONGEST = 110
EVERY = [(group, name, line) for group, names in described_choices([HOME / "examples/conf"]).items() for name, line in names.items()]


def test_every_choice_is_described_in_one_line():
    """The first comment line of each YAML is listed: it exists, fits a screen and ends a sentence."""
    wrong = [f"{group}/{name}.yaml: {line!r}" for group, name, line in EVERY if not 0 < len(line) <= LONGEST or line[-1] not in ".:)"]
    assert not wrong, "\n".join(wrong)


def test_every_yaml_file_is_listed():
    listed = {(group, name) for group, name, _ in EVERY}
    assert listed == {(path.parent.name, path.stem) for folder in ("conf", "examples/conf") for path in (HOME / folder).glob("*/*.yaml")}
    assert {("experiment", "table1"), ("method", "sap"), ("trainer", "sgd"), ("method", "refit_head")} <= listed


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("# What it is.\n# More.\nname: x\n", "What it is."),
        ("# @package _global_\n# What it is.\n", "What it is."),
        ("\n#\n# What it is.\n", "What it is."),
        ("name: x\n# Too late.\n", ""),
        ("", ""),
    ],
)
def test_the_line_is_the_first_comment(text, line):
    assert first_line(text) == line


def run(capsys, *words):
    code = main(["list", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_group_is_listed_alone(capsys):
    code, out, _ = run(capsys, "method")
    assert code == 0
    assert out.startswith("method: corrective methods")
    assert "\n  scrub " in out
    assert "\ndataset" not in out


def test_own_folders_are_listed_and_shipped_files_take_precedence(capsys, tmp_path):
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text("# Mine.\nname: mine\n")
    (tmp_path / "method" / "sap.yaml").write_text("# Not the one that runs.\n")
    (tmp_path / "method" / "readme.txt").write_text("# No choice.\n")
    code, out, _ = run(capsys, "--config-dir", str(tmp_path), "method")
    assert code == 0
    assert ["mine", "Mine."] in [line.split(maxsplit=1) for line in out.splitlines()]
    assert "Not the one" not in out
    assert "readme" not in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["methods"], "unknown group 'methods' in sap-sweep list GROUP (did you mean 'method'?); allowed: experiment, dataset"),
        (["method", "noise"], "unrecognized arguments: noise; sap-sweep list --help lists its arguments"),
        (["--config-dir", "/none"], "--config-dir /none is not a folder"),
    ],
)
def test_mistakes_are_one_sentence(capsys, words, said):
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert said in err


def test_it_loads_no_torch(shell):
    done = shell("-c", "import sys; from sweeper.__main__ import main; main(['list']); assert 'torch' not in sys.modules")
    assert done.returncode == 0, done.stderr

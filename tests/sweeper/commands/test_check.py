"""`sap-sweep check`: the command, its messages and exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper.__main__ import main
from sweeper.config.search_space import SearchSpace
from sweeper.contracts.correctors import CORRECTOR_CHECKS
from sweeper.contracts.small import small_recipe, small_settings
from sweeper.contracts.trainers import TRAINER_CHECKS

HOME = Path(__file__).parents[3]


def test_settings_are_scaled_to_the_toys():
    scaled = small_recipe({"epochs": 100, "warmup_epochs": 30, "batch_size": 64, "rate": 0.1, "nesterov": True}, kept=["rate"])
    assert scaled == {"epochs": 4, "warmup_epochs": 1, "batch_size": 16, "rate": 0.1, "nesterov": True}
    assert small_recipe({"epochs": 100}, kept=["epochs"]) == {"epochs": 100}
    space = SearchSpace.parse("mine", {"a": {"grid": [1.0, 2.0]}, "depth": {"randint": [3, 9]}})
    rows = small_settings(
        {"num_retain": None, "num_forget": 500, "retain_batch": 64}, space, {"num_retain": "retain", "num_forget": "forget"}
    )
    assert [(row["a"], row["depth"]) for row in rows] == [(1.0, 3), (1.0, 8), (2.0, 3), (2.0, 8)]
    assert all((row["num_retain"], row["num_forget"], row["retain_batch"]) == (24, 10, 8) for row in rows)


def run(capsys, *words):
    code = main(["check", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_checks_of_an_own_method_pass(capsys):
    code, out, _ = run(capsys, "method=refit_head", "plugins=[examples]", "--config-dir", str(HOME / "examples/conf"))
    assert code == 0
    *lines, last = out.splitlines()
    assert len(lines) == len(CORRECTOR_CHECKS)
    assert all(line.startswith("passed  ") for line in lines)
    assert last == f"method=refit_head: {len(CORRECTOR_CHECKS)} of {len(CORRECTOR_CHECKS)} checks passed on 80 synthetic images"


def test_the_command_ends_with_1_when_a_check_fails(capsys, monkeypatch, tmp_path):
    (tmp_path / "ownparts.py").write_text(
        "import torch\nfrom typing import ClassVar\nfrom trainers.sgd import SGD\n\n\nclass Draws(SGD):\n"
        "    name: ClassVar[str] = 'draws'\n"
        "    def fit(self, task, run):\n        torch.rand(1)\n        return super().fit(task, run)\n"
    )
    (tmp_path / "conf" / "trainer").mkdir(parents=True)
    (tmp_path / "conf" / "trainer" / "draws.yaml").write_text("# Draws.\nname: draws\n_target_: ownparts.Draws\nepochs: 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    code, out, _ = run(capsys, "trainer=draws", "plugins=[ownparts]", "--config-dir", str(tmp_path / "conf"))
    assert code == 1
    (line,) = [line for line in out.splitlines() if line.startswith("failed")]
    assert "fit() draws from torch's global generator" in line
    assert f"{len(TRAINER_CHECKS) - 1} of {len(TRAINER_CHECKS)} checks passed" in out


METHOD = """
import copy
from dataclasses import dataclass
from typing import ClassVar

import torch

from sap_core.api import Fitted, Passes, Selection
from trainers.sgd import SGD


@dataclass{frozen}
class Mine:
    name: ClassVar[str] = "mine"
    version: ClassVar[int] = 1
    threshold: float = 0.5

    def needs(self):
        return frozenset()

    def family(self):
        return {key}

    def computation(self):
        return self

    @classmethod
    def correct(cls, settings, model, task, run):
        for which, setting in enumerate(settings):
            with run.meter("correct", used_by=[which]), torch.no_grad():
                corrected = {corrected}
                corrected.head.bias.clamp_(-setting.threshold, setting.threshold)
            yield which, corrected

    @classmethod
    def forecast(cls, settings, sizes):
        return Passes()


@dataclass{frozen}
class MyTrainer:
    name: ClassVar[str] = "mine"
    version: ClassVar[int] = 1
    epochs: int = 2

    def recipe(self):
        return SGD(epochs=self.epochs, learning_rate=0.05, batch_size=16, schedule="constant")

    def fit(self, task, run):
        return self.recipe().fit(task, run)

    def forecast(self, sizes):
        return self.recipe().forecast(sizes)


@dataclass{frozen}
class MyPruner:
    name: ClassVar[str] = "mine"
    version: ClassVar[int] = 1
    seed: int = 2

    def select(self, task, warm, keep, run):
        return Selection(task.train.index[: round(keep * len(task.train))], torch.zeros(len(task.train)))

    def forecast(self, sizes):
        return Passes()
"""


@pytest.fixture
def check_mine(capsys, monkeypatch, tmp_path):
    """check_mine(words, frozen, key, corrected, space): checks a component of a package of its own, as a user would write it."""

    def check(word, frozen="(frozen=True)", key="()", corrected="copy.deepcopy(model)", space="{threshold: {grid: [0.01]}}"):
        package = f"mine_{tmp_path.name}"
        (tmp_path / f"{package}.py").write_text(METHOD.format(frozen=frozen, key=key, corrected=corrected))
        for group, content in (
            ("method", f"corrector: {{_target_: {package}.Mine}}\nspaces: {{only: {space}}}"),
            ("trainer", f"_target_: {package}.MyTrainer\nepochs: 2"),
            ("pruner", f"_target_: {package}.MyPruner\nseed: 2"),
        ):
            (tmp_path / "conf" / group).mkdir(parents=True)
            (tmp_path / "conf" / group / "mine.yaml").write_text(f"# Mine.\nname: mine\n{content}\n")
        monkeypatch.syspath_prepend(tmp_path)
        return run(capsys, *word.split(), f"plugins=[{package}]", "--config-dir", str(tmp_path / "conf"))

    return check


def failed_lines(out):
    return [line for line in out.splitlines() if line.startswith("failed")]


def test_a_method_that_returns_the_given_network_changed_fails_one_check(check_mine):
    code, out, _ = check_mine("method=mine", corrected="model")
    assert code == 1
    (line,) = failed_lines(out)
    assert line.startswith("failed  it does not modify the given network and samples")
    assert "the given network was modified (in 'head.bias')" in line


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("{threshold: {gird: [0.1, 0.2]}}", "unknown domain type 'gird' in the space of 'threshold' (did you mean 'grid'?)"),
        ("{threshold: [0.1, 0.2]}", "field 'threshold' of space 'only' needs exactly one of grid, choice"),
        ("{threshold: {grid: [0.1, 0.1]}}", "the space of 'threshold' names a value twice"),
        ("{threshold: {grid: []}}", "the space of 'threshold' is empty"),
        ("{threshold: {loguniform: [0.0, 0.1]}}", "must be above 0 for 'loguniform'"),
    ],
)
def test_a_space_that_a_sweep_refuses_is_refused(check_mine, space, said):
    code, out, err = check_mine("method=mine", space=space)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("group", ["method", "trainer", "pruner"])
def test_a_forgotten_frozen_fails_the_first_check_alone(check_mine, group):
    code, out, err = check_mine(f"{group}=mine", frozen="", key="self")
    assert (code, err) == (1, "")
    (line,) = failed_lines(out)
    assert line.startswith("failed  it is a frozen dataclass with the interface of a")
    assert "is not a frozen dataclass; write @dataclass(frozen=True) above it" in line


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (
            "[self.threshold]",
            "family() of Mine(threshold=0.01) returns a key that cannot be hashed (unhashable type: 'list'); return a tuple",
        ),
        ("self.thresold", "'Mine' object has no attribute 'thresold'"),
    ],
)
def test_a_family_that_is_no_key_fails_the_first_check(check_mine, key, said):
    code, out, _ = check_mine("method=mine", key=key)
    assert code == 1
    assert said in failed_lines(out)[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "sap-sweep check needs a component; give trainer=NAME, pruner=NAME or method=NAME"),
        (["method=spa"], "unknown method 'spa' in sap-sweep check (did you mean 'sap'?)"),
        (["method=sap@al"], "unknown space 'al' in method sap"),
        (["trainer=sgdd"], "unknown trainer 'sgdd' (did you mean 'sgd'?)"),
        (["pruner=none"], "pruner=none selects nothing"),
        (["trainer=sgd", "trainer.epoch=3"], "unknown key 'epoch' in trainer (did you mean 'epochs'?)"),
    ],
)
def test_mistakes_are_one_sentence(capsys, words, said):
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_a_key_that_a_method_file_does_not_have_is_refused_as_in_a_sweep(check_mine, tmp_path, capsys):
    check_mine("method=mine")
    path = tmp_path / "conf" / "method" / "mine.yaml"
    path.write_text(path.read_text().replace("spaces:", "space:"))
    code, out, err = run(capsys, "method=mine", f"plugins=[mine_{tmp_path.name}]", "--config-dir", str(tmp_path / "conf"))
    assert (code, out) == (2, "")
    assert "unknown key 'space' in method.mine (did you mean 'spaces'?)" in err

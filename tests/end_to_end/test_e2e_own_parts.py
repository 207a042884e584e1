"""Components of all six groups from a user's own package and configuration folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from sweeper.__main__ import main

HERE = Path(__file__).parent
SIX = {
    "dataset": "standins.data.Patterns", "noise": "standins.noises.Next", "model": "standins.elsewhere.build",
    "trainer": "standins.trainers.Remembering", "pruner": "standins.pruners.ByMemory",
    "method.goes_wrong.corrector": "standins.correctors.GoesWrong",
}  # fmt: skip


@pytest.fixture
def sweep(capsys, monkeypatch):
    """sweep(words...): (exit code, standard error) of the command in this process."""
    monkeypatch.syspath_prepend(str(HERE / "plugins"))

    def start(*words, command=()):
        code = main([*command, *words, "--config-dir", str(HERE / "yaml")])
        said = capsys.readouterr()
        return code, said.out + said.err

    yield start
    for name in [name for name in sys.modules if name.partition(".")[0] == "standins"]:
        del sys.modules[name]


@pytest.mark.slow
def test_own_components_of_all_groups_run_together(bench):
    end = bench.run("six", "experiment=six", "methods=[goes_wrong@fine,goes_wrong@selecting]", "backend.workers=1")
    assert end.code == 0, end.err
    rows = bench.store("six").rows()
    assert len(rows) == 3 + 6 + 2  # warm-up, selection, baseline; settings of two spaces
    assert {row["status"] for row in rows} == {"ok"}
    for row in rows:
        assert (row["dataset"], row["noise"], row["network"], row["trainer"]) == ("patterns", "next", "elsewhere", "remembering")
        assert row["noise_rate_measured"] > 0.15
    assert {row["method"] for row in rows} == {"vanilla", "by_memory", "goes_wrong"}
    used = {json.loads(row["settings"])["how"]: (row["information"], row["num_trusted"]) for row in rows if row["method"] == "goes_wrong"}
    assert used == {"well": ("none", None), "selects": ("scored", 5)}, "what a corrector selects is recorded although it declares nothing"


@pytest.mark.parametrize(("key", "target"), SIX.items())
def test_none_is_imported_unless_its_package_is_listed(sweep, key, target):
    cells = "cells=[{dataset: digits, pruner: uniform, keep_fraction: 0.5}]"
    method = "goes_wrong" if key.startswith("method") else "sap"
    code, said = sweep("experiment=demo", cells, f"methods=[{method}]", f"{key}._target_={target}", "dry_run=true")
    assert code == 2
    assert "'standins." in said
    assert "is outside the packages that may be named (sap_core, trainers, baselines); add its package with plugins=[...]" in said
    assert "standins" not in sys.modules


@pytest.mark.parametrize(
    ("target", "more", "said"),
    [
        ("standins.elsewhere.build", ["+model.width=3"], "six: dry run"),
        ("standins.elsewhere.Net", [], "six: dry run"),
        (
            "standins.elsewhere.build",
            ["+model.widht=3"],
            "unknown key 'widht' in model (did you mean 'width'?); allowed: num_classes, width",
        ),
        ("standins.elsewhere.build", ["+model.width=wide"], "model.width='wide' is of the wrong type or value; allowed: a whole number"),
        ("standins.elsewhere.nothing", ["~model.num_classes"], "builds a dict, which is not a torch.nn.Module"),
        ("standins.elsewhere.Missing", [], "cannot be imported"),
        ("standins.data.UNIVERSE", [], "is not a class"),
    ],
)
def test_networks_of_other_libraries_are_checked(sweep, target, more, said):
    _, out = sweep("experiment=six", f"model._target_={target}", *more, "dry_run=true")
    assert said in out


@pytest.mark.parametrize("words", [["trainer=two_networks"], ["trainer=remembering"], ["pruner=by_memory", "trainer=remembering"]])
def test_checks_of_own_components_pass(sweep, words):
    code, said = sweep(*words, "plugins=[standins]", command=["check"])
    assert code == 0, said
    assert "failed" not in said


@pytest.mark.parametrize(
    ("space", "code", "line"),
    [
        ("fine", 0, "passed  it records seconds and all passes of every setting"),  # it makes no pass over data
        ("selecting", 1, "failed  it declares whether it selects samples: GoesWrong("),
    ],
)
def test_checks_test_the_behaviour_of_a_method(sweep, space, code, line):
    found, said = sweep(f"method=goes_wrong@{space}", "plugins=[standins]", command=["check"])
    assert found == code, said
    assert line in said

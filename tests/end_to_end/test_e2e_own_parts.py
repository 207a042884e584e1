"""A part of each of the six kinds from a user's own package and configuration folder."""

from __future__ import annotations

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


def test_own_parts_of_all_kinds_run_together(bench):
    end = bench.run("six", "experiment=six", "backend.workers=1")
    assert end.code == 0, end.err
    rows = bench.store("six").rows()
    assert len(rows) == 3 + 6  # warm-up, selection, baseline; six settings
    assert {row["status"] for row in rows} == {"ok"}
    for row in rows:
        assert (row["dataset"], row["noise"], row["network"], row["trainer"]) == ("patterns", "next", "elsewhere", "remembering")
        assert row["noise_rate_true"] > 0.15
    assert {row["method"] for row in rows} == {"vanilla", "by_memory", "goes_wrong"}


@pytest.mark.parametrize(("key", "target"), SIX.items())
def test_none_is_imported_unless_its_package_is_listed(sweep, key, target):
    cells = "cells=[{dataset: digits, pruner: uniform, keep: 0.5}]"
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
        ("standins.elsewhere.nothing", ["~model.num_classes"], "builds a dict, no torch.nn.Module"),
        ("standins.elsewhere.Missing", [], "names nothing that exists"),
        ("standins.data.UNIVERSE", [], "is no class"),
    ],
)
def test_networks_that_know_nothing_of_us_are_checked_all_the_same(sweep, target, more, said):
    _, out = sweep("experiment=six", f"model._target_={target}", *more, "dry_run=true")
    assert said in out


@pytest.mark.parametrize("words", [["trainer=two_networks"], ["trainer=remembering"], ["pruner=by_memory", "trainer=remembering"]])
def test_own_parts_keep_their_promises(sweep, words):
    code, said = sweep(*words, "plugins=[standins]", command=["check"])
    assert code == 0, said
    assert "broken" not in said


def test_a_method_that_books_no_passes_is_told_so(sweep):
    code, said = sweep("method=goes_wrong@fine", "plugins=[standins]", command=["check"])
    assert code == 1
    assert "broken  seconds and passes are booked for every setting: no passes are booked for GoesWrong(" in said

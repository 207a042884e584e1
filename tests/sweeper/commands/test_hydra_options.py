"""Hydra's own options on the command line of sap-sweep."""

from __future__ import annotations

import pytest

from sweeper.__main__ import main


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["experiment=demo", "--cfg"], "--cfg has no value; write --cfg job"),
        (["--cfg", "experiment=demo"], "--cfg has no value; write --cfg job"),
        (["-c", "jb", "experiment=demo"], "unknown value 'jb' in -c (did you mean 'job'?); allowed: job, hydra, all"),
        (["experiment=demo", "--cfg=job", "-p"], "-p has no value; write -p trainer"),
        (["experiment=demo", "--info", "confg"], "unknown value 'confg' in --info (did you mean 'config'?)"),
    ],
)
def test_a_missing_or_unknown_value_is_one_sentence(words, said, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_the_first_of_several_experiments_is_shown_as_such(monkeypatch, capsys):
    # hydra.main reads and replaces the arguments of the process.
    monkeypatch.setattr("sys.argv", ["sap-sweep"])
    assert main(["-m", "experiment=demo,spiral", "--cfg", "job", "--package", "name"]) == 0
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("demo\n", "# the first of 2 experiments\n")

"""Numbers of a store as LaTeX commands: their names, their values, and edits of them."""

import re

import pytest

from analysis.__main__ import main
from analysis.reports import generated_block, macros
from analysis.reports.generated_block import Recipe
from analysis.reports.lint import lint
from analysis.store.load import load


def test_macros(small):
    text = macros.text(load([small.write()]))
    for line in (
        r"\newcommand{\SapSapTest}{81.00}",
        r"\newcommand{\SapSapTestStd}{1.41}",
        r"\newcommand{\SapSapGain}{+6.00}",
        r"\newcommand{\SapScrubSettings}{2}",
        r"\newcommand{\SapScrubCost}{6.00}",
        r"\newcommand{\SapScrubRatioCost}{2}",
    ):
        assert line in text, line
    assert macros.camel("table 1, 0.25 a_b") == "TableOneZeroPointTwoFiveAB"


@pytest.mark.slow
def test_names_of_macros_are_short_unique_letters(made, small):
    small.search("scrub_steps", "a", 1, [{"lr": 0.1}], [(0.7, 0.8, 0.8)])
    small.search("scrub_steps", "b", 1, [{"lr": 0.1}], [(0.7, 0.8, 0.8)])
    small.search("scrub_stepwise_42", "b", 1, [{"lr": 0.1}], [(0.7, 0.8, 0.8)])
    names = re.findall(r"newcommand\{.([^}]*)\}", macros.text(load([small.write()])))
    names_of_cells = re.findall(r"newcommand\{.([^}]*)\}", macros.text(load([made("partial")])))
    for some in (names, names_of_cells):
        assert len(some) == len(set(some)) > 20
        assert all(re.fullmatch("[A-Za-z]{1,30}", name) for name in some)


def test_names_of_macros_can_be_set_and_are_checked(small, tmp_path, capsys):
    store = str(small.write())
    assert main([store, "macros", "--prefix", "Our", "--word", "sap/alpha16=Ours", "--word", "scrub=Rival"]) == 0
    text = capsys.readouterr().out
    assert r"\OurOursTest}{81.00}" in text
    assert r"\OurRivalTest}" in text
    path = tmp_path / "m.tex"
    path.write_text(text)
    assert main([store, "lint", str(path)]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prefix", "Sap1"], "--prefix is 'Sap1'; names of LaTeX commands have letters only"),
        (["--prefix", ""], "--prefix is ''"),
        (["--word", "sap=a_b"], "--word sap is 'a_b'"),
        (["--word", "sapp=Ours"], "unknown cell or method 'sapp' in --word (did you mean 'sap'?)"),
        (["--word", "sap"], "--word sap has no '='; write --word KEY=WORD"),
        (["--prefix", "A" * 30], "letters and may have 30; choose a shorter --prefix or --word"),
        (["--word", "sap=Same", "--word", "scrub=Same"], "two numbers would have the name \\SapSameTest; tell them apart with --word"),
    ],
)
def test_bad_names_of_macros(small, capsys, words, message):
    assert main([str(small.write()), "macros", *words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_changed_macro_is_named(small, tmp_path):
    results = load([small.write()])
    path = tmp_path / "m.tex"
    text = generated_block.generated_latex(Recipe(generated_block.MACROS), results)
    path.write_text(text.replace("{81.00}", "{91.00}", 1))
    output, code = lint(path, results)
    assert code == 1
    assert "SapTest is 91.00 in the file and 81.00 in the store" in output

"""The command: claims on published numbers, on stores, as LaTeX that lint checks, and its exit codes."""

import pytest

from analysis.__main__ import main
from analysis.claims.evidence import of_published, of_store, sizes_of
from analysis.claims.spec import SHIPPED, parse, read
from analysis.claims.table import judgements
from analysis.reference.published import quotes
from analysis.store.load import load

MINE = """
title: Mine
claims:
  gain: {claim: SAP gains., of: {method: sap}, against: {method: vanilla}, more_than: 0}
  alpha: {claim: No alpha is better., of: {method: sap, alpha: 2000}, against: {method: sap}, every_other: alpha, at_least: 0}
  sizes: {claim: SAP has three settings., settings: {sap: 3}}
"""


@pytest.fixture
def store(small):
    return small.write()


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    return path


def shipped(name):
    return next(claim for claim in read(SHIPPED).claims if claim.name == name)


def test_a_cell_of_two_published_tables_counts_once():
    gains = of_published(shipped("gain_in_every_cell"))
    cells = {quote.key(("dataset", "network", "noise", "noise_rate", "trainer")) for name in ("table1", "table2", "table3")
             for quote in quotes(name) if quote.about["method"] == "sap"}  # fmt: skip
    assert len(gains) == len(cells) == 27


def test_published_differences_are_those_of_the_table():
    differences = of_published(shipped("ahead_of_scrub_cifar10"))
    assert len(differences) == 8
    assert round(sum(one.mean for one in differences) / 8, 2) == 1.31


def test_every_other_value_is_compared():
    differences = of_published(shipped("alpha_30000"))
    assert {one.other for one in differences} == {"alpha = 1000", "alpha = 3000", "alpha = 10000", "alpha = 100000"}


def test_verdicts_on_the_published_numbers():
    verdicts = {one.claim.name: one.verdict for one in judgements(read(SHIPPED), None, "published")}
    assert verdicts == {
        "gain_in_every_cell": "undecided", "ahead_of_scrub_cifar10": "holds", "by_1_36_points": "holds",
        "ahead_of_scrub_cifar100": "holds", "by_0_39_points": "holds", "ahead_of_scrub_elsewhere": "holds", "alpha_30000": "fails",
        "trusted_1000": "undecided", "robust_training": "holds",
    }  # fmt: skip


def test_differences_of_a_store_are_paired_by_seed(store):
    claims = parse(MINE, "mine.yaml")
    results = load([store])
    (gain,) = of_store(claims.claims[0], claims, results)
    assert gain.by_seed == pytest.approx({1: 6.0, 2: 6.0})
    others = of_store(claims.claims[1], claims, results)
    assert {one.other: one.by_seed[1] for one in others} == pytest.approx({"alpha = 30000": 4.0, "alpha = 10000": 2.0})
    assert sizes_of(claims.claims[2], claims, results).sizes == {"sap": (3,)}


def test_a_fixed_setting_is_not_replaced_by_the_unmodified_model(maker):
    for seed in (1, 2):
        maker.baseline(seed, 0.9, 0.9, 0.9)
        maker.search("sap", "alpha16", seed, [{"alpha": 2000.0}, {"alpha": 1.0}], [(0.5, 0.5, 0.5), (0.4, 0.4, 0.4)])
    claims = parse(MINE, "mine.yaml")
    (difference,) = of_store(claims.claims[1], claims, load([maker.write()]))
    assert difference.of.mean == pytest.approx(50.0)


def test_the_command_prints_verdicts_and_ends_with_1_if_a_claim_fails(store, mine, capsys):
    assert main([str(store), "claims", str(mine), "--on", "store"]) == 0
    assert "undecided" in capsys.readouterr().out
    assert main([str(store), "claims", str(mine), "--on", "store", "--strict"]) == 1
    assert main(["claims"]) == 1
    assert "alpha 30000 near the best" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["claims"], ["STORE", "claims"], ["STORE", "claims", "MINE", "--on", "store"]])
def test_latex_is_checked_by_lint(words, store, mine, tmp_path, capsys):
    names = {"STORE": str(store), "MINE": str(mine)}
    assert main([names.get(word, word) for word in words] + ["--format", "latex"]) in (0, 1)
    text = capsys.readouterr().out
    paper = tmp_path / "paper.tex"
    paper.write_text(text)
    assert main([str(store), "lint", str(paper)]) == 0
    paper.write_text(text.replace("undecided", "holds"))
    assert main([str(store), "lint", str(paper)]) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["claims", "--on", "store"], "--on store needs a store before the command, as in sap-report results/demo claims --on store"),
        (["claims", "none.yaml"], "none.yaml cannot be read (No such file or directory); check its name and permissions"),
    ],
)
def test_mistakes_of_the_command_line(words, message, capsys):
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_an_unknown_field_is_named(store, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(MINE.replace("alpha: 2000}", "alhpa: 2000}").replace("every_other: alpha, ", ""))
    assert main([str(store), "claims", str(path)]) == 2
    assert "unknown field 'alhpa' in claim 'alpha'" in capsys.readouterr().err

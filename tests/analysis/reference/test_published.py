import pytest

from analysis.__main__ import main
from analysis.reference import consistency
from analysis.reference.published import TABLES, UNKNOWN_NOISE, alternatives, derived, find, quotes
from analysis.tables.significance import published_comparisons, published_tests
from sap_core.errors import UserError


def test_every_published_table_is_read():
    sizes = {name: len(quotes(name)) for name in TABLES}
    assert sizes == {
        "table1": 96, "table2": 20, "table3": 6, "ablation_alpha": 20, "ablation_trusted_size": 20, "ablation_trusted_strategy": 24,
        "earlier_version": 30,
    }  # fmt: skip
    assert len(derived()) == 49
    with pytest.raises(UserError, match="did you mean 'table1'"):
        quotes("table11")


def test_a_number_is_found_by_the_conditions_of_a_row():
    about = {"dataset": "cifar10", "network": "resnet18", "noise": "symmetric", "noise_rate": 0.25, "trainer": "sgd", "method": "sap"}
    found = find("table1", about)
    assert (found.mean, found.std, found.about["num_retain"]) == (85.49, 0.39, 0.0)
    assert find("table1", {**about, "method": "ssd", "space": "grid"}).mean == 79.48  # fields that a table does not state are ignored
    assert find("table1", {**about, "trainer": "sam"}) is None
    assert find("table1", {"method": "sap"}) is None  # sixteen numbers match


def test_the_kinds_of_noise_that_are_not_named():
    assert [suffix for suffix, _ in alternatives("table1", {"noise": "asymmetric"})] == [" a", " b"]
    assert [about["noise"] for _, about in alternatives("table1", {"noise": "hierarchical"})] == list(UNKNOWN_NOISE)
    assert alternatives("table1", {"noise": "symmetric"}) == (("", {"noise": "symmetric"}),)
    assert len(alternatives("table3", {"noise": "asymmetric"})) == 1


def test_the_errors_are_found():
    errors = [finding.sentence for finding in consistency.findings() if finding.is_error]
    assert errors == [
        "Table 2, CIFAR-100: the printed average improvement is 2.98, the rows give 2.96.",
        "The earlier version's table, WebVision, InceptionResNetV2, SGD: the printed improvement is 0.40, the rows give 0.94.",
        "SAP, CIFAR-10, ResNet18, symmetric 25 %: table 1 has 85.49 ± 0.39, table 2 85.46 ± 0.41.",
        "SAP, CIFAR-100, ResNet18, symmetric 25 %: table 1 has 58.74 ± 0.61, table 2 58.69 ± 0.68.",
        "CIFAR-100, VGG11-BN, symmetric 25 %: the best of the figure of alpha (30,000) has 56.85 ± 0.35, the figure of sizes "
        "(1,000 samples, best alpha) 56.81 ± 0.37.",
        "CIFAR-100, ResNet18, symmetric 25 %: the best of the figure of alpha (10,000) has 61.92 ± 0.30, the figure of sizes "
        "(1,000 samples, best alpha) 61.42 ± 0.46.",
    ]


def test_rounding_differences_are_no_errors():
    others = [finding.sentence for finding in consistency.findings() if not finding.is_error]
    assert len(others) == 3
    assert any("the printed improvement is 0.43, the rows give 0.42" in sentence for sentence in others)


def test_the_lint_follows_the_numbers(monkeypatch):
    mended = tuple(line for line in derived() if line.printed != 2.98)
    monkeypatch.setattr(consistency, "derived", lambda: mended)
    assert "2.98" not in consistency.report()
    assert consistency.report().startswith("5 errors")


def test_lint_and_tests_need_no_store(capsys):
    assert main(["lint", "published"]) == 0
    said = capsys.readouterr().out
    assert "the printed average improvement is 2.98, the rows give 2.96" in said
    assert "SSD has exactly the unmodified model's numbers in 2 of 16 cells" in said
    assert main(["published", "lint"]) == 0
    assert capsys.readouterr().out == said
    assert main(["published", "tests"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "On CIFAR-10, SAP beats SCRUB over the cells (Wilcoxon signed-rank test over 8 cells, two-sided: p = .016, corrected by Holm for 3 "
        "tests .031;" in said
    )
    assert (
        "On CIFAR-100, SAP and SCRUB do not differ significantly over the cells with three seeds (Wilcoxon signed-rank test over 8 cells, "
        "two-sided: p = .195, corrected by Holm for 3 tests .195;"
    ) in said


def test_sap_against_scrub_as_published():
    found = {(contest.family, contest.other): contest for contest in published_comparisons()}
    assert len(found) == 6
    ten, hundred = found["CIFAR-10", "SCRUB"], found["CIFAR-100", "SCRUB"]
    assert (ten.wilcoxon(), hundred.wilcoxon()) == (0.015625, 0.1953125)
    assert (ten.wins, hundred.wins) == (7, 6)
    assert (round(ten.mean_difference, 2), round(hundred.mean_difference, 2)) == (1.31, 0.39)
    notes = [note for table in published_tests() for note in table.notes]
    assert "Over the seeds, Welch's p is at most .05 in 16 of 24 tests, and after Holm's correction in 6." in notes
    assert "Over the seeds, Welch's p is at most .05 in 12 of 24 tests, and after Holm's correction in 1." in notes
    assert sum("not independent" in note for note in notes) == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["published"], "allowed: tests, lint, table"),
        (["published", "table"], "allowed: table1, table2"),
        (["published", "table", "comparison"], "unknown published table 'comparison'"),
        (["published", "table", "table1", "--show", "both"], "has only published numbers"),
        (["lint", "a.tex"], "needs a store before the command"),
        (["lint"], "required: FILE"),
    ],
)
def test_mistakes_without_a_store(words, told, capsys):
    assert main(words) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
